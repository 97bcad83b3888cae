"""Pictures of moved mass: an image, the nearest misclassified one, the flow between them, and the bracket of every radius.

Everything is drawn from records of `verifier.radius(..., norm="wasserstein")`; the flow is the optimal plan between the two images,
recomputed and exact.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np

from problems.data import Dataset
from problems.errors import DataError, InputError
from problems.network import Network
from problems.transport.flows import distance
from problems.transport.grid import Array, Grid
from verifier.radii import Radius
from verifier.report import style, tables
from verifier.report.plots import data_address, picture

# Arrows with less than this share of the largest amount are not drawn.
FAINT = 0.02
# Images side by side: fewer, and larger, where pixels are small.
SHOWN, SHOWN_LARGE, LARGE = 6, 4, 16


@dataclass(frozen=True, eq=False)
class Moved:
    """One image and its radius, in units of mass 1.

    lower <= radius <= upper; bounds: what bounds alone certify (<= lower), attack: the distance of the attack's image (>= upper), vanilla:
    the certificate in the flow domain, None where it was not asked for. before (n,); after (n,) the nearest misclassified image, None
    where none is known; found: its class.
    """

    sample: int
    label: int
    lower: float
    upper: float
    bounds: float
    attack: float
    before: Array
    after: Array | None
    found: int | None
    vanilla: float | None = None


def moved(records: Iterable[Radius], data: Dataset, network: Network, vanilla: Mapping[int, float] | None = None) -> list[Moved]:
    """The records as rows of the pictures, by sample; vanilla: radii by sample, where they are known."""
    place = {int(number): row for row, number in enumerate(data.numbers)}
    rows = []
    for record in sorted(records, key=lambda record: record.sample):
        bracket, before = record.bracket, data.x[place[record.sample]]
        after = bracket.witness if bracket.upper < math.inf else None
        found = None if after is None else _class(network.forward(after[None])[0], record.label)
        bounds, attack = bracket.stats.get("bounds", bracket.lower), bracket.stats.get("attack", bracket.upper)
        known = None if vanilla is None else vanilla.get(record.sample)
        rows.append(Moved(record.sample, record.label, bracket.lower, bracket.upper, bounds, attack, before, after, found, known))
    return rows


def _class(logits: Array, label: int) -> int:
    """The largest logit beside the label's, which ties with it on the boundary."""
    others = logits.copy()
    others[label] = -math.inf
    return int(others.argmax())


def arrows(before: Array, after: Array, grid: Grid) -> Array:
    """(m, 5): row and column where mass starts and where it ends, and the amount, as shares of the image's mass; channels are summed.

    Ground distance l1: the net flow on the edges between neighbours, every move along its row and then along its column. l2: the moves
    themselves. Images of different mass have no flow: no arrows.
    """
    try:
        moves = distance(before, after, grid).moves
    except DataError:
        return np.zeros((0, 5))
    if not moves:
        return np.zeros((0, 5))
    ends = np.array([(start % grid.pixels, end % grid.pixels) for start, end, _ in moves])
    amounts = np.array([float(amount) for _, _, amount in moves]) / float(grid.mass(before))
    (i, j), (k, l) = (np.divmod(column, grid.width) for column in ends.T)  # noqa: E741
    if grid.ground == "l2":
        return np.stack([i, j, k, l, amounts], axis=1)
    down, right = np.zeros((grid.height + 1, grid.width)), np.zeros((grid.height, grid.width + 1))
    # A path is a step function along its line: what enters at its start leaves at its end.
    np.add.at(right, (i, j), amounts)
    np.add.at(right, (i, l), -amounts)
    np.add.at(down, (i, l), amounts)
    np.add.at(down, (k, l), -amounts)
    vertical, horizontal = down.cumsum(axis=0)[: grid.height - 1], right.cumsum(axis=1)[:, : grid.width - 1]
    rows = []
    for flow, step in ((vertical, (1, 0)), (horizontal, (0, 1))):
        for row, column in np.argwhere(np.abs(flow) > 1e-12).tolist():
            pair = (row, column), (row + step[0], column + step[1])
            start, end = pair if flow[row, column] > 0 else pair[::-1]
            rows.append((*start, *end, abs(flow[row, column])))
    return np.array(rows).reshape(-1, 5)


def draw_flow(axes: Any, before: Array, after: Array, grid: Grid) -> None:
    """The image in grey and the flow as arrows whose width is the mass they carry."""
    from matplotlib.collections import PolyCollection

    _show(axes, 1.0 - 0.3 * _image(before, grid, float(before.max())))
    flows = arrows(before, after, grid)
    if not len(flows):
        return
    flows = flows[flows[:, 4] >= FAINT * flows[:, 4].max()]
    widths = 0.10 + 0.62 * flows[:, 4] / flows[:, 4].max()
    shapes = [_arrow(row[1], row[0], row[3], row[2], width) for row, width in zip(flows, widths, strict=True)]
    axes.add_collection(PolyCollection(shapes, facecolor=style.ATTACK, edgecolor="none"))


