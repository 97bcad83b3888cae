"""Pictures of activation cells in a plane: how steep the margin is in each, where it stays so to infinity, and in which direction.

The package draws only: what is drawn comes from `verifier.recession.plane`.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from problems import readers
from problems.data import Dataset
from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.recession.audit import TightnessAudit
from verifier.recession.plane import Plane, PlaneCells, cells_in_plane, window_of
from verifier.recession.region import directions
from verifier.recession.tightness import pairs_of
from verifier.report import style
from verifier.report.record import Audit, CellPicture
from verifier.search.budget import Budget

# Wider networks have too many cells in a window for a picture in a report.
_MOST_NEURONS = 100
_DUAL = {1.0: r"\infty", 2.0: "2", inf: "1"}
_CLASSES = ("#0b7a75", "#7b2d8b", "#b3261e", "#3a6b35", "#8a5a00", "#20639b", "#ad1457", "#4e342e", "#546e7a", "#000000")


def save(
    path: str | Path, network: Any, region: Region | None, norm: float, *, labels: Sequence[int] | None = None, data: Dataset | None = None,
    audit: TightnessAudit | None = None,
) -> None:  # fmt: skip
    """Write the picture of a network with two inputs, or of the slice through the first three samples, as .svg or .png.

    Raises InputError where there are more inputs and no three samples, or the file cannot be written.
    """
    import matplotlib as mpl

    net = readers.load(network)
    cells, plane = cells_of(net, region, norm, labels=labels, data=data)
    with mpl.rc_context(style.settings() | {"axes.grid": False}):
        figure = style.new_figure(6.4, 6.0)
        axes = figure.subplots()
        if data is None:
            points = classes = None
        else:
            shown = slice(None) if net.input_size == 2 else slice(3)
            points, classes = plane.coordinates(data.x[shown]), data.y[shown]
        draw(axes, cells, points=points, classes=classes, audit=audit, plane=plane)
        if net.input_size != 2:
            axes.set(xlabel="within the plane of the three samples: from the first towards the second", ylabel="towards the third")
        figure.colorbar(scale(cells), ax=axes, label=slope_name(norm), shrink=0.9, aspect=28, pad=0.02)
        key(figure, axes, [cells], infinity=audit is not None and audit.slope_at_infinity.lower > 0)
        try:
            figure.savefig(path, dpi=160, metadata={"Date": None} if str(path).endswith(".svg") else {})
        except OSError as error:
            raise InputError(str(path), f"cannot be written ({error.strerror}).", "Name another file with --picture.") from None


def cells_of(
    network: Network, region: Region | None, norm: float, *, labels: Sequence[int] | None = None, data: Dataset | None = None,
    window: tuple[float, float, float, float] | None = None, timeout: float = 60.0,
) -> tuple[PlaneCells, Plane]:  # fmt: skip
    """The cells to draw and their plane: the input space of two inputs, else the slice through the first three samples."""
    from problems.regions import Box

    budget = Budget(timeout)
    points = None
    if network.input_size == 2:
        plane = Plane.inputs()
    elif data is not None and len(data) >= 3:
        plane, points = Plane.through(data.x[:3]), data.x[:3]
    else:
        raise InputError("--picture", f"the network has {network.input_size} inputs.", "Give three samples with --data and --samples A:B.")
    where = Box.whole_space(network.input_size) if region is None else region
    lower, upper = where.bounding_box()
    if window is None and network.input_size == 2 and np.isfinite(lower).all() and np.isfinite(upper).all():
        window = float(lower[0]), float(upper[0]), float(lower[1]), float(upper[1])
    if window is None:
        window = window_of(network, plane, points, budget=budget)
    return cells_in_plane(network, pairs_of(network, labels), norm, directions(where), plane, window, budget=budget), plane


def cells_in_data_plane(network: Network, data: Dataset, region: Region | None, norm: str, *, timeout: float) -> PlaneCells | None:
    """The cells of the input space where it has two dimensions, else of the plane through the first samples of three classes.

    None for large networks, and where the time does not suffice. Raises InputError where there are no three classes.
    """
    found = _in_data_plane(network, data, region, norm, timeout)
    return None if found is None else found[0]


def _in_data_plane(
    network: Network, data: Dataset, region: Region | None, norm: str, timeout: float
) -> tuple[PlaneCells, Plane, Dataset] | None:
    if network.neurons > _MOST_NEURONS:
        return None
    firsts = [int(np.flatnonzero(data.y == label)[0]) for label in np.unique(data.y)[:3]]
    chosen = data if network.input_size == 2 else replace(data, x=data.x[firsts], y=data.y[firsts], rows=data.numbers[firsts])
    cells, plane = cells_of(network, region, {"1": 1.0, "2": 2.0, "inf": inf}[norm], data=chosen, timeout=timeout)
    return (cells, plane, chosen) if cells.complete else None


def picture_of(network: Network, data: Dataset, norm: str) -> CellPicture | None:
    """What the report shows of the cells: two inputs, or the plane through the first samples of three classes; None where that fails."""
    try:
        found = _in_data_plane(network, data, data.domain, norm, 5.0)
    except InputError:
        return None
    if found is None:
        return None
    cells, plane, chosen = found
    return CellPicture(
        norm, cells.window, tuple(tuple(tuple(vertex) for vertex in polygon.tolist()) for polygon in cells.polygons),
        tuple(cells.slopes.tolist()), tuple(cells.tight.tolist()), tuple(tuple(step) for step in cells.directions.tolist()),
        tuple(tuple(point) for point in plane.coordinates(chosen.x).tolist()), tuple(chosen.y.tolist()), network.input_size != 2,
    )  # fmt: skip


def picture(audit: Audit) -> Any:
    """The figure of the report."""
    shown = audit.cells
    assert shown is not None
    count = len(shown.slopes)
    cells = PlaneCells(
        shown.window, tuple(np.array(polygon) for polygon in shown.polygons), np.array(shown.slopes), np.array(shown.tight),  # type: ignore[arg-type]
        np.zeros(count), np.zeros(count, dtype=bool), np.array(shown.directions), True,
    )  # fmt: skip
    figure = style.new_figure(7.2, 6.3)
    axes = figure.subplots()
    axes.grid(visible=False)
    draw(axes, cells, points=np.array(shown.points).reshape(-1, 2), classes=np.array(shown.labels, dtype=int))
    if shown.slice:
        axes.set(xlabel="from the first sample towards the second", ylabel="towards the third")
    figure.colorbar(scale(cells), ax=axes, label=slope_name({"1": 1.0, "2": 2.0, "inf": inf}[shown.norm]), shrink=0.9, aspect=28, pad=0.02)
    key(figure, axes, [cells], infinity=False)
    return figure


def draw(
    axes: Any, cells: PlaneCells, *, points: Array | None = None, classes: Array | None = None,
    audit: TightnessAudit | None = None, plane: Plane | None = None, top: float | None = None,
) -> None:  # fmt: skip
    """One panel: cells coloured by slope, tight cells hatched with their directions, the steepest cell framed, and the best direction at
    infinity on the rim. points (m, 2) in the plane with their classes (m,). top: where the colours end (default: the steepest cell)."""
    from matplotlib.collections import PolyCollection

    axes.add_collection(
        PolyCollection(cells.polygons, facecolors=scale(cells, top).to_rgba(cells.slopes), edgecolors="#93a8c6", linewidths=0.5)
    )
    tight = [polygon for polygon, flag in zip(cells.polygons, cells.tight, strict=True) if flag]
    if tight:
        axes.add_collection(PolyCollection(tight, facecolors="none", edgecolors=style.ATTACK, linewidths=0.0, hatch="///", zorder=2))
        axes.add_collection(PolyCollection(tight, facecolors="none", edgecolors=style.ATTACK, linewidths=1.6, zorder=3))
    xmin, xmax, ymin, ymax = cells.window
    reach = 0.12 * max(xmax - xmin, ymax - ymin)
    for i in np.flatnonzero(cells.tight):
        _arrow(axes, _middle(cells.polygons[i]), reach * cells.directions[i], style.ATTACK)
    steepest = int(cells.slopes.argmax())
    frame = PolyCollection([cells.polygons[steepest]], facecolors="none", edgecolors=style.INK, linewidths=2.0, zorder=4)
    axes.add_collection(frame)
    if not cells.tight[steepest]:
        _arrow(axes, _middle(cells.polygons[steepest]), reach * cells.directions[steepest], style.INK)
    if points is not None and classes is not None:
        for label in np.unique(classes):
            chosen = points[classes == label]
            colour = _CLASSES[int(label) % len(_CLASSES)]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=22, color=colour, edgecolor="white", linewidth=0.7, zorder=6, label=f"class {label}")
    if audit is not None:
        found = (("L", audit.lipschitz.upper), ("l", audit.tight_slope.lower), ("κ*", audit.slope_at_infinity.lower))
        axes.set_title("   ".join(f"{name} = {value:.4g}" for name, value in found), fontweight="normal")
        if plane is not None and audit.slope_at_infinity.lower > 0:
            _rim(axes, cells.window, plane.along(np.asarray(audit.slope_at_infinity.witness)))
    axes.set(xlim=(xmin, xmax), ylim=(ymin, ymax), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.tick_params(length=2.5)
    axes.spines[:].set(visible=True, color="#aab2bf")


def scale(cells: PlaneCells, top: float | None = None) -> Any:
    """The colours of slopes, from pale to blue, as a matplotlib mappable; from zero, unless all slopes are large."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list("slopes", ["#f5f8fd", "#d5e1f4", "#a9c3e8", "#7ba2d8", "#4f80c4", "#2f63ad"])
    low, high = float(cells.slopes.min()), float(cells.slopes.max()) if top is None else top
    return ScalarMappable(Normalize(low if 0.4 * high < low < 0.95 * high else 0.0, high or 1.0), colours)


