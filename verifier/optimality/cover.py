"""Largest flow and lightest vertex cover of a weighted bipartite graph, in integers (König's theorem).

A flow sends at most its capacity out of each vertex, along edges only. A cover is a set of vertices that touches every edge; its weight
is the sum of their capacities. Every flow is at most every cover, and the largest flow equals the lightest cover.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from problems.errors import InputError
from problems.maps import Array

# Flows are computed by a compiled solver in 32-bit integers.
LARGEST = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Cover:
    """pairs (m, 2): the edges that carry flow, amounts (m,) how much; left (A,) and right (B,): the vertices of the cover.

    The sum of the amounts is the weight of the cover: each proves the other optimal.
    """

    pairs: Array
    amounts: Array
    left: Array
    right: Array

    @property
    def value(self) -> int:
        return int(self.amounts.sum())


def capacities(left: int, right: int, *, equal: bool) -> tuple[int, int]:
    """The capacity of a vertex on either side: 1 and 1, or such that both sides weigh the same (`equal`)."""
    common = gcd(left, right)
    return (right // common, left // common) if equal else (1, 1)


def solve(edges: Array, capacity: tuple[int, int]) -> Cover:
    """The largest flow and the lightest cover.

    edges (A, B) bool; capacity: of every vertex on the left, of every vertex on the right, positive. What is returned was checked: the
    flow keeps to the capacities and to the edges, the cover touches every edge, and both weigh the same. Raises InputError where a side
    weighs more than 32 bits hold.
    """
    pairs, amounts = _flow(edges, capacity)
    left, right = _cover(edges, capacity, pairs, amounts)
    found = Cover(pairs, amounts, left, right)
    _check(found, edges, capacity)
    return found


def _flow(edges: Array, capacity: tuple[int, int]) -> tuple[Array, Array]:
    """Dinic's algorithm from a source through the edges to a sink (with capacities 1 it is that of Hopcroft and Karp)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    a, b = edges.shape
    if max(a * capacity[0], b * capacity[1]) > LARGEST:
        raise InputError("priors", f"cannot be equal for classes of {a} and {b} samples.", "Select fewer samples.")
    rows, columns = np.nonzero(edges)
    source, sink = a + b, a + b + 1
    tails = np.concatenate([np.full(a, source), rows, a + np.arange(b)])
    heads = np.concatenate([np.arange(a), a + columns, np.full(b, sink)])
    limits = np.concatenate([np.full(a, capacity[0]), np.full(len(rows), min(capacity)), np.full(b, capacity[1])]).astype(np.int32)
    graph = csr_array((limits, (tails, heads)), shape=(a + b + 2, a + b + 2))
    flow = maximum_flow(graph, source, sink).flow[:a, a : a + b].tocoo()
    used = flow.data > 0
    return np.stack([flow.row[used], flow.col[used]], axis=1).astype(np.int64), flow.data[used].astype(np.int64)


def _cover(edges: Array, capacity: tuple[int, int], pairs: Array, amounts: Array) -> tuple[Array, Array]:
    """König: vertices on the left that no augmenting path reaches, those on the right that one does."""
    used = np.bincount(pairs[:, 0], weights=amounts, minlength=edges.shape[0])
    left = used < capacity[0]
    right = np.zeros(edges.shape[1], dtype=bool)
    fresh = left.copy()
    while fresh.any():
        right |= edges[fresh].any(axis=0)
        back = np.zeros_like(left)
        back[pairs[right[pairs[:, 1]], 0]] = True
        fresh = back & ~left
        left |= fresh
    return ~left, right


def _check(found: Cover, edges: Array, capacity: tuple[int, int]) -> None:
    """The compiled solvers are not trusted: a flow and a cover of the same weight are both optimal, whoever found them."""
    rows, columns = found.pairs.T
    sent = np.bincount(rows, weights=found.amounts, minlength=edges.shape[0])
    received = np.bincount(columns, weights=found.amounts, minlength=edges.shape[1])
    allowed = edges[rows, columns].all() and (found.amounts > 0).all() and (sent <= capacity[0]).all() and (received <= capacity[1]).all()
    covered = not edges[np.ix_(~found.left, ~found.right)].any()
    weight = int(found.left.sum()) * capacity[0] + int(found.right.sum()) * capacity[1]
    if not (allowed and covered and weight == found.value):
        raise AssertionError("flow and cover of a conflict graph do not agree: please report these data")
