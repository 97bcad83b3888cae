"""Exact Lipschitz constants: `lipschitz`, from a network and a region to a bracket (THEORY.md L1)."""

from math import comb, inf
from typing import Any

import numpy as np

from problems import readers
from problems.errors import InputError, RegionError
from problems.network import Network
from problems.regions import Ball, Box
from problems.regions.base import Region
from verifier import options
from verifier.bracket import Bracket, Status
from verifier.piecewise import Target
from verifier.search.budget import Budget
from verifier.search.question import Witness
from verifier.search.search import Progress, Search
from verifier.steepness.baselines import norm_product
from verifier.steepness.by_cells import Cells, enumerate_cells
from verifier.steepness.directions import Directions
from verifier.steepness.judge import Judge
from verifier.steepness.objective import Objective, objective_of
from verifier.steepness.question import Steepness, aims_of
from verifier.steepness.sampling import climb, sample

METHODS = ("auto", "cells", "search", "milp")
# Enumeration comes first where there can be no more cells than this (Zaslavsky's bound for all open neurons), and is given up for the
# search after so many cells: a compiled enumeration passes through them in about a second.
CELLS_POSSIBLE, CELLS_AT_ONCE = 2.0**22, 2**16
SECONDS_AT_ONCE = 10.0
# In balls of the 2-norm cells take conic programs, thousands of times the work.
CELLS_POSSIBLE_IN_BALLS = 2.0**10


def lipschitz(
    network: Any,
    region: Region | None = None,
    *,
    input_norm: float | str,
    of: str,
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
) -> Bracket:
    """The Lipschitz constant over the region (all of R^n if None), the input measured in the norm 1, 2 or inf.

    network: Network, torch module, path or bundled name. of: "output:K" (the value of output K), "pair:K,Y" (output K minus output Y),
    "margin:Y" (the largest other output minus output Y), or "vector:1|2|inf" (all outputs, in that norm: the largest operator norm of a
    Jacobian). On a region of lower dimension only slopes along it count.

    The upper end is proved: every activation pattern that is not proved to have no interior in the region counts. The lower end is the
    norm of the gradient at the witness, a point that lies, in exact arithmetic, inside a full cell. tolerance: relative gap at which
    to stop. timeout in seconds, memory in GB: when they end the bracket reached is returned. stats: `bounds` lists the norm product, the
    interval bound, the quadratic bound of the whole region ("relaxation") and the search's; `method`, `cells` (of an enumeration),
    `opened` (pieces of a search), `kernel_seconds` (in compiled code), and for method "milp" `claimed`, the solver's own unproved value.

    method: "auto" starts with the bounds of the whole region, enumerates where cells are few, and searches elsewhere; "cells" enumerates,
    "search" searches, "milp" poses the question as mixed-integer programs (norms 1 and inf), as an independent check.

    What is trusted: IEEE arithmetic, the error bounds of matrix products, and this code; a solver only through checked duals. `workers`
    and `device` are taken for uniformity and change nothing. Raises InputError on bad input.
    """
    options.check(
        timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics
    )  # fmt: skip
    if method not in METHODS:
        raise InputError("method", f"{method!r} is not known.", f"Choose one of {', '.join(METHODS)}.")
    if semantics != "real":
        raise InputError("semantics", "float32 networks have no slopes: rounding makes them steps.", "Use the semantics real.")
    budget = Budget(timeout, None if memory is None else memory * 1e9)
    net = readers.load(network)
    where = Box.whole_space(net.input_size) if region is None else region
    if where.dimension != net.input_size:
        raise RegionError("region", f"has {where.dimension} inputs, network {net.name} has {net.input_size}.")
    objective = objective_of(net, of, input_norm, Directions.of(where))
    if objective.directions.dimension <= 0:
        point = np.clip(0.0, *where.bounding_box())
        nothing = dict.fromkeys(("norm_product", "interval", "relaxation", "search"), 0.0)
        stats = {"method": method, "bounds": nothing, "opened": 0, "bounded": 0, "cells": None, "kernel_seconds": 0.0}
        return Bracket("max", 0.0, 0.0, Status.CLOSED, where.clip(point), "real", budget.elapsed, stats, ("The region is one point.",))
    with np.errstate(over="ignore", invalid="ignore"):
        return _Run(net, where, objective, budget, solver=solver, tolerance=tolerance, seed=seed, progress=progress).answer(method)


