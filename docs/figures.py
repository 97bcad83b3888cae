"""The figures of docs/: `make docs`, or `python -m docs.figures` in the project's folder. Those of tightness.md are here. All is seeded."""

import csv
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tightness import problems, train
from docs import figures_transport
from problems.data import Dataset, load
from problems.maps import Dense
from problems.network import Network, sequential
from verifier import tightness
from verifier.report import cells, style

HERE = Path(__file__).parent
STUDY = HERE.parent / "benchmarks" / "results" / "tightness.csv"


def chain(*layers: tuple[list, list]) -> Network:
    """A network of dense layers from (weights, bias)."""
    return sequential([Dense(np.array(w, dtype=float)) for w, _ in layers], [np.array(b, dtype=float) for _, b in layers])


RELU = chain(([[1, 0], [0, 1]], [0, 0]), ([[1, 0], [0, 1]], [0, 0]))
MINIMUM = chain(([[1, 0], [-1, 0], [1, -1]], [0, 0, 0]), ([[0, 0, 0], [1, -1, -1]], [0, 0]))
FOUR = chain(
    ([[-0.6436, 0.3784], [0.7196, 1.7698], [1.3441, 1.0055], [-0.3510, -0.7537]], [0, 0, 0, 0]),
    ([[-0.9808, -0.6550, -1.0012, -0.2473], [0.4910, -0.1602, 1.8371, -0.1348]], [0, 0]),
)


def oracles() -> Any:
    """Four networks whose constants can be checked by hand."""
    samples = Dataset(np.array([[-2.0, 2.0], [1.0, 1.0]]), np.array([1, 1]))
    window = (-3.0, 3.0, -3.0, 3.0)
    panels = [
        ("z = relu(x), label 0", RELU, [0], None),
        ("min(x₁, x₂) above z₀ = 0, label 0", MINIMUM, [0], None),
        ("four neurons, label 0", FOUR, [0], None),
        ("four neurons, label 1, two samples", FOUR, [1], samples),
    ]
    figure = style.new_figure(9.8, 9.4)
    grid = figure.subplots(2, 2).ravel()
    shown = []
    for axes, (title, network, labels, data) in zip(grid, panels, strict=True):
        audit = tightness(network, None, 2, labels=labels)
        found, plane = cells.cells_of(network, None, 2.0, labels=labels, window=window)
        points = (None, None) if data is None else (data.x, data.y)
        cells.draw(axes, found, points=points[0], classes=points[1], audit=audit, plane=plane)
        head(axes, title)
        figure.colorbar(cells.scale(found), ax=axes, shrink=0.8, aspect=26, pad=0.03, label=cells.slope_name(2.0))
        shown.append(found)
    cells.key(figure, grid[3], shown, infinity=True)
    return figure


def trained() -> Any:
    """A classifier of two moons, and a slice of a digit classifier with 64 inputs."""
    _, x, y, hidden = next(problems())
    network, data = train(x, y, hidden, 0), Dataset(x, y)
    figure = style.new_figure(11.4, 5.9)
    left, right = figure.subplots(1, 2)
    found, plane = cells.cells_of(network, None, 2.0, window=(-9.0, 9.0, -10.0, 8.0))
    cells.draw(left, found, points=x, classes=y, audit=tightness(network, None, 2, data=data), plane=plane)
    head(left, "two moons, 2-8-8-2, trained")
    figure.colorbar(cells.scale(found), ax=left, shrink=0.8, aspect=26, pad=0.03, label=cells.slope_name(2.0))
    digits = load("digits:test").select("0:3")
    slice_, plane = cells.cells_of(_bundled("digits-32x2"), digits.domain, inf, data=digits)
    cells.draw(right, slice_, points=plane.coordinates(digits.x), classes=digits.y)
    right.set(xlabel="from a 0 towards a 1", ylabel="towards a 2")
    head(right, "digits-32x2 on the plane of three images")
    figure.colorbar(cells.scale(slice_), ax=right, shrink=0.8, aspect=26, pad=0.03, label=cells.slope_name(inf))
    cells.key(figure, right, [found, slice_], infinity=True)
    return figure


def head(axes: Any, text: str) -> None:
    """What a panel shows, above its numbers."""
    axes.annotate(text, (0, 1), xycoords="axes fraction", xytext=(0, 25), textcoords="offset points", fontweight="bold", fontsize=10.5)


def study() -> Any:
    """l / L and kappa* / L of the networks of the study, from its committed rows."""
    with STUDY.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    figure = style.new_figure(10.8, 4.5)
    for axes, norm, sign in zip(figure.subplots(1, 3, sharey=True), ("1", "2", "inf"), ("1", "2", r"\infty"), strict=True):
        for kind, colour, size in (("random", style.MUTED, 16), ("trained", style.ATTACK, 26)):
            chosen = [r for r in rows if r["kind"] == kind and r["norm"] == norm]
            infinity, tight = (np.array([float(r[name]) / float(r["L"]) for r in chosen]) for name in ("kappa_star", "l"))
            axes.scatter(
                infinity, tight, s=size, color=colour, alpha=0.75, linewidth=0.5, edgecolor="white", label=f"{kind} ({len(chosen)})"
            )
        axes.plot([0, 1], [0, 1], color=style.LINE, linewidth=1, zorder=0)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="κ* / L", title=f"$r = {sign}$", aspect="equal")
    figure.axes[0].set(ylabel="l / L")
    figure.axes[0].legend(loc="upper left")
    return figure


def _bundled(name: str) -> Network:
    from problems import readers

    return readers.load(name)


def main() -> None:
    """Draw them all."""
    import matplotlib as mpl

    for name, draw in (("tightness-oracles", oracles), ("tightness-cells", trained), ("tightness-study", study)):
        with mpl.rc_context(style.settings() | ({} if draw is study else {"axes.grid": False})):
            draw().savefig(HERE / f"{name}.png", dpi=130, metadata={})
        print(HERE / f"{name}.png")
    for name, draw in figures_transport.FIGURES:
        with mpl.rc_context(style.settings()):
            draw().savefig(HERE / f"{name}.png", dpi=130, metadata={})
        print(HERE / f"{name}.png")


if __name__ == "__main__":
    main()
