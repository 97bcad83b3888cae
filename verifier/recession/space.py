"""Cells of unbounded regions as a stream, from bounded pieces away from infinity and away from the apex.

x = y / t makes R^n the part t > 0 of a cone, on which the network with its biases multiplied by t is homogeneous. The boundary of the box
|y_i| <= s_i, 0 <= t <= 1 cuts every ray of that cone once: on t = 1 lie the x of a box, on y_j = +-s_j those beyond its side. Each of these
2n + 1 pieces is a bounded box with one side of width zero, on which nothing is degenerate that was not so before; at the apex, where
all rows vanish, no cell could be proved empty in floats. Finite sides of the region are neurons x_i - lower_i with the sign +1.

Without biases all cells are cones, and the faces of the box |x_i| <= s_i are enough.

A cell that shows on several pieces is counted on one: the piece that holds its point nearest to the origin, or, for
cones, the direction that is farthest from all sides. Nothing is remembered. s is
no round number, so that no facet of a cell is likely to lie where two pieces meet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from problems.errors import RegionError
from problems.maps import Array, Dense
from problems.network import Affine, Network, Relu, sequential
from problems.regions import Box
from problems.regions.base import Region
from verifier.enumeration import CellBatch, stream_batches
from verifier.recession.networks import preceded, with_bias_input
from verifier.recession.rows import LinearParts, linear_parts
from verifier.recession.unbounded import hull_weights, normalised
from verifier.search.budget import Budget


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch of cells with their linear parts, and which of them (m,) count here: the others are seen elsewhere too, and count there.

    Which piece counts a cell is decided in floats: counts may be off where a cell lies between pieces to within rounding. Upper bounds
    have to take all cells of a batch. Points are interior before their last rounding.
    """

    cells: CellBatch
    parts: LinearParts
    counts: Array


@dataclass(eq=False)
class Cells:
    """The cells of a region in batches; `complete` once there are no more, False where the budget ended first.

    Every full cell is seen and counts once; patterns that are not proved empty come with certified False and count each time.
    """

    network: Network
    region: Region
    budget: Budget
    complete: bool = False

    def __iter__(self) -> Iterator[Seen]:
        lower, upper = self.region.bounding_box()
        if np.isfinite(lower).all() and np.isfinite(upper).all():
            stream = stream_batches(self.network, self.region, budget=self.budget)
            for batch in stream:
                yield Seen(batch, linear_parts(self.network, batch.patterns), np.ones(len(batch), dtype=bool))
            self.complete = stream.complete
            return
        _check_sides(self.region, lower, upper)
        if (lower == upper).any():
            yield from self._flat(lower, upper)
            return
        s = _scales(self.network.input_size)
        if _homogeneous(self.network, self.region):
            yield from self._pieces(self.network, np.maximum(lower, -s), np.minimum(upper, s))
        else:
            cone, own, forced = _cone(self.network, _sides(self.region))
            yield from self._pieces(cone, np.append(-s, 0.0), np.append(s, 1.0), own, forced)

    def _flat(self, lower: Array, upper: Array) -> Iterator[Seen]:
        """The cells relative to sides of width zero: those of the network on the coordinates that move."""
        moving = lower < upper
        embedding, origin = np.eye(len(lower))[:, moving], np.where(moving, 0.0, lower)
        inner = Cells(preceded(self.network, embedding, origin), Box(lower[moving], upper[moving]), self.budget)
        for seen in inner:
            cells = replace(seen.cells, points=seen.cells.points @ embedding.T + origin)
            yield Seen(cells, linear_parts(self.network, cells.patterns), seen.counts)
        self.complete = inner.complete

    def _pieces(self, network: Network, low: Array, high: Array, own: Array | None = None, forced: Array | None = None) -> Iterator[Seen]:
        """The cells on each face of the box [low, high] that holds no origin: of the network itself, or, with `own`, of its cone."""
        self.complete = True
        carrier = with_bias_input(self.network)
        for axis in range(len(low)):
            for side in {low[axis], high[axis]} - {0.0}:
                face_low, face_high = low.copy(), high.copy()
                face_low[axis] = face_high[axis] = side
                stream = stream_batches(network, Box(face_low, face_high), budget=self.budget, prefix=forced)
                for batch in stream:
                    cells = batch if own is None else _own_cells(batch, own)
                    parts = linear_parts(carrier, cells.patterns)
                    here = _face_of(self._marks(parts, own is None)) == (axis, side > 0)
                    yield Seen(cells, parts.without_last(), here.all(axis=1) | ~cells.certified)
                self.complete &= stream.complete

    def _marks(self, parts: LinearParts, cones: bool) -> Array:
        """The point of each cell whose face counts it, in the scales of the faces: the deepest direction of a cone, or the nearest
        point of a cell as (x, 1)."""
        sides = _sides(self.region)
        rows = parts.rows * np.sign(parts.patterns)[..., None]
        rows = np.concatenate([rows, np.broadcast_to(sides, (len(rows), *sides.shape))], axis=1)
        s = _scales(self.network.input_size)
        return _deepest(rows[..., :-1]) / s if cones else np.concatenate([_nearest(rows) / s, np.ones((len(rows), 1))], axis=1)


