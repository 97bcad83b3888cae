"""The figures of docs/transport.md and docs/optimal-risk.md; drawn by docs.figures. Everything is seeded."""

import csv
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from problems import readers
from problems.data import load
from problems.transport.grid import Grid
from problems.transport.linear import linear_radius, vanilla_linear_radius
from verifier import radius
from verifier.report import style, transport
from verifier.report.plots import picture

RISKS = Path(__file__).parent.parent / "benchmarks" / "results" / "optimal_risk.csv"
GRID = Grid(1, 8, 8)
MASS = 20.0


def linear() -> Any:
    """A linear classifier of digits: what the L1 ball of flows allows, and what moving mass can do."""
    weights, bias = linear_classifier()
    test = load("digits:test")
    figure = style.new_figure(9.6, 5.2)
    panels = figure.subplots(2, 4)
    for row, sample in zip(panels, (3, 81), strict=True):
        x, label = MASS * test.x[sample] / test.x[sample].sum(), int(test.y[sample])
        found = linear_radius(weights, bias, x, label, GRID)
        vanilla = vanilla_linear_radius(weights, bias, x, label, GRID)
        outside, target = steepest(weights, bias, x, label)
        top = max(x.max(), found.image.max())
        for axes, image, title in (
            (row[0], x, f"a {label}"),
            (row[1], outside, f"taken for a {target}, pixels free: {vanilla:.3f}"),
            (row[2], found.image, f"taken for a {found.target}, pixels ≥ 0: {found.upper:.3f}"),
        ):
            axes.imshow(signed(image.reshape(8, 8) / top), interpolation="nearest")
            axes.set_title(title, fontsize=9, fontweight="normal")
        transport.draw_flow(row[3], x, balanced(found.image, x), GRID)
        row[3].set_title("its flow", fontsize=9, fontweight="normal")
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    return figure


def linear_classifier() -> tuple[np.ndarray, np.ndarray]:
    """(weights (10, 64), bias (10,)) of a logistic regression on digits of mass 20."""
    from sklearn.linear_model import LogisticRegression

    train = load("digits:train")
    model = LogisticRegression(max_iter=500).fit(MASS * train.x / train.x.sum(axis=1, keepdims=True), train.y)
    return model.coef_, model.intercept_


def steepest(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, label: int) -> tuple[np.ndarray, int]:
    """(the image that Lemma 7 certifies against, its class): as much as it takes along one edge, whether the pixel has it or not."""
    tail, head, _ = GRID.edges
    best = (inf, 0, x)
    for target in range(len(bias)):
        if target == label:
            continue
        c = weights[target] - weights[label]
        edge = int(np.abs(c[head] - c[tail]).argmax())
        ends = (tail[edge], head[edge]) if c[head[edge]] > c[tail[edge]] else (head[edge], tail[edge])
        amount = -(c @ x + bias[target] - bias[label]) / (c[ends[1]] - c[ends[0]])
        moved = x.copy()
        moved[ends[0]] -= amount
        moved[ends[1]] += amount
        best = min(best, (amount, target, moved), key=lambda found: found[0])
    return best[2], best[1]


def signed(image: np.ndarray) -> np.ndarray:
    """RGB: grey for mass, red for less than none."""
    red = np.array([int(style.WRONG[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(image[:, :, None] < -1e-9, red, picture(image))


def balanced(image: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The image, of exactly the mass of x: in multiples of 2^-40, the rest on its largest pixel."""
    from problems.transport.dyadic import settled

    return settled(image[None], x, GRID, inf)[0]


def digits() -> Any:
    """Twelve digits and digits-16x2: images, flows and radii."""
    data, network = load("digits:test").select("0:12"), readers.load("digits-16x2")
    exact = list(radius(network, data, norm="wasserstein", timeout=120))
    vanilla = {record.sample: record.bracket.lower for record in radius(network, data, norm="wasserstein", configuration="vanilla")}
    return transport.draw(transport.moved(exact, data, network, vanilla), GRID)


def risk() -> Any:
    """Optimal risk against epsilon, from the committed rows: 3 and 8 of the digits with a network's error beside, and MNIST."""
    with RISKS.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    figure = style.new_figure(10.8, 3.6)
    signs = {"inf": "ℓ∞, per pixel", "2": "ℓ₂", "wasserstein": "W₁, pixels (mass 1)"}
    for axes, (norm, sign) in zip(figure.subplots(1, 3, sharey=True), signs.items(), strict=True):
        for classes, colour in (("3-8", style.PROVED), ("4-9", "#6f9ad3"), ("0-1", "#b9c9e8")):
            chosen = [r for r in rows if r["data"] == "digits" and r["classes"] == classes and r["norm"] == norm]
            at = [float(r["epsilon"]) for r in chosen]
            axes.plot(
                at, [100 * float(r["lower"]) for r in chosen], color=colour, marker="o", markersize=3, label=f"any classifier, {classes}"
            )
            if chosen[0]["network_lower"]:
                error = [100 * float(r["network_lower"]) for r in chosen]
                axes.plot(at, error, color=style.ATTACK, marker="o", markersize=3, label="digits-16x2, 3-8")
        axes.set(xlabel=f"ε in {sign}", xlim=(0, None), ylim=(0, 103))
    figure.axes[0].set_ylabel("adversarial error, %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


FIGURES: tuple[tuple[str, Callable[[], Any]], ...] = (("transport-linear", linear), ("transport-digits", digits), ("optimal-risk", risk))