class _Run:
    """One question on its way from the cheap bounds to the exact answer."""

    def __init__(
        self, network: Network, region: Region, objective: Objective, budget: Budget, *, solver: str, tolerance: float, seed: int,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.network, self.region, self.objective, self.budget = network, region, objective, budget
        self.solver, self.tolerance, self.seed, self.progress = solver, tolerance, seed, progress
        self.judge = Judge(network, region, objective)
        aims = aims_of(self.judge)
        targets = (Target(region, np.zeros((0, network.output_size)), np.zeros(0)),) * len(aims)
        self.question = Steepness(network, targets, judge=self.judge, aims=aims, tolerance=tolerance, solver=solver)
        self.search = Search(self.question, batch=16)
        self.bounds: dict[str, float] = {}
        self.cells: Cells | None = None
        self.status = Status.CLOSED

    def answer(self, method: str) -> Bracket:
        self.bounds["norm_product"] = norm_product(self.network, self.objective)
        few = method == "cells" or (method == "auto" and self._few_cells())
        self.search.offer(sample(self.judge, seed=self.seed) if few else self._first_witness())
        self.question.root_iterations = 0 if few else self.question.root_iterations
        self._root()
        if method == "milp":
            return self._as_program()
        if few and (method == "cells" or not self._closed()):
            self._enumerate(inf if method == "cells" else CELLS_AT_ONCE)
            if method == "cells" or self._closed() or self.budget.exceeded():
                return self._bracket("cells")
            self.search.offer(self._first_witness())
        self.status = self.search.run(self.budget, self.progress)
        return self._bracket("search")

    def _as_program(self) -> Bracket:
        """The independent check: a search of its own, which takes nothing from the other but the first witness and the neurons' bounds."""
        from verifier.steepness.milp import WholeProgram

        whole = WholeProgram(self.question, solver=self.solver)
        search = Search(whole, batch=1)
        search.offer(self.search.witness)
        self.status = search.run(self.budget, self.progress)
        search.offer(whole.propose([], search.lower))  # the last piece's
        whole.close_sessions()
        self.search = search
        return self._bracket("milp", whole.summary())

    def _first_witness(self) -> Witness | None:
        seconds = min(1.0, max(0.05, 0.1 * self.budget.remaining)) if self.budget.timeout is not None else 1.0
        return climb(self.judge, seed=self.seed, seconds=seconds)

    def _root(self) -> None:
        """Bounds of the whole region: the interval bound, and the search's first."""
        self.search.start(self.budget)
        self.bounds["interval"] = self.question.interval
        self.bounds["relaxation"] = self.search.upper

    def _closed(self) -> bool:
        return self.question.finished(self.lower, self.upper)

    @property
    def lower(self) -> float:
        return self.search.lower

    @property
    def upper(self) -> float:
        upper = self.search.upper
        if self.cells is not None and self.cells.complete:
            upper = min(upper, max(self.cells.upper, self.lower))
        return max(upper, self.lower)

    def _few_cells(self) -> bool:
        """Whether enumeration comes first: by the number of cells that so many hyperplanes can cut out of so many dimensions.

        Not for margins on bounded regions: there every cell needs a program per competitor, and the search bounds them away.
        """
        if self.objective.label is not None and self.question.bounded:
            return False
        open_neurons, dimension = self.question.open_at_first_sight(), self.objective.directions.dimension
        total = sum(comb(open_neurons, j) for j in range(min(dimension, open_neurons) + 1))
        round_region = isinstance(self.region, Ball) and self.region.norm == 2
        return total <= (CELLS_POSSIBLE_IN_BALLS if round_region else CELLS_POSSIBLE)

    def _enumerate(self, most: float) -> None:
        budget = self.budget
        if most < inf and self.question.bounded:  # something else is left to try
            seconds = min(SECONDS_AT_ONCE, 0.3 * budget.remaining)
            budget = Budget(seconds, budget.memory, budget.interrupt)
        self.cells = enumerate_cells(
            self.judge, budget, tolerance=self.tolerance, excluded=self.question.excludes, witness=self.search.witness, most=most,
            solver=self.solver,
        )  # fmt: skip
        self.search.offer(self.cells.witness)
        self.status = self.cells.stopped or (Status.CLOSED if self._closed() else Status.UNDECIDED)

    def _bracket(self, method: str, more: dict[str, Any] | None = None) -> Bracket:
        self.bounds["search"] = self.upper
        status = Status.CLOSED if self._closed() else self.status
        witness = self.search.witness
        lower = max(self.lower, 0.0)
        notes: tuple[str, ...] = ()
        if witness is None:
            notes = ("No point was verified to lie inside a cell; the lower end 0 holds of every network.",)
        stats: dict[str, Any] = {
            "method": method,
            "bounds": dict(self.bounds),
            "opened": self.search.opened,
            "bounded": self.search.bounded,
        }
        stats["cells"] = None if self.cells is None else self.cells.cells
        stats["kernel_seconds"] = self.question.kernel_seconds + (0.0 if self.cells is None else self.cells.kernel_seconds)
        if status is Status.UNDECIDED and not self.objective.exact_per_cell:
            notes += (
                f"The norm of one cell is hard to compute exactly for {self.network.input_size} inputs: it is bounded on both sides.",
            )
        low, high = self.region.bounding_box()
        point = self.region.clip(np.clip(0.0, low, high)) if witness is None else witness.point
        upper = max(self.upper, lower)
        return Bracket("max", lower, upper, status, point, "real", self.budget.elapsed, stats | (more or {}), notes)
