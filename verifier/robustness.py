"""Complete verification: `verify`, from a network and a specification to a verdict.

Quick bounds come first, then an attack, then the search: easy instances end before heavy machinery is loaded.
"""

from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from problems import readers, vnnlib
from problems.errors import InputError, SpecificationError
from problems.maps import Array
from problems.specification import Specification
from problems.tensors import Tensor
from verifier import options
from verifier.bracket import Bracket, Status
from verifier.piecewise import batch_bytes_within
from verifier.property import METHODS, Property
from verifier.schedule import Schedule
from verifier.search.alarm import TimeUp, alarm
from verifier.search.budget import Budget, bytes_of
from verifier.search.checkpoint import Checkpoint
from verifier.search.cluster import opened
from verifier.search.executors import default_workers
from verifier.search.search import Progress, Search
from verifier.search.sharing import Crew
from verifier.search.store import Record, Store
from verifier.violation import Violation

# Seconds that are left for judging one point once the time is up.
LAST_LOOK = 0.2


@dataclass(frozen=True, eq=False)
class Verdict:
    """verdict: sat, unsat, unknown or timed-out; bracket of the largest violation; witness x (n,) with its replayed output; `tensors` are
    those that the specification declares, which say how a witness is written."""

    verdict: str
    bracket: Bracket
    witness: Array | None
    witness_output: Array | None
    reason: str
    tensors: tuple[Tensor, ...] = ()

    @property
    def seconds(self) -> float:
        return self.bracket.seconds


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
    resume: str | Path | None = None,
    executor: Executor | str | None = None,
) -> Verdict:
    """Decide whether the specification can be violated.

    network: Network, torch module, path or bundled name; specification: Specification or path of a VNN-LIB file; timeout in
    seconds, memory in GB. The bracket's value is the largest violation (module `verifier.violation`): unsat iff upper < 0, sat iff
    a witness is verified in exact arithmetic and by replay. What is trusted: IEEE arithmetic, the error bounds of matrix products, and this
    code; no solver's bound is taken without its dual being checked. Raises InputError on bad input.

    workers: processes, started once the work is worth it (default: one per core); executor: where they run instead (anything that follows
    concurrent.futures.Executor, or the address of a Dask cluster, "dask://HOST:PORT"). resume: a file that keeps the search as it goes, and
    that the same call goes on from, after a kill for one; a call that is finished is answered from it at once. Raises StoreError where
    the file cannot be used.
    """
    options.check(
        timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics
    )  # fmt: skip
    if method not in METHODS:
        raise InputError("method", f"{method!r} is not known.", f"Choose one of {', '.join(METHODS)}.")
    budget = Budget(timeout, bytes_of(memory))
    try:
        with alarm(budget):
            asked = _property(network, specification, method, solver, semantics)
            question = asked.violation
            question.batch_bytes = batch_bytes_within(bytes_of(memory))
            fingerprint = asked.fingerprint(seed=seed, device=device) if resume is not None else ""
    except TimeUp:
        nothing = Bracket("max", -inf, inf, Status.TIMED_OUT, None, semantics, budget.elapsed)
        return Verdict("timed-out", nothing, None, None, str(Status.TIMED_OUT))
    search = Search(asked.question, batch=asked.batch)
    count = workers or default_workers()
    with opened(executor, budget.remaining) as pool:
        crew = Crew(asked if pool is None else asked.portable(), count, pool)
        schedule = Schedule(
            question, search, budget, crew, workers=count, far=pool is not None, device=device, seed=seed, progress=progress
        )  # fmt: skip
        if resume is None:
            return _verdict(question, search, schedule.run(), budget)
        with Store(resume, run=fingerprint) as store:
            return _kept(question, search, budget, store, schedule)


def _kept(question: Violation, search: Search, budget: Budget, store: Store, schedule: Schedule) -> Verdict:
    """The answer that an earlier call has left, or that of the work, gone on with from where an earlier call has left it."""
    checkpoint = Checkpoint(store)
    answer = checkpoint.answer()
    if answer is not None:
        return _recorded(answer, budget, _tensors(question))
    state = checkpoint.load()
    if state is not None:
        search.restore(state)
        schedule.stage = state["extra"]
    schedule.checkpoint, schedule.lanes = checkpoint, Checkpoint(store, "lanes/")
    schedule.kept = schedule.lanes.load()
    status = schedule.run()
    verdict = _verdict(question, search, status, budget)
    if status.finished or status is Status.UNDECIDED or verdict.bracket.status is Status.DECIDED:
        checkpoint.finish(_record(verdict))
    else:
        checkpoint.leave(search)
    return verdict


def _property(network: Any, specification: Any, method: str, solver: str, semantics: str) -> Property:
    net = readers.load(network)
    if not isinstance(specification, Specification | str | Path):
        raise SpecificationError("specification", f"an object of type {type(specification).__name__}.", "Give a Specification or a path.")
    spec = specification if isinstance(specification, Specification) else vnnlib.read(specification)
    spec.check_network(net)
    return Property(net, spec, method, solver, semantics)


def _verdict(question: Violation, search: Search, status: Status, budget: Budget) -> Verdict:
    if search.witness is None:  # decided by bounds alone: the centre of a region gives the other end
        low, high = question.targets[0].region.bounding_box()
        with suppress(TimeUp), alarm(Budget(LAST_LOOK if status in (Status.TIMED_OUT, Status.INTERRUPTED) else None), grace=0.0):
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
    return Verdict(verdict, bracket, witness if sat else None, output, str(status), _tensors(question))


def _record(verdict: Verdict) -> Record:
    """The verdict as the store keeps it."""
    bracket = verdict.bracket
    ends = {"lower": bracket.lower, "upper": bracket.upper, "status": bracket.status.name, "witness": bracket.witness}
    rest = {"semantics": bracket.semantics, "stats": dict(bracket.stats), "output": verdict.witness_output, "reason": verdict.reason}
    return {"verdict": verdict.verdict} | ends | rest


def _tensors(question: Violation) -> tuple[Tensor, ...]:
    return () if question.specification is None else question.specification.tensors


def _recorded(record: Record, budget: Budget, tensors: tuple[Tensor, ...]) -> Verdict:
    """The verdict that an earlier call has left."""
    witness, output = (None if record[name] is None else np.array(record[name]) for name in ("witness", "output"))
    bracket = Bracket(
        "max", record["lower"], record["upper"], Status[record["status"]], witness, record["semantics"], budget.elapsed, record["stats"]
    )  # fmt: skip
    return Verdict(record["verdict"], bracket, witness if record["verdict"] == "sat" else None, output, record["reason"], tensors)
