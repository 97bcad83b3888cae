"""Plots of certified accuracy: what each certificate proves of the same samples, between nothing and the exact answer."""

import math
from collections.abc import Sequence
from typing import Any

from verifier.report import style
from verifier.report.record import Audit, Certified, CertifiedMethod, NormAudit


def accuracy(audit: Audit) -> Any:
    """A panel per norm: the share of samples that is proved right within epsilon, by each certificate, exactly, and under attack."""
    from matplotlib.ticker import PercentFormatter

    figure = style.new_figure(10.8, 4.5)
    grid = figure.subplots(1, len(audit.certified), squeeze=False, sharey=True)[0]
    for axes, certified in zip(grid, audit.certified, strict=True):
        panel(axes, audit, certified)
    grid[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    grid[0].set_ylabel("samples proved right")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, handlelength=2.2, columnspacing=2.0, borderpad=0.1)
    return figure


def panel(axes: Any, audit: Audit, certified: Certified) -> None:
    """The curves of one norm."""
    from matplotlib.ticker import MaxNLocator

    lower, attack = exact_radii(audit, next(norm for norm in audit.norms if norm.norm == certified.norm))
    end = 1.08 * max([radius for radius in attack if math.isfinite(radius)] or [1.0])
    x, y = steps(lower, end)
    axes.fill_between(x, 0, y, step="post", color=style.blend(style.PROVED, 0.07), linewidth=0)
    for (method, colour), dashes in zip(colours(certified.methods), _DASHES, strict=False):
        axes.step(*steps(method.radii, end), where="post", color=colour, linewidth=1.4, linestyle=dashes, label=method.title)
    axes.step(x, y, where="post", color=style.PROVED, linewidth=2.4, label="exact: proved, and no more can be")
    axes.step(*steps(attack, end), where="post", color=style.ATTACK, linewidth=1.3, linestyle=(0, (5, 2)), label="attack: at most this")
    axes.set(xlim=(0, end), ylim=(0, 1.01), xlabel=f"ε: every input may move so far ({certified.sign})", title=certified.sign)
    axes.xaxis.set_major_locator(MaxNLocator(6))


_DASHES = ((0, (1, 1.2)), (0, (3, 1.5)), "-", (0, (5, 1)), (0, (5, 1.5, 1, 1.5)))


def colours(methods: Sequence[CertifiedMethod]) -> list[tuple[CertifiedMethod, str]]:
    """Each certificate with its colour: blue stays the exact answer's, orange the attack's."""
    palette = ("#9aa3b0", "#b58a00", "#2e9c8f", "#14635a", "#7b2d8b")
    return [(method, palette[i % len(palette)]) for i, method in enumerate(methods)]


def exact_radii(audit: Audit, norm: NormAudit) -> tuple[list[float], list[float]]:
    """(proved lower ends, attack's radii), one per sample; of a sample that is not done 0 and infinity are known."""
    done = {radius.sample: radius for radius in norm.radii}
    lower = [done[s.sample].lower if s.sample in done else 0.0 for s in audit.samples]
    attack = [done[s.sample].attack if s.sample in done else math.inf for s in audit.samples]
    return lower, attack


def share_above(radii: Sequence[float], epsilon: float) -> float:
    """The share of samples whose radius is larger than epsilon."""
    return sum(radius > epsilon for radius in radii) / len(radii)


def steps(radii: Sequence[float], end: float) -> tuple[list[float], list[float]]:
    """The share of radii above x, for x from 0 to the end, as the corners of a step function."""
    x = [0.0, *sorted({radius for radius in radii if 0.0 < radius < end}), end]
    return x, [share_above(radii, value) for value in x]
