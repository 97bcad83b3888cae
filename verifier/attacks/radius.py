"""The nearest misclassified points that can be found: upper ends of exact radii.

FAB descends from the sample, from samples of other classes, from random points and from around the best points, for every target
class; where nothing is found PGD climbs a ladder of radii. What is left is settled by proof in `witness`.
"""

from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from problems.data import Dataset
from problems.network import Network
from problems.regions.ball import exponent
from problems.regions.box import Box
from verifier.attacks.fab import descend
from verifier.attacks.module import as_module, check_device, one_thread, search_precision
from verifier.attacks.pgd import Reach, ascend, batch_size, check_budget, likely_targets, margin_objective
from verifier.attacks.witness import PROBES, first_errors, float_margins, settle

Array = np.ndarray

MOST_SAMPLES = 256  # searched together
# (retreat, overshoot) of the descents that follow exploration, each from the best points so far.
SETTLING = ((0.97, 1.02), (0.99, 1.005), (0.997, 1.002))
PAST = 1 + 1e-7
CHECKING = 0.1  # share of the time kept for the final checks
RUNGS = 24  # of the ladder of radii; each doubles the radius


def nearest(
    network: Network,
    x: Array,
    labels: Array,
    *,
    norm: float,
    box: Box | tuple[Array, Array] | None = None,
    steps: int = 50,
    restarts: int = 5,
    seed: int = 0,
    device: str = "cpu",
    deadline: float | None = None,
) -> tuple[Array, Array]:
    """For every sample a near point at which z_k >= z_label for some k != label.

    x (N, n) float64 inside the box (a Box, or (lower (n,), upper (n,)), or None for R^n), labels (N,); `steps` per descent, of which there
    are restarts + 4. Returns (points (N, n), distances (N,)): float64 points in the box whose margin is proved to be >= 0 in real
    arithmetic, and their distances from the samples rounded up, so upper bounds on the exact radii. inf (and the sample itself) where
    nothing was found: that proves nothing. A sample that is already misclassified comes back with distance 0. `deadline` is an instant of
    time.monotonic().
    Raises DataError, RegionError (samples, labels, box, norm), NetworkError (one output) and InputError (device, budgets).
    """
    check_device(device)
    norm = exponent(norm)
    check_budget(steps=steps, restarts=restarts, seed=seed)
    x, labels, lower, upper = _checked(network, x, labels, box)
    points, distances = x.copy(), np.full(len(x), inf)
    for begin in range(0, len(x), MOST_SAMPLES):
        rows = slice(begin, min(begin + MOST_SAMPLES, len(x)))
        end = None
        if deadline is not None:  # an equal share of the time for every sample that is left
            share = (rows.stop - begin) / (len(x) - begin)
            end = monotonic() + (deadline - monotonic()) * share
        search = _Search(network, x[rows], labels[rows], norm, lower, upper, device, seed + begin, steps)
        with one_thread():
            search.run(restarts, None if end is None else end - CHECKING * (end - monotonic()))
            points[rows], distances[rows] = search.settled(end)
    return points, distances


def _checked(network: Network, x: Array, labels: Array, box: Box | tuple[Array, Array] | None) -> tuple[Array, Array, Array, Array]:
    data = Dataset(x, labels)
    data.check_fits(network)
    region = Box.whole_space(network.input_size) if box is None else box if isinstance(box, Box) else Box(*box)
    data.check_inside(region)
    return data.x, data.y, *region.inner


