"""Speed of the solver layer: hot-started linear programs per second, microseconds per safe bound, milliseconds per projection.

    OMP_NUM_THREADS=1 python -m benchmarks.solvers

One thread; under a minute. The programs are random with feasible rows; between solves three variables get new bounds (as a search does),
or the cost changes. Times are processor time, so that other work on the machine disturbs them less.
"""

import os
import platform
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from math import inf
from pathlib import Path
from time import process_time

import numpy as np
from scipy.sparse import random_array

from solvers import Program, Session, available, exact_safe_bound, open_session, projection, safe_bound

SIZES = [(50, 100, 0.3), (200, 400, 0.1), (400, 220, 0.02), (400, 220, 0.1)]


def linear_program(rows: int, variables: int, density: float, seed: int = 0) -> Program:
    """A feasible random program on the box [-1, 1]^n with one-sided rows."""
    generator = np.random.default_rng(seed)
    matrix = random_array((rows, variables), density=density, rng=generator, data_sampler=generator.standard_normal)
    inside = generator.uniform(-1, 1, variables)
    return Program(
        cost=generator.standard_normal(variables),
        matrix=matrix,
        row_lower=np.full(rows, -inf),
        row_upper=matrix @ inside + generator.uniform(0, 1, rows),
        lower=np.full(variables, -1.0),
        upper=np.ones(variables),
    )


def projection_program(rows: int, variables: int = 64, seed: int = 0) -> Program:
    """The nearest point to a random one in [0, 1]^n cut by dense rows."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((rows, variables))
    inside = generator.uniform(0, 1, variables)
    return projection(
        generator.uniform(0, 1, variables),
        matrix=matrix,
        row_lower=np.full(rows, -inf),
        row_upper=matrix @ inside + 0.05,
        lower=np.zeros(variables),
        upper=np.ones(variables),
    )


def rate(session: Session, edit: Callable[[Session, np.random.Generator], None], seconds: float = 1.5) -> tuple[float, float]:
    """(solves per second of processor time, iterations per solve), each solve after an edit."""
    generator = np.random.default_rng(1)
    session.solve()
    start, solves, iterations = process_time(), 0, 0
    while process_time() - start < seconds:
        edit(session, generator)
        iterations += session.solve().iterations
        solves += 1
    return solves / (process_time() - start), iterations / solves


def new_bounds(session: Session, generator: np.random.Generator) -> None:
    """Three variables are cut, and the three cut before are set free, so that the program stays about as hard."""
    count = session.program.variables
    session.set_bounds(None, -1.0, 1.0)
    which = generator.integers(0, count, 3)
    below = generator.random(3) < 0.5
    session.set_bounds(which, np.where(below, -1.0, -0.1), np.where(below, 0.1, 1.0))


def new_cost(session: Session, generator: np.random.Generator) -> None:
    """A cost that differs by a tenth."""
    program = session.program
    session.set_cost(program.cost + 0.1 * generator.standard_normal(program.variables))


def new_side(session: Session, generator: np.random.Generator) -> None:
    """One row of a projection moves."""
    row = int(generator.integers(session.program.rows))
    side = float(session.program.row_upper[row])
    session.set_row_bounds([row], -inf, side + 0.01 * float(generator.standard_normal()))


def microseconds(call: Callable[[], object], repeats: int) -> float:
    """Microseconds of processor time: the best of three averages."""
    best = inf
    for _ in range(3):
        start = process_time()
        for _ in range(repeats):
            call()
        best = min(best, (process_time() - start) / repeats)
    return best * 1e6


def cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(*names: str) -> None:
    """Print the head of a Markdown table: the first two columns are words, the others numbers."""
    row(*names)
    row("---", "---", *["---:"] * (len(names) - 2))


def row(*cells: str) -> None:
    """Print a row of it."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables, in Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("highspy", "gurobipy", "clarabel", "numpy", "scipy"))
    print(f"{date.today()}, {cpu()}, {os.cpu_count()} cores, one thread; Python {platform.python_version()}, {versions}\n")
    backends = [name for name in ("highs", "gurobi") if not available()[name]]
    table("rows x variables, entries", "backend", "LP/s, new bounds", "iterations", "LP/s, new cost", "iterations")
    for rows, variables, density in SIZES:
        program = linear_program(rows, variables, density)
        for name in backends:
            figures: list[float] = []
            for edit in (new_bounds, new_cost):
                with open_session(program, name) as session:
                    figures += rate(session, edit)
            size = f"{rows} x {variables}, {program.matrix.nnz}"
            row(size, name, f"{figures[0]:.0f}", f"{figures[1]:.1f}", f"{figures[2]:.0f}", f"{figures[3]:.1f}")
    print()
    table("rows x variables, entries", "duals of", "safe_bound, us", "exact, us", "objective - safe_bound")
    for rows, variables, density in SIZES:
        program = linear_program(rows, variables, density)
        with open_session(program, "highs") as session:
            solution = session.solve()
        quick = microseconds(lambda p=program, s=solution: safe_bound(p, s.row_duals), 300)
        exact = microseconds(lambda p=program, s=solution: exact_safe_bound(p, s.row_duals), 10)
        gap = (solution.objective or 0.0) - solution.safe_bound
        row(f"{rows} x {variables}, {program.matrix.nnz}", "highs", f"{quick:.0f}", f"{exact:.0f}", f"{gap:.1e}")
    print()
    table("projection, rows x variables", "backend", "cold, ms", "hot, ms", "safe_bound, us", "objective - safe_bound")
    for rows in (30, 100):
        program = projection_program(rows)
        for name in ("newton", "clarabel"):
            with open_session(program, name) as session:
                solution = session.solve()
                hot, _ = rate(session, new_side)
            cold = microseconds(lambda p=program, n=name: open_session(p, n).solve(), 10) / 1e3
            quick = microseconds(lambda p=program, s=solution: safe_bound(p, s.row_duals), 300)
            gap = (solution.objective or 0.0) - solution.safe_bound
            row(f"{rows} x {program.variables}", name, f"{cold:.2f}", f"{1e3 / hot:.2f}", f"{quick:.0f}", f"{gap:.1e}")


if __name__ == "__main__":
    main()