def _check_sides(region: Region, lower: Array, upper: Array) -> None:
    """Raise RegionError where a finite side is a number that float64 does not hold."""
    exact = getattr(region, "exact", None)
    if exact is None:
        return
    for j, sides in enumerate(zip(zip(lower.tolist(), upper.tolist(), strict=True), zip(*exact, strict=True), strict=True)):
        if any(a != b for a, b in zip(*sides, strict=True)):
            raise RegionError(f"input {j}", "has a side that is no float64 number, in an unbounded region.", "Give sides that are.")


def _scales(n: int) -> Array:
    """s (n,): irregular, the same in every run."""
    return 2.0 + np.random.default_rng(20251).random(n)


def _homogeneous(network: Network, region: Region) -> bool:
    """Whether all cells are cones: no biases, and sides of the region at zero only, without further rows."""
    lower, upper = region.bounding_box()
    at_zero = np.isin(lower, (0.0, -np.inf)).all() and np.isin(upper, (0.0, np.inf)).all()
    biased = any(node.bias.any() for node in network.nodes if isinstance(node, Affine))
    return bool(at_zero) and not biased and not region.lift(with_norm=False).matrix.shape[0]


def _face_of(points: Array) -> Array:
    """(B, 2): the axis of the face of the cube that each point (B, N) is seen through, and whether on its upper side."""
    axis = np.abs(points).argmax(axis=1)
    return np.stack([axis, np.take_along_axis(points, axis[:, None], axis=1)[:, 0] > 0], axis=1)


def _own_cells(batch: CellBatch, own: Array) -> CellBatch:
    """The cells of the cone's network as cells of the network itself: x = y / t."""
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.nan_to_num(batch.points[:, :-1] / batch.points[:, -1:])
    return replace(batch, patterns=np.ascontiguousarray(batch.patterns[:, own]), points=points, jacobians=None)


def _sides(region: Region) -> Array:
    """(m, n + 1): the finite sides and rows of a region as rows with (x, 1) . row >= 0. Raises RegionError where that is not all."""
    lift = region.lift(with_norm=False)
    if lift.extra or any(cone.limit < np.inf for cone in lift.cones):
        raise RegionError("region", "is unbounded, and not by sides and rows alone.", "Give a box, a ball or a polytope.")
    parts = []
    for rows, lower, upper in ((np.eye(region.dimension), lift.lower, lift.upper), (lift.matrix.toarray(), lift.row_lower, lift.row_upper)):
        parts.append(np.column_stack([rows, -lower])[np.isfinite(lower)])
        parts.append(np.column_stack([-rows, upper])[np.isfinite(upper)])
    return np.concatenate(parts)