def slope_name(norm: float) -> str:
    """What the colours mean."""
    return f"steepest slope of a margin,  $\\|\\nabla(z_k - z_y)\\|_{{{_DUAL[norm]}}}$"


def key(figure: Any, axes: Any, cells: Sequence[PlaneCells], *, infinity: bool) -> None:
    """The legend of one or more panels, below them: `axes` is a panel that shows classes, if any does; `infinity`: whether one shows κ*."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    signs: list[Any] = [Patch(facecolor="none", edgecolor=style.INK, linewidth=1.6, label="steepest cell and direction")]
    if any(part.tight.any() for part in cells):
        signs.append(Patch(facecolor="none", edgecolor=style.ATTACK, linewidth=1.2, hatch="////", label="tight cell and direction"))
    if infinity:
        signs.append(Line2D([], [], marker="^", markersize=8, color=style.GOOD, linestyle="none", label="direction of κ*"))
    handles, labels = axes.get_legend_handles_labels()
    names = [sign.get_label() for sign in signs] + labels
    figure.legend(handles=signs + handles, labels=names, loc="outside lower left", ncols=min(len(names), 4), columnspacing=1.6)


def _middle(polygon: Array) -> Array:
    """The centroid of a polygon (v, 2)."""
    x, y = polygon[:, 0], polygon[:, 1]
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum()
    if abs(area) < 1e-300:
        return polygon.mean(axis=0)
    return np.array([((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]) / (3 * area)


def _arrow(axes: Any, start: Array, step: Array, colour: str) -> None:
    """From the point along the step, with a white edge so that it stands out on any cell."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.patheffects import withStroke

    edge = [withStroke(linewidth=4.5, foreground="white")]
    tip = tuple(start + step)
    axes.add_patch(
        FancyArrowPatch(tuple(start), tip, arrowstyle="-|>", mutation_scale=13, shrinkA=0, shrinkB=0, color=colour, linewidth=1.9,
                        path_effects=edge, zorder=7)
    )  # fmt: skip
    axes.plot(*start, marker="o", markersize=4.4, color=colour, markeredgecolor="white", markeredgewidth=0.9, zorder=8)


def _rim(axes: Any, window: tuple[float, float, float, float], direction: Array) -> None:
    """The best direction at infinity, as a mark where the ray from the middle of the window leaves it."""
    from matplotlib.patheffects import withStroke

    xmin, xmax, ymin, ymax = window
    middle, half = np.array([xmin + xmax, ymin + ymax]) / 2, np.array([xmax - xmin, ymax - ymin]) / 2
    if not np.abs(direction).max() > 0:
        return
    share = float((half / np.maximum(np.abs(direction), 1e-300)).min())
    place, angle = middle + share * direction, np.degrees(np.arctan2(direction[1], direction[0]))
    axes.plot(
        *place, marker=(3, 0, angle - 90), markersize=12, color=style.GOOD, markeredgecolor="white", clip_on=False, zorder=9,
    )  # fmt: skip
    axes.annotate(
        "κ*", place, xytext=tuple(-16 * direction / np.linalg.norm(direction)), textcoords="offset points", ha="center", va="center",
        color=style.GOOD, fontweight="bold", annotation_clip=False, path_effects=[withStroke(linewidth=3.5, foreground="white")],
    )  # fmt: skip
