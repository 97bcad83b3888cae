"""Plots of an audit: worst-case error curves and radii, and what all its plots share.

`curves` and `radii` take an Audit and return a matplotlib Figure that belongs to no window system; a panel is drawn on given axes.
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from verifier.report import style
from verifier.report.record import Audit, Curve, LossCurve, NormAudit, SampleRadius

Array = np.ndarray

_ORDERS = {1.0: "W₁: mean shift ≤ ε", 2.0: "W₂: root mean square ≤ ε", math.inf: "W∞: every input ≤ ε"}
_HISTOGRAM_BINS = 24


def curves(audit: Audit) -> Any:
    """Worst-case error against epsilon: a row per norm, a panel per order, and below each the gap between attack and proof."""
    norms = [norm for norm in audit.norms if norm.curves]
    figure = style.new_figure(10.8, 4.0 * len(norms) + 0.35)
    rows = figure.subfigures(len(norms), 1, squeeze=False)[:, 0]
    panels = [curve_row(row, norm) for row, norm in zip(rows, norms, strict=True)]
    legend(figure, panels[0], [curve for norm in norms for curve in norm.curves])
    return figure


def radii(audit: Audit) -> Any:
    """Per norm: a histogram of the radii, and how much farther than the truth the attack had to go."""
    norms = [norm for norm in audit.norms if norm.radii]
    figure = style.new_figure(10.8, 2.9 * len(norms))
    grid = figure.subplots(len(norms), 2, squeeze=False, width_ratios=(1.25, 1))
    for row, norm in zip(grid, norms, strict=True):
        histogram_panel(row[0], norm, audit)
        ratio_panel(row[1], norm)
    return figure


def data_address(draw: Callable[[Audit], Any], audit: Audit) -> str:
    """The figure that `draw` makes, as an SVG in a data: address, for an <img> that needs no other file."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context(style.settings()):
        draw(audit).savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def pixels_address(image: Array, *, limit: float | None = None) -> str:
    """An image as a PNG in a data: address, one pixel per pixel.

    image (h, w) or (h, w, 3) in [0, 1]; with `limit`, a difference (h, w) or (h, w, 3):
    orange where it grew, blue where it fell, white at 0.
    """
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, picture(image, limit=limit), format="png", metadata={})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def picture(image: Array, *, limit: float | None = None) -> Array:
    """RGB (h, w, 3) in [0, 1] for an image in [0, 1], or for a difference of at most `limit`."""
    if limit is None:
        values = np.clip(image, 0.0, 1.0)
        return np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values
    change = image if image.ndim == 2 else image.mean(axis=2)
    share = np.clip(change / limit if limit > 0 else np.zeros_like(change), -1.0, 1.0)[:, :, None]
    more, less = _rgb(style.ATTACK), _rgb(style.PROVED)
    return 1.0 + np.where(share > 0, share * (more - 1.0), -share * (less - 1.0))


def image_shape(audit: Audit) -> tuple[int, ...] | None:
    """(h, w) or (3, h, w) when the inputs are images in [0, 1]: told by the data, by the network's input, or by a square; else None."""
    full = audit.data.get("image_shape") or audit.network["input_shape"]
    shape = tuple(size for size in full if size > 1)
    size = math.prod(full)
    values = [value for sample in audit.samples for value in sample.image]
    if not values or min(values) < 0.0 or max(values) > 1.0 or size < 16:
        return None
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 3):
        return shape
    side = math.isqrt(size)
    return (side, side) if len(shape) == 1 and side * side == size else None


def as_image(values: Sequence[float] | Array, shape: tuple[int, ...]) -> Array:
    """(n,) -> (h, w) or (h, w, 3)."""
    image = np.asarray(values, dtype=np.float64).reshape(shape)
    return image if len(shape) == 2 else image.transpose(1, 2, 0)


def closest(norm: NormAudit, count: int) -> list[SampleRadius]:
    """The samples of smallest radius that have a witness and were right to begin with."""
    moved = [r for r in norm.radii if r.witness is not None and 0.0 < r.upper < math.inf]
    return sorted(moved, key=lambda r: r.upper)[:count]


