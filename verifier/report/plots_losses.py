"""Plots of worst expected losses: the curves V(epsilon) with their lines, how far bound and attack are off, and who is moved."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from verifier.report import style
from verifier.report.plots import bracket_lines, epsilon_axis, gap_strip, legend
from verifier.report.record import Audit, LossCurve, Move, WorstDistribution

LOSS_NAMES = {"margin": "margin loss", "cross-entropy": "cross-entropy"}


def curves(audit: Audit) -> Any:
    """The worst expected loss against epsilon: a row per loss, a panel per norm, and below each the gap between attack and proof."""
    losses = list(dict.fromkeys(curve.loss for curve in audit.losses))
    norms = list(dict.fromkeys(curve.norm for curve in audit.losses))
    found = {(curve.loss, curve.norm): curve for curve in audit.losses}
    figure = style.new_figure(10.8, 4.0 * len(losses) + 0.4)
    rows = figure.subfigures(len(losses), 1, squeeze=False)[:, 0]
    first = None
    for row, loss in zip(rows, losses, strict=True):
        grid = row.subplots(2, len(norms), squeeze=False, sharex="col", height_ratios=(3.4, 1))
        for column, norm in enumerate(norms):
            above, below = grid[0][column], grid[1][column]
            curve = found.get((loss, norm))
            if curve is None:
                above.set_visible(False)
                below.set_visible(False)
                continue
            first = first or above
            panel(above, curve)
            strip(below, curve)
        row.align_ylabels(grid[:, 0])
    legend(figure, first, audit.losses)
    return figure


def from_zero(curve: LossCurve) -> LossCurve:
    """The same curve with epsilon = 0 before all others, where every end is E."""
    low, high = curve.clean
    return replace(
        curve,
        epsilon=(0.0, *curve.epsilon),
        attack=(low, *curve.attack),
        lower=(low, *curve.lower),
        upper=(high, *curve.upper),
        published=(high, *curve.published),
        steepest=(high, *curve.steepest),
        flattest=(high, *curve.flattest),
    )


def panel(axes: Any, curve: LossCurve) -> None:
    """The curve with its lines."""
    curve = from_zero(curve)
    bracket_lines(axes, curve)
    clean = curve.clean[1]
    low, high = min(curve.clean[0], *curve.attack), max(curve.upper)
    high = min(high, 2.5 * max(curve.lower) - 1.5 * low)  # a bracket that is wide open must not flatten the rest
    # Lines that say the same as another one, or nothing, are not drawn.
    slopes = [(values[-1] - clean) / curve.epsilon[-1] for values in (curve.published, curve.steepest, curve.flattest)]
    wanted = (math.isfinite(slopes[0]), math.isfinite(slopes[1]) and slopes[1] < 0.99 * slopes[0], slopes[2] > 0.01 * slopes[1])
    lines = (
        (curve.published, style.PUBLISHED, (0, (1, 1.6)), "published bound: E + L ε"),
        (curve.steepest, style.SLOPE, (0, (4, 1.5, 1, 1.5)), "steepest start: E + λ₀ ε"),
        (curve.flattest, style.MUTED, (0, (2, 2)), "slope at infinity: E + κ* ε"),
    )
    for (values, colour, dashes, name), draw in zip(lines, wanted, strict=True):
        if draw:
            axes.plot(curve.epsilon, values, color=colour, linestyle=dashes, linewidth=1.4, label=name)
    axes.axhline(clean, color=style.MUTED, linewidth=0.8)
    axes.annotate(
        "E: no shift", (1.0, clean), xycoords=("axes fraction", "data"), xytext=(-3, 3), textcoords="offset points", ha="right",
        color=style.MUTED, fontsize=8.5,
    )  # fmt: skip
    axes.set_ylim(low - 0.06 * (high - low), high + 0.25 * (high - low))
    axes.set_title(f"{LOSS_NAMES.get(curve.loss, curve.loss)}, {curve.sign}")
    axes.set_ylabel("worst expected loss")


def strip(axes: Any, curve: LossCurve) -> None:
    """The gap between attack and proof, in percent of the rise above E."""
    scale = [100.0 / max(up - curve.clean[0], 1e-300) for up in curve.upper]
    gap_strip(axes, curve, scale)
    axes.set_ylabel("gap, % of rise")
    whole = [factor * (up - low) for factor, low, up in zip(scale, curve.attack, curve.upper, strict=True)]
    axes.set_ylim(0, min(100.0, 1.15 * max(1.0, *whole)))
    epsilon_axis(axes, curve.epsilon[-1], curve.sign)


def ratios(audit: Audit) -> Any:
    """Per norm: the published bound's rise and the attack's, in multiples of the exact rise, against epsilon."""
    from matplotlib.ticker import FuncFormatter

    norms = list(dict.fromkeys(curve.norm for curve in audit.losses))
    figure = style.new_figure(10.8, 3.3)
    grid = figure.subplots(1, len(norms), squeeze=False, sharey=True)[0]
    for axes, norm in zip(grid, norms, strict=True):
        for curve, dashes in zip((c for c in audit.losses if c.norm == norm), ("-", (0, (4, 2))), strict=False):
            rises = [rise_ratios(curve, i) for i in range(len(curve.epsilon))]
            name = LOSS_NAMES.get(curve.loss, curve.loss)
            for values, colour, whose in (
                ([r[0] for r in rises], style.PUBLISHED, "published bound"), ([r[1] for r in rises], style.ATTACK, "attack"),
            ):  # fmt: skip
                axes.plot(curve.epsilon, values, color=colour, linestyle=dashes, marker="o", markersize=2.8, label=f"{whose}, {name}")
        axes.axhline(1.0, color=style.PROVED, linewidth=1.2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(curve.sign)
        axes.set_xlabel(f"ε ({curve.sign} distance)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value in (0.5, 2, 5, 20, 50, 200) else ""))
    grid[0].set_ylim(max(grid[0].get_ylim()[0], 0.1), None)  # an attack that found nothing must not flatten the rest
    grid[0].set_ylabel("rise, in multiples of\nthe witnessed rise")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, handlelength=2.4, columnspacing=2.0, borderpad=0.1)
    return figure


def rise_ratios(curve: LossCurve, i: int) -> tuple[float, float]:
    """(published bound - E, attack - E), both over (exact - E), at the i-th epsilon; the exact value by its witnessed end; nan without."""
    exact = curve.lower[i] - curve.clean[1]
    if exact <= 0:
        return math.nan, math.nan
    published = curve.published[i] - curve.clean[1]
    return (published / exact if math.isfinite(published) else math.nan), (curve.attack[i] - curve.clean[1]) / exact


def contributions(audit: Audit) -> Any:
    """Per norm, for one worst-case distribution: how far each sample moves and what it adds, and how few samples make most of the rise."""
    from matplotlib.ticker import PercentFormatter

    shown = [(curve, drawn_of(curve)) for curve in audit.losses if curve.loss == audit.losses[0].loss]
    pairs = [(curve, moves, worst.epsilon) for curve, worst in shown if worst is not None and (moves := material(worst))]
    figure = style.new_figure(10.8, 3.1 * len(pairs))
    grid = figure.subplots(len(pairs), 2, squeeze=False, width_ratios=(1.25, 1))
    count = len(audit.samples)
    for row, (curve, moves, epsilon) in zip(grid, pairs, strict=True):
        left, right = row
        distance = np.array([move.distance for move in moves])
        gain = np.array([move.after - move.before for move in moves])
        share = np.array([move.share for move in moves])
        crossed = np.array([move.before < 0 <= move.after for move in moves]) if curve.loss == "margin" else np.zeros(len(gain), bool)
        for mask, colour, name in ((~crossed, style.PROVED, "moved"), (crossed, style.WRONG, "moved past the boundary")):
            if mask.any():
                left.scatter(distance[mask], gain[mask], s=8 + 34 * share[mask], color=colour, alpha=0.7, linewidth=0, label=name)
        left.set(xlabel=f"distance moved ({curve.sign})", ylabel="rise of its loss", xlim=(0, None), ylim=(0, None))
        moved = len({move.sample for move in moves})
        left.set_title(f"{curve.sign}, ε = {epsilon:g}: {moved} of {count} samples move")
        left.legend(loc="lower right")
        total = sum(move.gain for move in moves)
        running = np.cumsum([0.0] + [move.gain for move in moves]) / (total if total > 0 else 1.0)
        right.step(range(len(running)), running, where="post", color=style.PROVED)
        right.set(xlabel="samples, the largest contribution first", xlim=(0, max(10, 1.25 * len(moves))), ylim=(0, 1.02))
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
        right.set_title("share of the rise that they make")
        half = int(np.searchsorted(running, 0.5))
        right.annotate(
            f"half of it: {half} sample{'s' if half != 1 else ''}", (half, 0.5), xytext=(9, -13), textcoords="offset points", fontsize=9,
        )  # fmt: skip
        right.plot([half], [0.5], marker="o", markersize=4, color=style.PROVED)
    return figure


def drawn_of(curve: LossCurve) -> WorstDistribution | None:
    """The distribution whose points were kept."""
    return next((worst for worst in curve.worst if any(move.point is not None for move in worst.moves)), None)


def material(worst: WorstDistribution) -> list[Move]:
    """The moves that bring more than a ten-thousandth of the rise."""
    total = sum(move.gain for move in worst.moves)
    return [move for move in worst.moves if move.gain > 1e-4 * total]
