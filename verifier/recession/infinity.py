"""kappa*, the steepest slope at infinity of a network (T4), by the network without its biases.

Write f0 for the network with all biases zero. If v lies in rec(C_D), then f0(v) = J_D v: layer by layer, a pre-activation of f0 at v under
the pattern D is (A^D v)_j, whose sign is D's or zero, so that the ReLU passes it on where D_j = 1 and gives zero where D_j = 0. And every
v in rec(X) lies in rec(C_D) for a full cell D: the points x + t v of a ray stay in X, which is the union of finitely many closed full
cells, so one of them holds x + t v for arbitrarily large t, and being convex and closed it has v as a direction. Therefore

    kappa* = max over pairs (y, k) of max {f0_k(v) - f0_y(v) : v in rec(X), ‖v‖_r <= 1}.

Any direction is a witness, evaluated exactly; and only the cells of f0 matter, which are cones, far fewer than the cells of f. They are
listed by `space.Cells`. On a cone that is steeper than the best direction found, the maximum is a projection or a linear program
(`slope.maximise`), bounded by its dual.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np

from problems.exact import evaluate
from problems.maps import Array
from problems.network import Network
from problems.regions import Box
from problems.rounding import root_down, round_down
from verifier.bounds.rounding import gamma
from verifier.bracket import Bracket, Status
from verifier.recession.networks import preceded, without_biases
from verifier.recession.region import Directions
from verifier.recession.rows import LinearParts, linear_parts
from verifier.recession.slope import above, dual_norm, interior, maximise
from verifier.recession.space import Cells
from verifier.recession.tight import steepest
from verifier.recession.unbounded import cone_rows, normalised
from verifier.search.budget import Budget

_STARTS, _STEPS = 256, 12
# (cone, pair)s whose rows are held at once.
_CHUNK = 8192


def slope_at_infinity(
    network: Network, pairs: Array, norm: float, where: Directions, *, budget: Budget, tolerance: float = 1e-6, seed: int = 0
) -> Bracket:
    """kappa* over the pairs (P, 2) of (y, k): the lower end with its direction (n,) as witness, the upper end proved.

    The upper end is inf where the budget or an interrupt ended the search before all cones were seen.
    """
    n = network.input_size
    if where.bounded:
        return Bracket("max", 0.0, 0.0, Status.CLOSED, np.zeros(n))
    search = _Search(network, pairs, norm, where, tolerance)
    cells = Cells(search.cones, search.region, budget)
    interrupted = False
    try:
        search.climb(np.random.default_rng(seed))
        for seen in cells:
            search.visit(seen.parts)
            search.seen += int(seen.counts.sum())
    except KeyboardInterrupt:
        interrupted = True
    complete = cells.complete and not interrupted
    status = Status.CLOSED if complete else Status.INTERRUPTED if interrupted else budget.exceeded() or Status.UNDECIDED
    upper = max(search.ceiling, search.best) if complete else inf
    if status is Status.CLOSED and upper - search.best > 2 * tolerance * upper:
        status = Status.UNDECIDED
    stats = {"cones": search.seen, "programs": search.programs}
    return Bracket("max", search.best, upper, status, search.direction, seconds=budget.elapsed, stats=stats)


@dataclass(eq=False)
class _Search:
    """The best direction so far, and the largest bound of what was dismissed."""

    network: Network
    pairs: Array
    norm: float
    where: Directions
    tolerance: float

    def __post_init__(self) -> None:
        n, free = self.network.input_size, self.where.free
        # Cones live in the free coordinates; there, norms are the same.
        self.cones = preceded(without_biases(self.network), np.eye(n)[:, free])
        matrix = self.where.cone.matrix[:, free]
        axes = matrix[(matrix != 0).sum(axis=1) == 1]
        self.region = Box(np.where((axes > 0).any(axis=0), 0.0, -inf), np.where((axes < 0).any(axis=0), 0.0, inf))
        self.inner = Directions(type(self.where.cone)(np.zeros(len(free), dtype=bool), matrix, np.zeros(len(free), dtype=bool)))
        self.best, self.direction, self.ceiling = 0.0, np.zeros(n), 0.0
        self.seen = self.programs = 0

    @property
    def threshold(self) -> float:
        """What is not above this cannot widen the bracket beyond the tolerance."""
        return self.best * (1.0 + self.tolerance)

    def climb(self, random: np.random.Generator) -> None:
        """Ascent from random directions: each step goes to the steepest direction of the cone that holds the point."""
        d = len(self.where.free)
        points = np.concatenate([random.standard_normal((_STARTS, d)), np.eye(d), -np.eye(d)])
        for _ in range(_STEPS):
            points = self.region.clip(points)
            points = points / np.maximum(self._sizes(points), 1e-300)[:, None]
            values = self.cones.values(points)
            rises = values[-1][:, self.pairs[:, 1]] - values[-1][:, self.pairs[:, 0]]
            self._offer(points, rises)
            before = [values[self.cones.nodes[i].parent] for i in self.cones.relus]  # type: ignore[union-attr]
            patterns = np.where(np.concatenate([np.zeros((len(points), 0)), *before], axis=1) > 0, 1, -1).astype(np.int8)
            g, error = linear_parts(self.cones, patterns).gradients(self.pairs)
            chosen = np.arange(len(points)), rises.argmax(axis=1)
            points = steepest(g[chosen], error[chosen], self.norm, self.inner.still)[0]

    def visit(self, parts: LinearParts) -> None:
        """All cones of a batch, and all pairs."""
        g, error = parts.gradients(self.pairs)
        sizes = dual_norm(g, error, self.norm)[1]
        tops = np.argsort(-sizes, axis=None)[:64]
        cells, columns = np.unravel_index(tops, sizes.shape)
        points = self.region.clip(steepest(g[cells, columns], error[cells, columns], self.norm, self.inner.still)[0])
        logits = self.cones.forward(points)
        self._offer(points, logits[:, self.pairs[:, 1]] - logits[:, self.pairs[:, 0]])
        self.ceiling = max(self.ceiling, float(sizes[sizes <= self.threshold].max(initial=0.0)))
        cells, columns = np.nonzero(sizes > self.threshold)
        for start in range(0, len(cells), _CHUNK):
            self._contest(parts, cells[start : start + _CHUNK], g, error, columns[start : start + _CHUNK])

    def _contest(self, parts: LinearParts, cells: Array, g: Array, error: Array, columns: Array) -> None:
        """(cone, pair)s whose gradient is steeper than the best direction: first projections, which bound any norm, then exact maxima."""
        from solvers.nonnegative import least_squares_batch

        chosen = parts.select(cells)
        g, error = g[cells, columns], error[cells, columns]
        rows, errors = cone_rows(chosen, self.inner)
        scaled, lengths = normalised(rows)
        lengths = np.where(lengths == 0, 1.0, lengths)
        sizes = np.maximum(np.sqrt((g * g).sum(axis=1)), 1e-300)[:, None]
        multipliers = least_squares_batch(np.ascontiguousarray(scaled), -g / sizes) * sizes
        projected = g + (multipliers[:, None, :] @ scaled)[:, 0]
        bounds = _above(rows, errors, g, error, multipliers / lengths, self.norm)
        if self.norm == 2:
            logits = self.cones.forward(projected)
            self._offer(projected, logits[:, self.pairs[:, 1]] - logits[:, self.pairs[:, 0]])
        for i in np.argsort(-bounds, kind="stable"):
            if bounds[i] > self.threshold and self.norm != 2:
                self.programs += 1
                weights, u = maximise(scaled[i], g[i], self.norm)
                bounds[i] = min(bounds[i], above(rows[i], errors[i], g[i], error[i], weights / lengths[i], self.norm))
                logits = self.cones.forward(u[None])
                self._offer(u[None], logits[:, self.pairs[:, 1]] - logits[:, self.pairs[:, 0]])
            self.ceiling = max(self.ceiling, float(bounds[i]))

    def _sizes(self, points: Array) -> Array:
        order = self.norm if self.norm != inf else np.inf
        return np.linalg.norm(points, ord=order, axis=1)

    def _offer(self, points: Array, rises: Array) -> None:
        """Take over the best of the points (B, d), with rises (B, P) of the pairs along them, if exact arithmetic finds it better."""
        sizes = self._sizes(points)
        outside = (points @ self.inner.cone.matrix.T < -1e-9 * sizes[:, None]).any(axis=1)
        values = np.where((sizes > 0) & ~outside, rises.max(axis=1) / np.where(sizes > 0, sizes, 1.0), 0.0)
        i = int(values.argmax())
        if not values[i] > self.best * (1.0 + 1e-12):
            return
        point = self._inside(points[i])
        label, other = self.pairs[int(rises[i].argmax())]
        logits = evaluate(self.cones, point)
        value = _ratio(logits[other] - logits[label], point, self.norm)
        if value > self.best:
            self.best, self.direction = value, np.zeros(self.network.input_size)
            self.direction[self.where.free] = point

    def _inside(self, point: Array) -> Array:
        """The point (d,), moved into rec(X) where it is not; the origin where that fails."""
        point = self.region.clip(point / max(float(np.abs(point).max()), 1e-300))
        rows = self.inner.rows()
        for candidate in (point, point + 1e-9 * interior(normalised(self.inner.cone.matrix[None])[0][0])):
            exact = [Fraction(v) for v in candidate.tolist()]
            if all(sum(a * b for a, b in zip(row, exact, strict=True)) >= 0 for row in rows):
                return candidate
        return np.zeros(len(point))


def _ratio(rise: Fraction, point: Array, norm: float) -> float:
    """rise / ‖point‖_norm, rounded down; 0 where it is not positive."""
    sizes = [abs(Fraction(v)) for v in point.tolist()]
    if rise <= 0 or not any(sizes):
        return 0.0
    if norm == 2:
        return root_down(rise * rise / sum((v * v for v in sizes), Fraction(0)))
    return round_down(rise / (sum(sizes, Fraction(0)) if norm == 1 else max(sizes)))


def _above(rows: Array, errors: Array, g: Array, g_error: Array, multipliers: Array, norm: float) -> Array:
    """`slope.above` for batches: rows (B, m, d), g (B, d), multipliers (B, m) -> (B,)."""
    share = multipliers[:, None, :]
    total = g + (share @ rows)[:, 0]
    error = g_error + (share @ errors)[:, 0] + gamma(rows.shape[1] + 4) * (np.abs(g) + (share @ np.abs(rows))[:, 0])
    return dual_norm(total, error * (1 + 1e-12), norm)[1]
