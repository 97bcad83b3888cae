"""Robustness properties of a folder as labelled samples: what a benchmark without its data set still says of the data."""

import csv
from pathlib import Path

import numpy as np

from problems import vnnlib
from problems.data import Dataset
from problems.errors import DataError
from problems.regions import Box


def samples_of(folder: Path, network: str, *, margin: float = 0.0) -> Dataset:
    """The centres of the input boxes of all properties of one network in a VNN-COMP folder, with the class that each property is about.

    network: the stem of its file. The domain is the box of the smallest and the largest pixel value that any property allows, widened by
    `margin`: the networks normalise their inputs, so that [0, 1] is not where the images live. Raises DataError.
    """
    points, labels, low, high = [], [], np.inf, -np.inf
    seen = set()
    with (folder / "instances.csv").open(encoding="utf-8") as file:
        for model, name, *_ in csv.reader(file):
            if Path(model).stem != network or name in seen:
                continue
            seen.add(name)
            specification = vnnlib.read(folder / name)
            (box,) = specification.input_boxes()
            lower, upper = box.bounding_box()
            low, high = min(low, float(lower.min())), max(high, float(upper.max()))
            points.append((lower + upper) / 2)
            labels.append(_class_of(specification, name))
    if not points:
        raise DataError(str(folder), f"has no property of {network}.")
    side = np.ones(len(points[0]))
    return Dataset(np.array(points), np.array(labels), Box((low - margin) * side, (high + margin) * side), f"{folder.name}:{network}")


def _class_of(specification: object, name: str) -> int:
    """The output that every disjunct of the negated property compares with another: the one they share."""
    shared: set[int] | None = None
    for disjunct in specification.disjuncts:  # type: ignore[attr-defined]
        for row in disjunct.exact_coefficients:
            used = {k for k, value in enumerate(row) if value}
            shared = used if shared is None else shared & used
    if shared is None or len(shared) != 1:
        raise DataError(name, "is not about one class against the others.")
    return shared.pop()
