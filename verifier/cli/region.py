"""The region options of the command line, as a `Region`."""

import zipfile
from argparse import Namespace
from math import inf
from pathlib import Path

import numpy as np

from problems import vnnlib
from problems.data import Dataset
from problems.errors import RegionError
from problems.regions import Ball, Box, Polytope, Region
from problems.rounding import is_float64
from problems.specification import Specification
from verifier.cli.parser import UsageError


def region_of(options: Namespace, dimension: int, data: Dataset | None = None) -> Region | None:
    """The region that --box, --all-space, --region, --box-center or --radius describe in R^dimension, or None where none is given.

    --radius without --box-center means the ball around the one selected sample of `data`, cut by the box the data live in. Numbers are
    float64 numbers. Raises UsageError where the options do not go together, RegionError where they describe no region.
    """
    around = options.radius is not None or options.box_center is not None
    given = [options.box is not None, options.all_space, options.region is not None, around]
    if sum(given) > 1:
        raise UsageError("region", "is described twice.", "Give one of --box, --all-space, --region, --box-center, --radius.")
    if options.ball is not None and options.radius is None:
        raise UsageError("--ball", "says what --radius means, and there is no --radius.")
    if options.box is not None:
        return Box(np.full(dimension, options.box[0]), np.full(dimension, options.box[1]))
    if options.all_space:
        return Box.whole_space(dimension)
    if options.region is not None:
        return _described(Path(options.region), dimension)
    if not around:
        return None
    if options.radius is None:
        raise UsageError("--box-center", "needs --radius.")
    norm = inf if options.ball is None else options.ball
    if options.box_center is not None:
        return Ball(_center(Path(options.box_center), dimension), options.radius, norm)
    if data is None or len(data) != 1:
        raise UsageError("--radius", "means a ball around one sample.", "Select it with --samples I, or give --box-center FILE.npz.")
    box = data.domain if isinstance(data.domain, Box) else None
    return Ball(data.x[0], options.radius, norm, box)


def _described(file: Path, dimension: int) -> Region:
    specification = vnnlib.read(file)
    regions = specification.input_boxes()
    if len(regions) != 1:
        raise RegionError(str(file), f"describes {len(regions)} input boxes.", "A region is one box: give a file with one.")
    if regions[0].dimension != dimension:
        raise RegionError(str(file), f"bounds {regions[0].dimension} inputs, there are {dimension}.")
    return _with_rows(regions[0], specification, file) if specification.has_input_rows else regions[0]


def _with_rows(box: Region, specification: Specification, file: Path) -> Region:
    """The box cut by the rows that relate inputs to each other. Strict rows lose nothing by being closed."""
    matrix, offsets = [], []
    for disjunct in specification.disjuncts:
        for terms, logits, offset in zip(disjunct.input_terms, disjunct.exact_coefficients, disjunct.exact_offsets, strict=True):
            if not terms:
                continue
            if any(logits) or len(specification.disjuncts) > 1 or not isinstance(box, Box):
                raise RegionError(
                    str(file), "relates inputs to outputs, or describes several regions.", "A region is a box with rows over inputs."
                )
            if not is_float64(offset):
                raise RegionError(str(file), f"has a row with the constant {offset}, which is no float64 number.", "Scale that row.")
            row = np.zeros(box.dimension)
            for index, value in terms:
                row[index] = float(value)
            matrix.append(row)
            offsets.append(float(offset))
    assert isinstance(box, Box)
    return Polytope(box, np.array(matrix), np.array(offsets))


def _center(file: Path, dimension: int) -> np.ndarray:
    try:
        with np.load(file, allow_pickle=False) as archive:
            if "X" not in archive:
                raise RegionError(str(file), "has no array X.", f"It holds {', '.join(archive) or 'nothing'}; row 0 of X is the centre.")
            points = archive["X"]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, RegionError):
            raise
        raise RegionError(str(file), "cannot be read.", "An .npz file with an array X is needed.") from error
    if points.ndim < 2 or not len(points) or points[0].size != dimension:
        raise RegionError(str(file), f"X has shape {points.shape}.", f"Rows of {dimension} numbers are needed.")
    return np.asarray(points[0], dtype=np.float64).ravel()
