"""Complete verification: `verify`, from a network and a specification to a verdict.

Quick bounds come first, then an attack, then the search: easy instances end before heavy machinery is loaded.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from problems import readers, vnnlib
from problems.errors import InputError, SpecificationError
from problems.maps import Array
from problems.network import Network
from problems.readers.agreement import replayer
from problems.specification import Specification
from verifier import options
from verifier.bracket import Bracket, Status
from verifier.milp import WholeProgram
from verifier.piecewise import Splitting
from verifier.search.budget import Budget
from verifier.search.executors import default_workers
from verifier.search.search import Progress, Search
from verifier.violation import Violation, targets_of


@dataclass(frozen=True, eq=False)
class Verdict:
    """verdict: sat, unsat, unknown or timed-out; bracket of the largest violation; witness x (n,) with its replayed output."""

    verdict: str
    bracket: Bracket
    witness: Array | None
    witness_output: Array | None
    reason: str

    @property
    def seconds(self) -> float:
        return self.bracket.seconds


METHODS = ("auto", "cells", "milp")


def verify(
    network: Any,
    specification: Specification | str | Path,
    *,
    method: str = "auto",
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    progress: Progress | None = None,
) -> Verdict:
    """Decide whether the specification can be violated.

    network: Network, torch module, path or bundled name; specification: Specification or path of a VNN-LIB file; timeout in
    seconds, memory in GB. The bracket's value is the largest violation (module `verifier.violation`): unsat iff upper < 0, sat iff
    a witness is verified in exact arithmetic and by replay. What is trusted: IEEE arithmetic, the error bounds of matrix products, and this
    code; no solver's bound is taken without its dual being checked. Raises InputError on bad input.
    """
    options.check(
        timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics
    )  # fmt: skip
    splitting = _splitting(method)
    budget = Budget(timeout, None if memory is None else memory * 1e9)
    net = readers.load(network)
    if not isinstance(specification, Specification | str | Path):
        raise SpecificationError("specification", f"an object of type {type(specification).__name__}.", "Give a Specification or a path.")
    spec = specification if isinstance(specification, Specification) else vnnlib.read(specification)
    spec.check_network(net)
    envelope = _envelope(net, spec) if semantics == "float32" else None
    question = Violation(
        net, targets_of(spec, envelope), splitting, specification=spec, replay=replayer(net), solver=solver, envelope=envelope
    )  # fmt: skip
    if method == "milp":
        whole = WholeProgram(question, solver=solver)
        search = Search(whole, batch=1)
        status = search.run(budget, progress)
        whole.close_sessions()
        return _verdict(question, search, status, budget)
    threads = workers or default_workers()
    # Parallel batches, each with single-threaded products: small matrices gain nothing from more threads inside.
    with threadpool_limits(1), ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as executor:
        search = Search(question, batch=_batch(net), executor=executor, workers=threads)
        status = _work(question, search, budget, device=device, seed=seed, progress=progress)
    return _verdict(question, search, status, budget)


def _envelope(network: Network, specification: Specification) -> Array:
    """The largest rounding envelope over the regions of the specification, (K,)."""
    from verifier.bounds.envelope import float32_envelope

    parts = [float32_envelope(network, *region.bounding_box()) for region in specification.input_boxes()]
    envelope = np.max([np.zeros(network.output_size), *parts], axis=0)
    if not np.isfinite(envelope).all():
        raise InputError(network.name, "may overflow in float32 on the property's region.", "Use the semantics real.")
    return envelope


def _splitting(method: str) -> Splitting | None:
    """How a method cuts pieces; None lets the engine choose."""
    if method not in METHODS:
        raise InputError("method", f"{method!r} is not known.", f"Choose one of {', '.join(METHODS)}.")
    return None if method == "auto" else "neuron"


def _batch(network: Network) -> int:
    """Pieces per step: many while a piece is small, so that matrix products are worth their call."""
    return int(np.clip(200_000 // max(1, network.neurons), 16, 256))


def _work(question: Violation, search: Search, budget: Budget, *, device: str, seed: int, progress: Progress | None) -> Status:
    # A second of search before torch is loaded: what it settles needs no attack, and what it does not is worth one.
    status = search.run(budget.part(1.0), progress)
    if status is not Status.TIMED_OUT or budget.exceeded():
        return status
    try:
        attack(question, search, budget, device=device, seed=seed)
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    return search.run(budget, progress)


def attack(question: Violation, search: Search, budget: Budget, *, device: str = "cpu", seed: int = 0) -> None:
    """Offer the search what projected gradient ascent finds for the targets still open; at most a tenth of the time left, or 10 s.

    A first pass starts from the centres alone, which settles most falsifiable targets at once; the others restart at random, more
    often where a restart is cheap.
    """
    from verifier.attacks.pgd import maximise

    allowed = min(10.0, 0.1 * budget.remaining) if isfinite(budget.deadline) else 10.0
    end = time.monotonic() + allowed
    live = sorted({node.target for node in search.frontier() if question.targets[node.target].inputs is None})
    passes = (0, 100, 4000) if question.splitting == "input" else (0, 16)
    for number, (restarts, target) in enumerate(product(passes, live)):
        wanted = question.targets[target]
        left = end - time.monotonic()
        if search.lower >= 0 or left <= 0:
            return
        low, high = wanted.region.bounding_box()
        points, _ = maximise(
            question.network, low, high, wanted.rows, wanted.offsets, restarts=restarts, steps=100 if restarts > 100 else 60, seed=seed,
            device=device,
            deadline=time.monotonic() + left / (len(passes) * len(live) - number),
        )  # fmt: skip
        inside = np.stack([wanted.region.clip(point) for point in points[:4]])
        search.offer(question.judge(inside, [target] * len(inside)))


def _verdict(question: Violation, search: Search, status: Status, budget: Budget) -> Verdict:
    if search.witness is None:  # decided by bounds alone: the centre of a region gives the other end
        low, high = question.targets[0].region.bounding_box()
        search.offer(question.judge((0.5 * low + 0.5 * high)[None], [0]))
    lower, upper = search.lower, search.upper
    witness = search.witness.point if search.witness is not None else None
    if lower >= 0:
        verdict, status = "sat", Status.DECIDED
    elif upper < 0:
        verdict, status = "unsat", Status.DECIDED
    else:
        verdict = "timed-out" if status is Status.TIMED_OUT else "unknown"
        if question.disputed:
            status = Status.REPLAY_DIFFERS if status is not Status.TIMED_OUT else status
    stats = {"opened": search.opened, "bounded": search.bounded, "open": search.open_pieces, "splitting": question.splitting}
    semantics = "real" if question.envelope is None else "float32"
    bracket = Bracket("max", lower, upper, status, witness, semantics, budget.elapsed, stats)
    sat = verdict == "sat" and witness is not None
    output = question.replay(witness) if witness is not None and sat and question.replay is not None else None
    return Verdict(verdict, bracket, witness if sat else None, output, str(status))