def _arrow(x: float, y: float, to_x: float, to_y: float, width: float) -> Array:
    """The corners (7, 2) of an arrow between two points of the plane."""
    along = np.array([to_x - x, to_y - y])
    length = float(np.hypot(*along))
    along = along / length
    across = np.array([-along[1], along[0]])
    head = min(0.5, 0.5 * length)
    half, wide = 0.32 * width, max(0.62 * width, 0.12)
    profile = [
        (0.0, half),
        (length - head, half),
        (length - head, wide),
        (length, 0.0),
        (length - head, -wide),
        (length - head, -half),
        (0.0, -half),
    ]
    return np.array([(x, y) + a * along + b * across for a, b in profile])


def pictures(figure: Any, rows: Sequence[Moved], grid: Grid) -> None:
    """A column per image: the image, the nearest misclassified one, and the flow from one to the other."""
    chosen = shown(rows, grid)
    panels = figure.subplots(3, len(chosen), squeeze=False)
    for column, row in enumerate(chosen):
        assert row.after is not None
        top = float(max(row.before.max(), row.after.max()))
        for axes, values in ((panels[0][column], row.before), (panels[1][column], row.after)):
            _show(axes, _image(values, grid, top))
        draw_flow(panels[2][column], row.before, row.after, grid)
        for axes in panels[:, column]:
            _crop(axes, np.maximum(row.before, row.after), grid)
        panels[0][column].set_title(f"{row.label}", fontsize=10, pad=3, loc="center", fontweight="normal")
        panels[1][column].set_title(f"{row.found}", fontsize=10, pad=3, loc="center", color=style.WRONG)
        panels[2][column].set_xlabel(ends(row), fontsize=8.5)
    for axes, name in zip(panels[:, 0], ("original", "misclassified", "flow"), strict=True):
        axes.set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")


def shown(rows: Sequence[Moved], grid: Grid) -> list[Moved]:
    """The first images that were right and have a known misclassified neighbour, as many as fit."""
    count = SHOWN if max(grid.height, grid.width) <= LARGE else SHOWN_LARGE
    return [row for row in rows if row.after is not None and row.upper > 0.0][:count]


