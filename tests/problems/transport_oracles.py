"""Transport balls by linear programming: nothing shared with the engine but the grid's incidence matrix, which has tests of its own."""

import numpy as np
import scipy.sparse as sparse
from hypothesis import strategies as st
from scipy.optimize import linprog

from problems.transport.grid import Grid

Array = np.ndarray


def program(grid: Grid, mu: Array, cap: float = np.inf) -> tuple[sparse.csr_matrix, Array, Array, Array]:
    """(the map from flows forth and back to moved mass, cost of flows, rows <= limits) of mu + A delta in [0, cap]."""
    incidence = grid.incidence
    both = sparse.hstack([incidence, -incidence]).tocsr()
    rows, limits = [-both], [mu]
    if cap < np.inf:
        rows.append(both)
        limits.append(cap - mu)
    return both, np.tile(grid.edges[2], 2), sparse.vstack(rows), np.concatenate(limits)


def largest(grid: Grid, c: Array, mu: Array, radius: float, cap: float = np.inf) -> float:
    """max c.nu over the ball."""
    both, cost, rows, limits = program(grid, mu, cap)
    found = linprog(
        -(both.T @ c), A_ub=sparse.vstack([rows, sparse.csr_matrix(cost)]), b_ub=np.append(limits, radius), bounds=(0, None), method="highs"
    )
    assert found.status == 0
    return float(c @ mu - found.fun)


def shortest(grid: Grid, a: Array, offset: Array, mu: Array, cap: float = np.inf) -> float:
    """min W1(mu, nu) over all images nu with a.nu + offset >= 0 for every row a (M, n) and offset (M,); inf where there is none."""
    both, cost, rows, limits = program(grid, mu, cap)
    wanted = sparse.csr_matrix(-(a @ both))
    found = linprog(
        cost, A_ub=sparse.vstack([rows, wanted]), b_ub=np.append(limits, a @ mu + offset), bounds=(0, None), method="highs"
    )  # fmt: skip
    assert found.status in (0, 2)
    return float(found.fun) if found.status == 0 else np.inf


@st.composite
def grids(draw: st.DrawFn, *, channels: int = 2, side: int = 4) -> Grid:
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    return Grid(draw(st.integers(1, channels)), height, width + (height == width == 1), draw(st.sampled_from(["l1", "l2"])))


@st.composite
def images(draw: st.DrawFn, grid: Grid) -> Array:
    """Pixels in [0, 1], some of them empty, not all."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = draw(st.booleans())
    x = generator.integers(0, 5, grid.size) / 4.0 if coarse else generator.random(grid.size) * (generator.random(grid.size) < 0.6)
    x[draw(st.integers(0, grid.size - 1))] = 0.75
    return x


@st.composite
def functionals(draw: st.DrawFn, grid: Grid) -> Array:
    """Rough, with ties, or flat."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["rough", "ties", "flat"]))
    if kind == "flat":
        return np.full(grid.size, 0.5)
    return generator.normal(size=grid.size) if kind == "rough" else generator.integers(-2, 3, grid.size).astype(float)