def curve_row(figure: Any, norm: NormAudit) -> Any:
    """The panels of one norm, side by side; returns the first."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    columns = len(norm.curves)
    grid = figure.subplots(2, columns, squeeze=False, sharey="row", sharex="col", height_ratios=(3.4, 1))
    for panel, strip, curve in zip(grid[0], grid[1], norm.curves, strict=True):
        error_panel(panel, strip, curve)
        full = next((epsilon for epsilon, attack in zip(curve.epsilon, curve.attack, strict=True) if attack >= 1.0), curve.epsilon[-1])
        epsilon_axis(strip, min(1.06 * full, curve.epsilon[-1]), norm.sign)
    panel, strip = grid[0][0], grid[1][0]
    panel.set_ylim(0, 1.005)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_ylabel(f"{norm.sign}: worst-case error")
    strip.set_ylabel("gap, points")
    strip.set_ylim(0, 1.15 * max(1.0, *(100 * (up - low) for c in norm.curves for low, up in zip(c.attack, c.upper, strict=True))))
    strip.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.align_ylabels(grid[:, 0])
    return panel


def error_panel(panel: Any, strip: Any, curve: Curve) -> None:
    """One curve, and below it the gap between attack and proof in percentage points."""
    # The error jumps at every radius for order inf and bends in between for the others.
    step = "post" if math.isinf(curve.order) else None
    bracket_lines(panel, curve, step=step)
    panel.set_title(_ORDERS.get(curve.order, f"order {curve.order:g}"))
    gap_strip(strip, curve, [100.0] * len(curve.epsilon), step=step)


def bracket_lines(axes: Any, curve: Curve | LossCurve, *, step: str | None = None) -> None:
    """Attack, witnessed and proved ends against epsilon, and the gaps between them."""
    drawing: dict[str, Any] = {"drawstyle": "steps-post"} if step else {}
    axes.fill_between(curve.epsilon, curve.attack, curve.lower, step=step, color=style.GAP, linewidth=0, label="gap: attack to truth")
    axes.fill_between(curve.epsilon, curve.lower, curve.upper, step=step, color=style.OPEN, linewidth=0, label="gap: still open")
    axes.plot(curve.epsilon, curve.upper, color=style.PROVED, label="proved: no shift does worse", **drawing)
    # Dashed, so that the two are told apart where they coincide.
    axes.plot(
        curve.epsilon,
        curve.attack,
        color=style.ATTACK,
        linewidth=1.3,
        linestyle=(0, (5, 2)),
        label="attacked: this shift does it",
        **drawing,
    )


def gap_strip(axes: Any, curve: Curve | LossCurve, scale: Sequence[float], *, step: str | None = None) -> None:
    """Proved minus attacked, times the scale of each epsilon: what the panel above is too small to show."""
    open_part = [factor * (up - low) for factor, low, up in zip(scale, curve.lower, curve.upper, strict=True)]
    whole = [factor * (up - low) for factor, low, up in zip(scale, curve.attack, curve.upper, strict=True)]
    axes.fill_between(curve.epsilon, open_part, whole, step=step, facecolor=style.GAP, edgecolor=style.ATTACK, linewidth=0.6)
    axes.fill_between(curve.epsilon, 0, open_part, step=step, color=style.OPEN, linewidth=0)


def epsilon_axis(axes: Any, end: float, sign: str) -> None:
    """The x axis of a curve, from 0 on."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"ε ({sign} distance)")


def legend(figure: Any, axes: Any, curves: Sequence[Curve | LossCurve]) -> None:
    """Above the figure, proof first, then what else the panel shows; the open gap is named only where there is one to see."""
    handles, labels = axes.get_legend_handles_labels()
    visible = any(c.upper[i] - c.lower[i] > 1e-3 * (c.upper[-1] - c.lower[0]) for c in curves for i in range(len(c.epsilon)))
    order = [2, 3, *range(4, len(labels)), 0] + ([1] if visible else [])
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside upper left",
        ncols=len(order) if len(order) < 6 else 3,
        handlelength=1.8,
        columnspacing=2.2,
        borderpad=0.1,
    )


def histogram_panel(axes: Any, norm: NormAudit, audit: Audit) -> None:
    positive = [r for r in norm.radii if r.upper > 0.0]
    closed = [r.upper for r in positive if r.closed and math.isfinite(r.upper)]
    half_open = [r.lower for r in positive if not r.closed]
    never = sum(r.closed and math.isinf(r.upper) for r in positive)
    wrong = len(norm.radii) - len(positive)
    top = max(closed + half_open, default=0.0) or 1.0
    edges = np.linspace(0.0, top, _HISTOGRAM_BINS + 1)
    axes.hist([closed, half_open], bins=edges, stacked=True, color=[style.PROVED, style.OPEN], rwidth=0.9)
    axes.set_xlim(0, top * 1.02)
    axes.set_xlabel(f"{norm.sign} radius: distance to the nearest misclassified input")
    axes.set_ylabel("samples")
    axes.grid(axis="x", visible=False)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"{norm.sign} radii of {len(norm.radii)} samples")
    middle = norm.median[1]
    if math.isfinite(middle) and middle > 0:
        axes.axvline(middle, color=style.INK, linewidth=1, linestyle=(0, (4, 3)))
        near_edge = middle > 0.8 * top
        axes.annotate(
            f"median {middle:.3g}",
            (middle, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if near_edge else 5, -2),
            textcoords="offset points",
            ha="right" if near_edge else "left",
            va="top",
            color=style.INK,
            fontsize=9,
        )
    asides = [f"{len(half_open)} open (pale: proved end)"] if half_open else []
    asides += [f"{wrong} wrong already (not drawn)"] if wrong else []
    asides += [f"{never} never wrong"] if never else []
    axes.set_title(", ".join(asides), loc="right", color=style.MUTED, fontsize=8.5, fontweight="normal")


def ratio_panel(axes: Any, norm: NormAudit) -> None:
    from matplotlib.ticker import FuncFormatter

    points = [(r.upper, r.attack / r.upper) for r in norm.radii if r.closed and 0.0 < r.upper < math.inf and math.isfinite(r.attack)]
    missed = sum(r.closed and math.isfinite(r.upper) and math.isinf(r.attack) for r in norm.radii)
    axes.set_title(f"{norm.sign}: attack distance over exact radius")
    axes.set_xlabel(f"exact {norm.sign} radius")
    axes.axhline(1.0, color=style.PROVED, linewidth=1.2)
    if points:
        exact, ratio = np.array(points).T
        axes.scatter(exact, ratio, s=15, color=style.ATTACK, alpha=0.75, linewidth=0)
        axes.set_xlim(0, exact.max() * 1.04)
        rise = max(ratio.max() - 1.0, 1e-3)
        axes.set_ylim(1.0 - 0.06 * rise, 1.0 + 1.3 * rise)
        text = f"median {np.median(ratio):.3f}, largest {ratio.max():.3f}" + (f", missed {missed}" if missed else "")
        axes.text(0.99, 0.98, text, transform=axes.transAxes, ha="right", va="top", color=style.INK, fontsize=9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}×"))


def _rgb(colour: str) -> Array:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