@dataclass(eq=False)
class _Search:
    """The best points of a group of samples, per target class."""

    network: Network
    x: Array
    labels: Array
    norm: float
    lower: Array
    upper: Array
    device: str
    seed: int
    steps: int

    def __post_init__(self) -> None:
        self.precision = search_precision(self.network)
        self.module = as_module(self.network, self.device, self.precision)
        self.judge = as_module(self.network, self.device)
        logits = self.network.forward(self.x)
        self.margins = float_margins(logits, self.labels)
        self.targets = likely_targets(logits, self.labels)
        self.predicted = logits.argmax(1)
        self.points = np.repeat(self.x[:, None], self.targets.shape[1], axis=1)
        self.distances = np.full(self.targets.shape, inf)
        self.generator = np.random.default_rng(self.seed)

    def run(self, restarts: int, deadline: float | None) -> None:
        count = self.targets.shape[1]
        todo = np.flatnonzero(self.margins < 0)
        if not len(todo):
            return
        everything = (np.repeat(todo, count), np.tile(np.arange(count), len(todo)))
        self._descend(everything, self.x[everything[0]], 0.9, 1.05, deadline)
        self._climb(todo, deadline)
        for restart in range(restarts):
            pairs = everything if restart < 2 else self._leading(todo, 3)
            kinds = (self._other_samples(pairs, restart // 3), self._shaken(pairs), self._random(pairs))
            starts = kinds[restart % 3]
            self._descend(pairs, starts, 0.9, 1.05, deadline)
        for retreat, overshoot in SETTLING:
            pairs = self._leading(todo, 3)
            self._descend(pairs, self.points[pairs], retreat, overshoot, deadline)

    def settled(self, deadline: float | None) -> tuple[Array, Array]:
        """The best point of every sample, moved onto the error set in exact arithmetic: (points (N, n), distances (N,))."""
        points, distances = self.x.copy(), np.full(len(self.x), inf)
        order = np.argsort(self.distances, axis=1, kind="stable")
        left = np.arange(len(self.x))
        judge = as_module(self.network)
        for place in range(order.shape[1]):  # the next best target where exact arithmetic refuses the best
            columns = order[left, place]
            wrong = self.margins[left] >= 0
            kept = wrong | np.isfinite(self.distances[left, columns])
            left, columns, wrong = left[kept], columns[kept], wrong[kept]
            found = np.where(wrong[:, None], self.x[left], self.points[left, columns])
            batch = batch_size(self.network, "cpu", PROBES[0])
            shares = first_errors(judge, self.x[left], found, self.labels[left], self.lower, self.upper, batch)
            points[left], distances[left] = settle(
                self.network, self.x[left], found, shares, self.labels[left], self.norm, self.lower, self.upper, deadline
            )
            left = left[distances[left] == inf]
        return points, distances

    def _descend(self, pairs: tuple[Array, Array], starts: Array, retreat: float, overshoot: float, deadline: float | None) -> None:
        samples, columns = pairs
        step = batch_size(self.network, self.device)
        for begin in range(0, len(samples), step):
            if deadline is not None and monotonic() >= deadline:
                return
            rows, places = samples[begin : begin + step], columns[begin : begin + step]
            origins, start = self._tensor(self.x[rows]), self._tensor(starts[begin : begin + step])
            labels, targets = self._tensor(self.labels[rows]), self._tensor(self.targets[rows, places])
            found, distances = descend(
                self.module,
                origins.to(self.precision),
                start.to(self.precision),
                labels,
                targets,
                self.norm,
                self._tensor(self.lower).to(self.precision).expand_as(origins),
                self._tensor(self.upper).to(self.precision).expand_as(origins),
                steps=self.steps,
                retreat=retreat,
                overshoot=overshoot,
                deadline=deadline,
            )
            self._keep(rows, places, *self._pulled_in(origins, found.to(origins.dtype), distances, labels, targets))

    def _pulled_in(self, origins: Tensor, found: Tensor, distances: Tensor, labels: Tensor, targets: Tensor) -> tuple[Array, Array]:
        """Bisection on the segment from the origin, in float64: (points, distances)."""
        lower, upper = self._tensor(self.lower), self._tensor(self.upper)

        def at(shares: Tensor) -> Tensor:
            return torch.maximum(torch.minimum(origins + shares[:, None] * (found - origins), upper), lower)

        def wrong(shares: Tensor) -> Tensor:
            logits = self.judge(at(shares))
            return (logits.gather(1, targets[:, None]) >= logits.gather(1, labels[:, None]))[:, 0]

        met = distances.isfinite()
        low, high = torch.zeros_like(origins[:, 0]), torch.ones_like(origins[:, 0])
        with torch.no_grad():
            for past in (1e-6, 1e-5, 1e-4, 1e-3):  # where float32 saw an error and float64 does not, go on a little
                short = met & ~wrong(high)
                if not bool(short.any()):
                    break
                high = torch.where(short, 1 + past, high)
            met &= wrong(high)
            for _ in range(20):
                middle = (low + high) / 2
                hit = wrong(middle)
                low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        # A little past the boundary: the float64 of another library must find an error there as well.
        points = at(high * PAST)
        lengths = torch.linalg.vector_norm(points - origins, ord=self.norm, dim=1)
        return points.cpu().numpy(), torch.where(met, lengths, inf).cpu().numpy()

    def _keep(self, rows: Array, places: Array, points: Array, distances: Array) -> None:
        better = distances < self.distances[rows, places]
        self.points[rows[better], places[better]] = points[better]
        self.distances[rows[better], places[better]] = distances[better]

    def _leading(self, samples: Array, count: int) -> tuple[Array, Array]:
        """(samples, columns) of the `count` targets with the nearest points so far."""
        order = np.argsort(self.distances[samples], axis=1, kind="stable")[:, :count]
        return np.repeat(samples, order.shape[1]), order.ravel()

    def _other_samples(self, pairs: tuple[Array, Array], rank: int) -> Array:
        """Starts: the sample predicted as the target class that is nearest but for `rank` others; random where there is none."""
        starts = self._random(pairs)
        for label in np.unique(self.predicted):
            candidates = self.x[self.predicted == label]
            wanted = np.flatnonzero(self.targets[pairs] == label)
            if not len(wanted):
                continue
            origins = self.x[pairs[0][wanted]]
            gaps = np.stack([np.linalg.norm(origins - candidate, ord=self.norm, axis=1) for candidate in candidates], axis=1)
            starts[wanted] = candidates[np.argsort(gaps, axis=1, kind="stable")[:, min(rank, len(candidates) - 1)]]
        return starts

    def _random(self, pairs: tuple[Array, Array]) -> Array:
        """Starts at random directions from the sample, half to once as far as the best point known."""
        origins = self.x[pairs[0]]
        direction = self.generator.normal(size=origins.shape)
        reach = self.distances[pairs]
        met = np.isfinite(reach)
        known = np.where(met, reach, np.median(reach[met]) if met.any() else 1.0)
        length = known * self.generator.uniform(0.5, 1.0, len(reach)) / np.linalg.norm(direction, ord=self.norm, axis=1)
        return np.clip(origins + direction * length[:, None], self.lower, self.upper)

    def _shaken(self, pairs: tuple[Array, Array]) -> Array:
        """Starts around the best points known: each coordinate moved by up to a third of the largest displacement."""
        shift = self.points[pairs] - self.x[pairs[0]]
        noise = self.generator.uniform(-1, 1, shift.shape) * np.abs(shift).max(axis=1, keepdims=True) / 3
        return np.clip(self.points[pairs] + noise, self.lower, self.upper)

    def _climb(self, todo: Array, deadline: float | None) -> None:
        """PGD on balls of doubling radius for the samples of which no target was reached."""
        generator = torch.Generator().manual_seed(self.seed)
        missing = todo[~np.isfinite(self.distances[todo]).any(axis=1)]
        radius = 1e-2 * np.maximum(1.0, np.abs(self.x).max(initial=0.0)) * (self.x.shape[1] if self.norm == 1 else 1)
        for _ in range(RUNGS):
            step = batch_size(self.network, self.device)
            for begin in range(0, len(missing), step):
                rows = missing[begin : begin + step]
                if deadline is not None and monotonic() >= deadline:
                    return
                origins = self._tensor(self.x[rows]).to(self.precision)
                reach = Reach.balls(
                    origins,
                    torch.full_like(origins[:, 0], radius),
                    self.norm,
                    self._tensor(self.lower).to(self.precision).expand_as(origins),
                    self._tensor(self.upper).to(self.precision).expand_as(origins),
                )
                found, values = ascend(
                    self.module,
                    reach.random(generator),
                    reach,
                    margin_objective(self._tensor(self.labels[rows])),
                    steps=self.steps,
                    generator=generator,
                    deadline=deadline,
                )
                points, hit = np.clip(found.cpu().numpy().astype(np.float64), self.lower, self.upper), values.cpu().numpy() >= 0
                logits = self.network.forward(points)
                reached = np.take_along_axis(logits, self.targets[rows], 1) >= np.take_along_axis(logits, self.labels[rows, None], 1)
                hit &= reached.any(axis=1)
                distances = np.linalg.norm(points - self.x[rows], ord=self.norm, axis=1)
                self._keep(rows[hit], reached.argmax(1)[hit], points[hit], distances[hit])
            missing = missing[~np.isfinite(self.distances[missing]).any(axis=1)]
            if not len(missing):
                return
            radius *= 2

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.array(values)).to(self.device)