def _cone(network: Network, rows: Array) -> tuple[Network, Array, Array]:
    """(network of (y, t), indices of the network's own neurons in it, forced signs (h',)): biases times t, sides as neurons.

    Chains of dense layers stay such chains, which are enumerated fastest: t is handed on as a neuron of every layer.
    """
    weights = _chain(network)
    if weights is None:
        return _general(with_bias_input(network), rows)
    maps: list[Dense] = []
    own: list[int] = []
    forced: list[int] = []
    extra = 0
    for index, (weight, bias) in enumerate(weights):
        last = index == len(weights) - 1
        added = np.zeros((0 if last else 1 + (len(rows) if index == 0 else 0), weight.shape[1] + 1 + extra))
        main = np.zeros((len(weight), added.shape[1]))
        main[:, : weight.shape[1]], main[:, weight.shape[1]] = weight, bias
        if not last:
            added[0, weight.shape[1]] = 1.0
            if index == 0:
                added[1:] = rows
            own += range(len(forced), len(forced) + len(weight))
            forced += [0] * len(weight) + [1] * len(added)
            extra = len(added) - 1
        maps.append(Dense(np.concatenate([main, added])))
    chain = sequential(maps, [np.zeros(m.out_size) for m in maps], name=network.name)
    return chain, np.array(own, dtype=np.int64), np.array(forced, dtype=np.int8)


def _chain(network: Network) -> list[tuple[Array, Array]] | None:
    """(weights, bias) of each layer of a chain of dense layers, or None."""
    result = []
    for index, node in enumerate(network.nodes[1:], start=1):
        if index % 2 == 0 and isinstance(node, Relu) and node.parent == index - 1:
            continue
        if not (index % 2 and isinstance(node, Affine) and node.parents == (index - 1,) and isinstance(node.maps[0], Dense)):
            return None
        result.append((node.maps[0].weights, node.bias))
    return result


def _general(network: Network, rows: Array) -> tuple[Network, Array, Array]:
    """The sides as ReLU nodes that nothing reads, before the network's own."""
    if not len(rows):
        return network, np.arange(network.neurons), np.zeros(network.neurons, dtype=np.int8)
    nodes: list = [network.nodes[0], Affine((0,), (Dense(rows),), np.zeros(len(rows))), Relu(1, len(rows))]
    for node in network.nodes[1:]:
        if isinstance(node, Affine):
            nodes.append(replace(node, parents=tuple(p + 2 if p else 0 for p in node.parents)))
        elif isinstance(node, Relu):
            nodes.append(replace(node, parent=node.parent + 2))
    forced = np.concatenate([np.ones(len(rows), dtype=np.int8), np.zeros(network.neurons, dtype=np.int8)])
    return replace(network, nodes=tuple(nodes)), np.arange(len(rows), len(forced)), forced


def _deepest(rows: Array) -> Array:
    """(B, d): the points of least norm in the convex hulls of the normalised rows (B, m, d): positive multiples of them."""
    scaled, lengths = normalised(rows)
    hull = np.concatenate([scaled, np.where(lengths == 0, 0.0, 1.0)[..., None]], axis=2)
    return (hull_weights(hull)[:, None, :] @ scaled)[:, 0]


def _nearest(rows: Array) -> Array:
    """(B, n): the points of {x : rows (x, 1) >= 0}, rows (B, m, n + 1), that are nearest to the origin, in floats.

    With E = [rows without constants, -constants]^T and f = (0, ..., 0, 1), the residual r = f - E w of min ‖f - E w‖ over w >= 0 gives the
    point -r[:n] / r[n] (Lawson & Hanson 1974, chapter 23.4).
    """
    from solvers.nonnegative import least_squares_batch

    rows = rows * np.append(np.ones(rows.shape[2] - 1), -1.0)
    scaled = np.ascontiguousarray(normalised(rows)[0])
    target = np.zeros((len(rows), rows.shape[2]))
    target[:, -1] = 1.0
    residual = target - (least_squares_batch(scaled, target)[:, None, :] @ scaled)[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(-residual[:, :-1] / residual[:, -1:], nan=0.0, posinf=0.0, neginf=0.0)
