"""The compiled search (kernel.py) behind Python: arrays packed, rows supplied for networks that are no chains, events told apart."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from problems.maps import Array
from problems.network import Affine, Network
from verifier.bounds.compiled import chain_of
from verifier.bounds.interval import operations
from verifier.bounds.rounding import gamma
from verifier.enumeration.compose import Composer
from verifier.enumeration.frame import Frame

# Programs between two looks at the clock: as many as take some hundredths of a second.
FIRST_PAUSE, PAUSE_SECONDS = 64, 0.05
# Inner points remembered per layer.
POOL = 64


@dataclass(frozen=True, eq=False)
class Found:
    """Leaves: patterns (m, h), vanishing (m, h) bool, points (m, N) of the frame, slacks (m,) of the rows in input space."""

    patterns: Array
    vanishing: Array
    points: Array
    slacks: Array


@dataclass(eq=False)
class CompiledSearch:
    """Leaves after `start` (a pattern, or None), within `prefix` (signs, 0 where free), over the first `stop` neurons (None: all).

    `advance` returns leaves, a prefix of signs whose subtree the exact search has to take over, None for a pause, or False at the end.
    seconds: processor time in compiled code, and in compose.py for networks that are no chains.
    """

    network: Network
    frame: Frame
    start: Array | None = None
    prefix: Array | None = None
    stop: int | None = None
    size: int = 4096
    late: Callable[[], object] = lambda: None  # not asked: `advance` comes back after a while
    seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        from solvers.dense import Polytope, room_for
        from verifier.enumeration import kernel, kernel_arrays, kernel_rows  # compiled: loaded when first used

        self._kernel: Any = kernel
        self._arrays: Any = kernel_arrays
        self._rows: Any = kernel_rows
        self._composer = Composer(self.network, self.frame)
        h, n, own = self.network.neurons, self.frame.variables, len(self.frame.offsets)
        self.end = h if self.stop is None else self.stop
        parts = self._composer.layout.slices
        self._first = np.array([0, *(part.stop for part in parts)])
        self._leaves = kernel_arrays.Leaves(
            np.empty((self.size, self.end), np.int8),
            np.empty((self.size, self.end), np.bool_),
            np.empty((self.size, n)),
            np.empty(self.size),
        )
        self._polytope, self._wider = (self._empty(own + h, k) for k in (n, n + 1))
        self._rooms = room_for(n, own + h), room_for(n + 1, own + h)
        assert isinstance(self._polytope, Polytope)
        self._stretch = FIRST_PAUSE
        self._tree = self._root(h, n, own)
        self._layers = self._packed()
        self._pool = self._empty_pool()

    def _empty(self, rows: int, variables: int) -> Any:
        from solvers.dense import Polytope

        rows = max(rows, 1)
        polytope = Polytope(
            np.zeros((rows, variables)), np.zeros(rows), np.zeros(rows), np.zeros(rows), np.zeros(variables), np.zeros(variables),
            np.zeros(variables),
        )  # fmt: skip
        n, own = self.frame.variables, len(self.frame.offsets)
        polytope.rows[:own, :n], polytope.offsets[:own] = self.frame.rows, self.frame.offsets
        polytope.lower[:n], polytope.upper[:n] = self.frame.lower, self.frame.upper
        polytope.reach[:n] = self._composer.reach
        polytope.sizes[:own] = (np.abs(self.frame.rows) @ self._composer.reach + np.abs(self.frame.offsets)) * (1.0 + 1e-12)
        return polytope

    def _root(self, h: int, n: int, own: int) -> Any:
        rows = max(own + h, 1)
        none = np.zeros(h, np.int8)
        layer_of = np.repeat(np.arange(len(self._first) - 1), np.diff(self._first))
        shared = np.abs(self.frame.matrix).sum(axis=1)  # how many variables move an input: each counts with its share
        weights = (np.abs(self.frame.matrix) / np.maximum(shared, 1.0)[:, None]).sum(axis=0)
        point = self.frame.start()
        slack = np.zeros(rows)
        slack[:own] = self.frame.rows @ point + self.frame.offsets
        norms = np.ones(rows)
        norms[:own] = np.sqrt(self.frame.rows**2 @ weights)
        at = np.zeros(11, np.int64)
        at[self._arrays.ROWS], at[self._arrays.GIVEN] = own, -1
        at[self._arrays.ON_PATH] = self.start is not None
        return self._arrays.Tree(
            at, np.zeros(h, np.int8), none if self.start is None else np.asarray(self.start, np.int8).copy(),
            none if self.prefix is None else np.asarray(self.prefix, np.int8).copy(), layer_of,
            np.zeros((h, n)), np.zeros(h), np.zeros(h), np.zeros(h), np.zeros(h), norms, weights, point, slack,
            np.zeros(h, np.int64), np.zeros(h, np.int64), np.zeros(h, np.int64), np.zeros(h, np.bool_), np.zeros((h, n)),
            np.zeros(h, np.int8), np.zeros(h, np.int64), np.zeros(n), np.zeros(n + 1), np.zeros((2, n)), np.zeros(rows),
        )  # fmt: skip

    def _empty_pool(self) -> Any:
        layers, words = max(len(self._first) - 1, 1), int(np.diff(self._first).max(initial=1) + 63) // 64
        bits = np.zeros((layers, POOL, words), np.uint64)
        sides = np.zeros((layers, words), np.uint64)
        return self._arrays.Pool(
            np.zeros(layers, np.int64), np.zeros((layers, POOL, self.frame.variables)), bits, bits.copy(), sides, sides.copy(),
            np.zeros(words, np.uint64), np.zeros(words, np.uint64),
        )  # fmt: skip

    def _packed(self) -> Any:
        chain, n = chain_of(self.network), self.frame.variables
        bias_column = n - 1 if self.frame.cone else -1
        layers = len(self._first) - 1
        if chain is None:
            none = np.zeros(0)
            return self._arrays.Layers(self._first, np.zeros(1, np.int64), none, none, none, bias_column, self._apex())
        affine = [node for node in self.network.nodes if isinstance(node, Affine)]
        rounding = np.array([2.0 * gamma(operations(node) + n) for node in affine])
        return self._arrays.Layers(
            self._first, np.asarray(chain.places, np.int64), np.require(chain.weights, np.float64, ["C", "W"]),
            np.require(chain.biases, np.float64, ["C", "W"]), rounding[: max(layers, 1)], bias_column,
            self._apex(),
        )  # fmt: skip

    def _apex(self) -> int:
        """See kernel_arrays.Layers."""
        if not self.frame.cone:
            return 0
        biased = any(node.bias.any() for node in self.network.nodes[:-1] if isinstance(node, Affine))
        return 1 if biased or self.frame.rows[:, -1].any() else 2

    def _supply(self, layer: int) -> None:
        """Put the rows of a ReLU layer in place, composed over the graph."""
        rows = self._composer.layer(layer, self._tree.pattern)
        part = self._composer.layout.slices[layer]
        self._tree.coefficients[part], self._tree.constants[part] = rows.coefficients, rows.constants
        for j, error in zip(range(part.start, part.stop), rows.error.tolist(), strict=True):
            self._rows.settle_row(self._tree, self._polytope, j, error)

    def advance(self, programs: int | None = None) -> Found | Array | bool | None:
        """See the class; comes back after about so many linear programs, or after about PAUSE_SECONDS."""
        kernel, arrays, tree = self._kernel, self._arrays, self._tree
        began = time.thread_time()
        tree.at[arrays.PAUSE_AT] = tree.at[arrays.PROGRAMS] + (self._stretch if programs is None else programs)
        while True:
            event = kernel.advance(
                tree, self._layers, self._pool, self._polytope, self._rooms[0], self._wider, self._rooms[1], self._leaves, self.end
            )  # fmt: skip
            if event != arrays.ROWS_WANTED:
                break
            layer = int(tree.layer_of[tree.at[arrays.POSITION]])
            self._supply(layer)
            tree.at[arrays.GIVEN] = layer
        spent = time.thread_time() - began
        self.seconds += spent
        if spent > 2.0 * PAUSE_SECONDS:
            self._stretch = max(1, self._stretch // 2)
        elif event == arrays.PAUSE and spent < PAUSE_SECONDS:
            self._stretch *= 2
        if event == arrays.HANDED_OVER:
            self._handed = tree.pattern[: tree.at[arrays.POSITION]].copy()
        return {arrays.FULL: self.taken, arrays.DONE: self._last, arrays.HANDED_OVER: lambda: self._handed, arrays.PAUSE: lambda: None}[
            event
        ]()

    def taken(self) -> Found:
        """The leaves found so far, which are then forgotten here."""
        count = int(self._tree.at[self._arrays.LEAVES])
        self._tree.at[self._arrays.LEAVES] = 0
        return Found(*(part[:count].copy() for part in self._leaves))

    def _last(self) -> Found | bool:
        return self.taken() if self._tree.at[self._arrays.LEAVES] else False

    @property
    def programs(self) -> int:
        """Linear programs solved so far."""
        return int(self._tree.at[self._arrays.PROGRAMS])
