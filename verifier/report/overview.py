"""One picture of an audit, for the README: error, loss and certified accuracy above, radii and the closest images below."""

from pathlib import Path
from typing import Any

import numpy as np

from verifier.report import plots_certified, plots_losses, style
from verifier.report.plots import (
    as_image,
    closest,
    curve_row,
    epsilon_axis,
    error_panel,
    histogram_panel,
    image_shape,
    legend,
    picture,
    ratio_panel,
)
from verifier.report.record import Audit, NormAudit


def save(audit: Audit, path: str | Path) -> None:
    """Write `overview` as a PNG file."""
    import matplotlib as mpl

    with mpl.rc_context(style.settings()):
        overview(audit).savefig(path, format="png", dpi=144, metadata={})


def overview(audit: Audit) -> Any:
    """The picture, about one norm (linf where it was asked for)."""
    norm = next((norm for norm in audit.norms if norm.norm == "inf"), audit.norms[0])
    shape = image_shape(audit)
    figure = style.new_figure(11.2, 7.8)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.16, 1))
    _curves(top, audit, norm)
    if shape is None:
        left, right = bottom.subplots(1, 2)
        ratio_panel(right, norm)
    else:
        plot, pictures = bottom.subfigures(1, 2, width_ratios=(1, 1.12))
        left = plot.subplots()
        _picture_grid(pictures, audit, norm, shape)
    histogram_panel(left, norm, audit)
    return figure


def _curves(figure: Any, audit: Audit, norm: NormAudit) -> None:
    """Worst-case error, worst expected loss, certified accuracy; where there are no such parts the error of all orders."""
    from matplotlib.ticker import PercentFormatter

    losses = [curve for curve in audit.losses if curve.norm == norm.norm]
    certified = [part for part in audit.certified if part.norm == norm.norm]
    if not losses or not certified:
        legend(figure, curve_row(figure, norm), norm.curves)
        return
    first, second, third = figure.subfigures(1, 3, width_ratios=(1, 1, 1.08))
    panel, strip = first.subplots(2, 1, sharex="col", height_ratios=(3.4, 1))
    curve = norm.curves[0]
    error_panel(panel, strip, curve)
    full = next((epsilon for epsilon, attack in zip(curve.epsilon, curve.attack, strict=True) if attack >= 1.0), curve.epsilon[-1])
    epsilon_axis(strip, min(1.06 * full, curve.epsilon[-1]), norm.sign)
    panel.set(ylim=(0, 1.005), ylabel="worst-case error", title="error, moved by ε on average")
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    strip.set_ylabel("gap, points")
    first.align_ylabels([panel, strip])
    above, below = second.subplots(2, 1, sharex="col", height_ratios=(3.4, 1))
    plots_losses.panel(above, losses[0])
    plots_losses.strip(below, losses[0])
    above.set_title(f"{plots_losses.LOSS_NAMES[losses[0].loss]}, moved by ε on average")
    second.align_ylabels([above, below])
    right = third.subplots()
    plots_certified.panel(right, audit, certified[0])
    right.set_title("accuracy, each moved by at most ε")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_xlim(0, 1.5 * right.get_xlim()[1])
    handles, labels = right.get_legend_handles_labels()
    count = len(certified[0].methods)  # the others are in the legend above
    right.legend(handles[:count], labels[:count], loc="upper right", fontsize=8, title="other certificates", title_fontsize=8)
    legend(figure, above, [losses[0]])


def _picture_grid(figure: Any, audit: Audit, norm: NormAudit, shape: tuple[int, ...]) -> None:
    chosen = closest(norm, 4)
    if not chosen:
        return
    by_sample = {sample.sample: sample for sample in audit.samples}
    figure.suptitle("The closest misclassified images", x=0.02, ha="left", fontsize=10.5, fontweight="bold")
    grid = figure.subplots(3, len(chosen), squeeze=False)
    for column, radius in enumerate(chosen):
        sample = by_sample[radius.sample]
        before, after = as_image(sample.image, shape), as_image(radius.witness or (), shape)
        difference = after - before
        for row, pixels in enumerate((picture(before), picture(after), picture(difference, limit=float(np.abs(difference).max())))):
            axes = grid[row][column]
            axes.imshow(pixels, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set(visible=True, color=style.LINE)
        grid[0][column].set_title(f"{sample.label}", fontsize=10, pad=3, loc="center", fontweight="normal")
        grid[1][column].set_title(f"{radius.witness_label}", fontsize=10, pad=3, loc="center", color=style.WRONG)
        grid[2][column].set_xlabel(f"{radius.upper:.4f}", fontsize=9)
    for row, name in enumerate(("original", "nearest wrong", "difference")):
        grid[row][0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
