"""Speed of the solver layer: hot-started linear programs per second, microseconds per safe bound, milliseconds per projection.

    python -m benchmarks.solvers

One thread; half a minute. The programs are random with feasible rows; between solves three variables get new bounds (as a search
does), or the cost changes.
"""

from collections.abc import Callable
from math import inf
from time import perf_counter

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
    """(solves per second, iterations per solve), each solve after an edit."""
    generator = np.random.default_rng(1)
    session.solve()
    start, solves, iterations = perf_counter(), 0, 0
    while perf_counter() - start < seconds:
        edit(session, generator)
        iterations += session.solve().iterations
        solves += 1
    return solves / (perf_counter() - start), iterations / solves


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
    """The best of three averages."""
    best = inf
    for _ in range(3):
        start = perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, (perf_counter() - start) / repeats)
    return best * 1e6


def main() -> None:
    """Print the table."""
    backends = [name for name in ("highs", "gurobi") if not available()[name]]
    print(f"{'rows x variables':18} {'backend':9} {'LP/s, bounds':>13} {'iterations':>11} {'LP/s, cost':>11} {'iterations':>11}")
    for rows, variables, density in SIZES:
        program = linear_program(rows, variables, density)
        for name in backends:
            figures: list[float] = []
            for edit in (new_bounds, new_cost):
                with open_session(program, name) as session:
                    figures += rate(session, edit)
            print(f"{rows:4} x {variables:<11} {name:9} {figures[0]:13.0f} {figures[1]:11.1f} {figures[2]:11.0f} {figures[3]:11.1f}")
    print(f"\n{'rows x variables':18} {'entries':>8} {'safe_bound us':>14} {'exact us':>10} {'objective - bound':>18}")
    for rows, variables, density in SIZES:
        program = linear_program(rows, variables, density)
        with open_session(program, "highs") as session:
            solution = session.solve()
        quick = microseconds(lambda p=program, s=solution: safe_bound(p, s.row_duals), 300)
        exact = microseconds(lambda p=program, s=solution: exact_safe_bound(p, s.row_duals), 10)
        gap = (solution.objective or 0.0) - solution.safe_bound
        print(f"{rows:4} x {variables:<11} {program.matrix.nnz:8} {quick:14.0f} {exact:10.0f} {gap:18.1e}")
    print(f"\n{'projection':18} {'backend':9} {'cold ms':>9} {'hot ms':>9} {'safe_bound us':>14} {'objective - bound':>18}")
    for rows in (30, 100):
        program = projection_program(rows)
        for name in ("auto", "clarabel"):
            with open_session(program, name) as session:
                used, solution = session.name, session.solve()
                hot, _ = rate(session, new_side)
            cold = microseconds(lambda p=program, n=name: open_session(p, n).solve(), 10) / 1e3
            quick = microseconds(lambda p=program, s=solution: safe_bound(p, s.row_duals), 300)
            gap = (solution.objective or 0.0) - solution.safe_bound
            print(f"{rows:4} x {64:<11} {used:9} {cold:9.2f} {1e3 / hot:9.2f} {quick:14.0f} {gap:18.1e}")


if __name__ == "__main__":
    main()