def brackets(figure: Any, rows: Sequence[Moved]) -> None:
    """Per image, sorted by what the attack reached: the vanilla certificate, bounds alone, the proved radius, and the attack's."""
    right = sorted((row for row in rows if row.upper > 0.0), key=lambda row: (row.upper, row.lower))
    axes = figure.subplots()
    place = np.arange(1, len(right) + 1)
    lower, upper = np.array([(row.lower, row.upper) for row in right]).T
    known = [value for value in (*lower.tolist(), *upper.tolist()) if math.isfinite(value)]
    ceiling = 1.15 * max(known, default=1.0) or 1.0
    width = max(1.0, min(6.0, 330.0 / len(right)))
    axes.vlines(place, np.minimum(lower, ceiling), np.minimum(upper, ceiling), color=style.OPEN, linewidth=width, label="still open")
    axes.scatter(place, upper, s=15, color=style.ATTACK, marker="v", linewidth=0, zorder=3, label="found: misclassified this far away")
    axes.scatter(place, lower, s=15, color=style.PROVED, marker="^", linewidth=0, zorder=4, label="proved: nothing nearer")
    if any(row.bounds < row.lower for row in right):
        axes.scatter(place, [row.bounds for row in right], s=26, color=style.PROVED, marker="_", linewidth=1.1, label="bounds alone")
    if any(row.vanilla is not None for row in right):
        vanilla = [math.nan if row.vanilla is None else row.vanilla for row in right]
        axes.scatter(place, vanilla, s=11, color=style.MUTED, marker="x", linewidth=0.9, label="vanilla certificate")
    axes.set(xlim=(0.2, len(right) + 0.8), ylim=(0, ceiling), xlabel="images, by distance", ylabel="W₁ radius, images of mass 1")
    axes.grid(axis="x", visible=False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper left", ncols=5, handlelength=1.2, columnspacing=1.6)


def draw(rows: Sequence[Moved], grid: Grid) -> Any:
    """Images and flows above, brackets below; what there is nothing to show of is left out."""
    count, several = len(shown(rows, grid)), sum(row.upper > 0.0 for row in rows) > 1
    panel = 1.72 * SHOWN / (SHOWN if max(grid.height, grid.width) <= LARGE else SHOWN_LARGE)
    width, height = max(1.2 + panel * count, 9.6 if several else 4.4), 0.6 + panel * 3
    if not several:
        figure = style.new_figure(width, height)
        pictures(figure, rows, grid)
    elif not count:
        figure = style.new_figure(width, 3.9)
        brackets(figure, rows)
    else:
        figure = style.new_figure(width, height + 3.8)
        above, below = figure.subfigures(2, 1, height_ratios=(height, 3.8))
        pictures(above, rows, grid)
        brackets(below, rows)
    return figure


def save(path: str | Path, rows: Sequence[Moved], grid: Grid) -> None:
    """Write `draw` to a .png or .svg file. Raises InputError for another name, and where there is nothing to draw."""
    import matplotlib as mpl

    check_path(path)
    if not drawable(rows, grid):
        raise InputError("picture", "has nothing to show: no image has a misclassified neighbour.", "Select others with --samples.")
    with mpl.rc_context(style.settings()):
        draw(rows, grid).savefig(path, dpi=144, metadata={"Date": None} if str(path).endswith(".svg") else {})


def drawable(rows: Sequence[Moved], grid: Grid) -> bool:
    """Whether `draw` has something to show: a flow, or several radii."""
    return bool(shown(rows, grid)) or sum(row.upper > 0.0 for row in rows) > 1


def check_path(path: str | Path) -> None:
    """Raise InputError unless a picture can have this name."""
    if not str(path).endswith((".svg", ".png")):
        raise InputError("picture", f"{str(path)!r} is neither .svg nor .png.")


def section(rows: Sequence[Moved], grid: Grid, unit: str) -> str:
    """The audit's section on image-space Wasserstein, as HTML; unit: a sentence on ground distance, pixels and mass, in plain text."""
    right = [row for row in rows if row.upper > 0.0]
    parts = [f"<p>{escape(unit)}</p>"]
    if right:
        closed = sum(row.lower >= 0.99 * row.upper for row in right)
        parts.append(
            f"<p>Of {len(rows)} images {len(rows) - len(right)} are misclassified as they are. Of the others {closed} have a radius known "
            f"to 1 %; on average {_ratio(right)} of the distance at which an error was found is proved to be safe.</p>"
        )
        address = data_address(lambda _: draw(rows, grid), cast(Any, rows))
        caption = (
            "Above: images, their nearest misclassified neighbours, and the flow between them (width: mass). Below: for every image what "
            "is proved and what was found, in units of mass 1."
        )
        parts.append(f'<figure><img src="{address}" alt="Moved mass and radii"><figcaption>{caption}</figcaption></figure>')
    heads = ("sample", "label", "becomes", "bounds alone", "radius", "attack")
    lines = [
        (str(row.sample), str(row.label), "" if row.found is None else str(row.found), tables.number(row.bounds, rounding="down"),
         tables.bracket(row.lower, row.upper), tables.number(row.attack, rounding="up"))
        for row in rows
    ]  # fmt: skip
    return "\n".join([*parts, f'<div class="scroll">{tables.table(heads, lines, classes="sortable")}</div>'])


def ends(row: Moved) -> str:
    """The bracket in few digits."""
    return tables.bracket(row.lower, row.upper, 3)


def _ratio(rows: Sequence[Moved]) -> str:
    shares = [row.lower / row.upper for row in rows if math.isfinite(row.upper)]
    return f"{100 * float(np.mean(shares)):.0f} %" if shares else "all"


def _image(values: Array, grid: Grid, top: float) -> Array:
    """(h, w, 3) in [0, 1]: pixels as shares of `top`, one channel in grey, three in colour, others summed."""
    image = values.reshape(grid.shape) / top
    if grid.channels == 3:
        return picture(image.transpose(1, 2, 0))
    return picture(image.sum(axis=0))


def _show(axes: Any, image: Array) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.LINE)


def _crop(axes: Any, mass: Array, grid: Grid) -> None:
    """Show the square that holds all mass of an image, and a pixel around it: the rest of the grid is empty."""
    rows, columns = np.nonzero(mass.reshape(grid.shape).sum(axis=0))
    side = min(int(max(np.ptp(rows), np.ptp(columns))) + 3, max(grid.height, grid.width))
    left, top = (_start(places, side, size) for places, size in ((columns, grid.width), (rows, grid.height)))
    axes.set(xlim=(left, left + side), ylim=(top + side, top))


def _start(places: Array, side: int, size: int) -> float:
    """Where a window of `side` around these rows or columns begins, such that it does not leave the grid where it fits."""
    centred = float(places.min() + places.max() - side) / 2.0
    return min(max(centred, -0.5), max(size - side, 0) - 0.5)
