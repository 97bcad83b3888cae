"""`tightness`: the audit of a network over a region, from what a user has to what the command line prints."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from problems import readers
from problems.data import Dataset, load
from problems.errors import InputError, NetworkError, RegionError
from problems.maps import Array
from problems.network import Network
from problems.regions import Box
from problems.regions.ball import exponent
from problems.regions.base import Region
from verifier import options
from verifier.bracket import Bracket, Status
from verifier.enumeration.count import ready
from verifier.recession.audit import Progress, TightnessAudit, audit_cells
from verifier.recession.region import Directions, directions
from verifier.recession.rows import linear_parts
from verifier.recession.tight import tightness as conditions
from verifier.search.budget import Budget

# What lambda_0 may take where the time is not limited.
RISE_SECONDS = 20.0


def tightness(
    network: Any,
    region: Region | None = None,
    norm: float | str = 2,
    *,
    labels: Sequence[int] | None = None,
    data: Any = None,
    samples: str | slice | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    progress: Progress | None = None,
) -> TightnessAudit:
    """L, l, kappa* and, for data, lambda_0 of a network's margins over a region (THEORY T1, T3 to T5), and how many cells are tight (T2).

    network: Network, torch module, path or bundled name; region: None for the data's own domain, or R^n; norm: 1, 2 or inf, of the inputs.
    labels: the classes y that are present; or data (a data set or its name), whose labels count, and whose samples weigh the cells; all
    classes without either. timeout in seconds, memory in GB; tolerance: relative, on kappa*. On Ctrl-C and at the limits the record of
    the cells seen so far is returned, marked incomplete. What is proved is about the stored weights as exact numbers. Trusted: IEEE
    arithmetic, the error bounds of matrix products, LAPACK's singular values to 2^-40, and this code. One process works;
    workers, device and solver change nothing. Raises InputError.
    """
    options.check(timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics)
    if semantics != "real":
        raise InputError("semantics", "of directions to infinity are those of real numbers.", "Use real.")
    order = exponent(norm)
    net = readers.load(network)
    chosen = None if data is None else load(data).select(samples)
    if chosen is not None:
        chosen.check_fits(net)
        if labels is None:
            labels = sorted({int(y) for y in chosen.y})
    if region is None:
        region = chosen.domain if chosen is not None and chosen.domain is not None else Box.whole_space(net.input_size)
    if region.dimension != net.input_size:
        raise RegionError("region", f"has dimension {region.dimension}, {net.name} has {net.input_size} inputs.")
    if chosen is not None:
        chosen.check_inside(region)
    where = directions(region)
    if where.cone.flat:
        raise RegionError("region", "has no interior.", "Give one that is flat in the direction of the axes only, or not at all.")
    ready()  # compiled before the clock starts
    budget = Budget(timeout, None if memory is None else memory * 1e9)
    result = audit_cells(
        net, region, pairs_of(net, labels), order, budget=budget, tolerance=tolerance, seed=seed, progress=progress
    )  # fmt: skip
    if result.complete and not result.cells + result.undecided:
        raise RegionError("region", "has no interior.", "Give one that is flat in the direction of the axes only, or not at all.")
    if chosen is not None:
        some, top = weigh(net, chosen, order, where)
        result = replace(result, tight_data=some, tight_data_top=top)
        if result.status is not Status.INTERRUPTED:
            result = replace(result, lambda_0=_rise(net, chosen, region, order, result, budget, tolerance))
    return replace(result, seconds=budget.elapsed)


def _rise(
    network: Network, data: Dataset, region: Region, norm: float, audit: TightnessAudit, budget: Budget, tolerance: float
) -> Bracket | None:
    """lambda_0 (T5) in what is left of the time, at most RISE_SECONDS where that is not limited."""
    from verifier.distributional.rise import rise_of

    kappa = audit.slope_at_infinity
    part = budget.part(RISE_SECONDS if budget.timeout is None else budget.remaining)
    try:
        found = rise_of(
            network, data, region, norm, budget=part, most=audit.lipschitz.upper, kappa=(kappa.lower, kappa.upper), tolerance=tolerance
        )
    except KeyboardInterrupt:
        return None
    if found is None:
        return None
    closed = found[1] - found[0] <= 1e-4 * found[1]
    return Bracket("max", *found, Status.CLOSED if closed else part.exceeded() or Status.UNDECIDED, np.zeros(network.input_size))


def pairs_of(network: Network, labels: Sequence[int] | None) -> Array:
    """(P, 2): all (y, k) with y among the labels (all classes for None) and k != y. Raises InputError."""
    classes = network.output_size
    if classes < 2:
        raise NetworkError(network.name, "has one output, so that there is no margin.", "Give a classifier: one logit per class.")
    present = range(classes) if labels is None else sorted({int(y) for y in labels})
    if not present or min(present) < 0 or max(present) >= classes:
        raise InputError("labels", f"{list(labels or [])} are not classes of {network.name}.", f"It has the classes 0 to {classes - 1}.")
    return np.array([(y, k) for y in present for k in range(classes) if k != y])


def weigh(network: Network, data: Dataset, norm: float, where: Directions) -> tuple[float, float]:
    """The shares of samples whose cell is tight for their label and some competitor, and for the top competitor.

    A sample's cell is that of its pre-activations' signs in float64, zero counting as inactive; ties of competitors go to the first.
    """
    values = network.values(data.x)
    before = [values[network.nodes[i].parent] for i in network.relus]  # type: ignore[union-attr]
    patterns = np.where(np.concatenate([np.zeros((len(data), 0)), *before], axis=1) > 0, 1, -1).astype(np.int8)
    logits = values[-1].copy()
    some = top = 0
    for label in np.unique(data.y):
        rows = np.flatnonzero(data.y == label)
        pairs = pairs_of(network, [int(label)])
        tight = conditions(network, linear_parts(network, patterns[rows]), pairs, norm, where).tight
        first = logits[rows][:, pairs[:, 1]].argmax(axis=1)
        some += int(tight.any(axis=1).sum())
        top += int(tight[np.arange(len(rows)), first].sum())
    return some / len(data), top / len(data)
