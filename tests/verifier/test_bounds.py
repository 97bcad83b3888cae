"""Interval and backward bounds never cut off an exact value; what they should be equal to; the gradient of the bound; rounding."""

from fractions import Fraction
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from tests.verifier.oracles import SEEDS, box_polytope, cells, random_box, random_network, sample
from verifier.bounds import Layout, Lines, Propagation, backward, layer_bounds, optimise, upper_bound
from verifier.bounds.optimise import replay
from verifier.bounds.walk import walk
from verifier.witness import enclose

REGIONS = ["box", "l1", "l2", "linf"]
Array = np.ndarray


def random_region(generator: np.random.Generator, kind: str, dimension: int) -> Region:
    box = random_box(generator, dimension)
    if kind == "box":
        return box
    center = sample(box, 4, int(generator.integers(2**31)))[3]
    norm = {"l1": 1, "l2": 2, "linf": inf}[kind]
    return Ball(center, float(generator.choice([0.0, 0.3, 1.0, 3.0])), norm, box if generator.random() < 0.5 else None)


def points_of(region: Region, generator: np.random.Generator, count: int = 12) -> list[list[Fraction]]:
    """Exact points of the region: clipped samples, and rational mixtures that are no float64 numbers."""
    lower, upper = region.bounding_box()
    tried = region.clip(lower + generator.random((count, region.dimension)).round(int(generator.integers(0, 3))) * (upper - lower))
    inside = [[Fraction(v) for v in point] for point in tried.tolist() if region.contains(point)]
    mixed = [[(2 * a + b) / 3 for a, b in zip(p, q, strict=True)] for p, q in pairwise(inside)]
    return inside + [point for point in mixed if region.contains(point)]


def propagation(network: Network, region: Region, generator: np.random.Generator, parts: int = 3) -> Propagation:
    """A few overlapping pieces of the region, bounded without or with backward propagation."""
    low, high = region.bounding_box()
    cuts = np.sort(low + generator.random((2, parts, len(low))) * (high - low), axis=0)
    cuts[0, 0], cuts[1, 0] = low, high
    pieces = Propagation(network, region, cuts[0], cuts[1])
    return walk(pieces, crown=bool(generator.random() < 0.7), iterations=int(generator.choice([0, 0, 4])))


def inside(pieces: Propagation, points: list[list[Fraction]]) -> list[tuple[int, list[Fraction]]]:
    """(piece, point) wherever a piece contains a point."""
    return [
        (b, x)
        for b in range(pieces.batch)
        for x in points
        if all(low <= v <= high for low, v, high in zip(pieces.lower[b].tolist(), x, pieces.upper[b].tolist(), strict=True))
    ]


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(REGIONS))
def test_every_neuron_is_inside_its_bounds(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    region = random_region(generator, kind, network.input_size)
    pieces = propagation(network, region, generator)
    for b, x in inside(pieces, points_of(region, generator)):
        assert not pieces.empty[b]
        for index, values in enumerate(exact.evaluate_all(network, x)):
            assert all(low <= v <= high for low, v, high in zip(pieces.lowers[index][b], values, pieces.uppers[index][b], strict=True))


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(REGIONS))
def test_any_slopes_and_multipliers_are_sound(seed: int, kind: str) -> None:
    """Slopes in [0, 1] anywhere; multipliers >= 0 on points whose neurons have the signs they are attached to."""
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    region = random_region(generator, kind, network.input_size)
    pieces = propagation(network, region, generator, parts=2)
    points = inside(pieces, points_of(region, generator))
    if not points:
        return
    rows = generator.standard_normal((pieces.batch, 3, network.output_size)) * generator.choice([1e-3, 1.0, 1e3])
    for _ in range(3):
        guide = exact.evaluate_all(network, points[generator.integers(len(points))][1])
        slopes, pushes, signs = {}, {}, {}
        for i in network.relus:
            z = guide[network.nodes[i].parent]  # type: ignore[union-attr]
            signs[i] = np.array([0 if generator.random() < 0.5 else (v > 0) - (v < 0) for v in z])
            shape = (*rows.shape[:2], len(z))
            slopes[i] = generator.random(shape).round(int(generator.integers(0, 4)))
            pushes[i] = generator.exponential(10.0 ** generator.uniform(-2, 3), shape) * signs[i]
        linear = backward(pieces, len(network.nodes) - 1, rows, slopes=slopes, pushes=pushes)
        value, _ = upper_bound(pieces, linear)
        for b, x in points:
            values = exact.evaluate_all(network, x)
            if any(s * v < 0 for i in network.relus for s, v in zip(signs[i].tolist(), values[network.nodes[i].parent], strict=True)):  # type: ignore[union-attr]
                continue
            for s in range(rows.shape[1]):
                true = sum(Fraction(c) * v for c, v in zip(rows[b, s].tolist(), values[-1], strict=True))
                assert true <= value[b, s]
                line = sum(Fraction(c) * v for c, v in zip(linear.coefficients[b, s].tolist(), x, strict=True))
                assert true <= line + Fraction(linear.constant[b, s]) + Fraction(linear.error[b, s])


@settings(max_examples=30)
@given(SEEDS)
def test_decided_neurons_tighten_and_stay_sound(seed: int) -> None:
    """Bounds known beforehand (here: the signs at one point) hold wherever the neurons have those signs."""
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    region = random_box(generator, network.input_size)
    points = points_of(region, generator)
    chosen = exact.evaluate_all(network, points[0])
    z = [v for i in network.relus for v in chosen[network.nodes[i].parent]]  # type: ignore[union-attr]
    signs = np.array([0 if generator.random() < 0.4 else (v > 0) - (v < 0) for v in z])
    known = np.where(signs > 0, 0.0, -inf)[None], np.where(signs < 0, 0.0, inf)[None]
    pieces = walk(Propagation(network, region, region.lower[None], region.upper[None]), known, crown=True)
    if not network.relus:
        return
    lower, upper = pieces.neuron_bounds()
    assert not pieces.empty[0]
    for x in points:
        values = exact.evaluate_all(network, x)
        reached = [v for i in network.relus for v in values[network.nodes[i].parent]]  # type: ignore[union-attr]
        if all(s * v >= 0 for s, v in zip(signs.tolist(), reached, strict=True)):
            assert all(low <= v <= high for low, v, high in zip(lower[0].tolist(), reached, upper[0].tolist(), strict=True))


def test_contradicting_signs_are_proved_empty() -> None:
    network = sequential([Dense(np.array([[1.0]])), Dense(np.array([[1.0]]))], [np.array([-5.0]), np.zeros(1)])
    box = Box(np.zeros(1), np.ones(1))
    pieces = walk(Propagation(network, box, box.lower[None], box.upper[None]), (np.zeros((1, 1)), np.full((1, 1), inf)))
    assert pieces.empty[0]


@settings(max_examples=60)
@given(SEEDS)
def test_where_every_neuron_is_stable_the_bound_is_the_affine_map(seed: int) -> None:
    """On a box inside one linear piece nothing is relaxed: the bounds equal the exact extremes there, up to rounding."""
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    whole = random_box(generator, network.input_size)
    middle = sample(whole, 4, seed)[3]
    region = Box(middle - 1e-3, middle + 1e-3)
    pieces = walk(Propagation(network, region, region.lower[None], region.upper[None]), crown=True)
    if any(lines.unstable.any() for lines in pieces.lines.values()):
        return
    ((piece, logits),) = cells(network, box_polytope(region.lower, region.upper))
    rows = np.concatenate([np.eye(network.output_size), -np.eye(network.output_size)])[None]
    value = upper_bound(pieces, backward(pieces, len(network.nodes) - 1, rows))[0][0]
    scale = 1.0 + max(float(np.abs(pieces.magnitude[i]).max()) for i in pieces.magnitude)
    for k, form in enumerate(logits):
        low, high = piece.range(form)
        assert 0 <= value[k] - high <= 1e-12 * scale
        assert 0 <= value[network.output_size + k] + low <= 1e-12 * scale


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(REGIONS))
def test_optimised_bounds_are_sound_and_never_worse(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    network = random_network(generator)
    region = random_region(generator, kind, network.input_size)
    pieces = propagation(network, region, generator, parts=2)
    rows = generator.standard_normal((pieces.batch, 2, network.output_size))
    last = len(network.nodes) - 1
    plain = optimise(pieces, last, rows, upper_bound, iterations=1)
    best = optimise(pieces, last, rows, upper_bound, iterations=8)
    assert (best.value <= plain.value).all()
    # The parameters that are handed on give the value again, and the linear function belongs to it.
    again = optimise(pieces, last, rows, upper_bound, slopes=best.slopes, iterations=1)
    assert np.allclose(again.value, best.value, rtol=1e-12, atol=1e-12)
    assert np.array_equal(upper_bound(pieces, best.linear)[0], best.value)
    for b, x in inside(pieces, points_of(region, generator)):
        z = exact.evaluate(network, x)
        for s in range(2):
            assert sum(Fraction(c) * v for c, v in zip(rows[b, s].tolist(), z, strict=True)) <= best.value[b, s]


@pytest.mark.parametrize("seed", range(6))
def test_gradient_of_the_bound_by_finite_differences(seed: int) -> None:
    """The pre-activations that `replay` gives are the derivatives that `optimise` claims, for slopes and for multipliers."""
    generator = np.random.default_rng(seed)
    sizes = [3, 4, 4, 2]
    maps = [Dense(generator.standard_normal((b, a))) for a, b in pairwise(sizes)]
    network = sequential(maps, [0.3 * generator.standard_normal(b) for b in sizes[1:]])
    box = Box(-np.ones(3), np.ones(3))
    pieces = walk(Propagation(network, box, box.lower[None], box.upper[None]), crown=True)
    layout = Layout.of(network)
    rows = generator.standard_normal((1, 1, 2))
    slopes = generator.uniform(0.2, 0.8, layout.neurons)
    pushed = generator.uniform(0.1, 0.5, layout.neurons) * generator.choice([-1, 1], layout.neurons)

    def layers(vector: Array) -> dict[int, Array]:
        return {i: vector[None, None, s] for i, s in zip(layout.relus, layout.slices, strict=True)}

    def value(alpha: Array, push: Array) -> float:
        return float(
            upper_bound(pieces, backward(pieces, len(network.nodes) - 1, rows, slopes=layers(alpha), pushes=layers(push)))[0][0, 0]
        )

    linear = backward(pieces, len(network.nodes) - 1, rows, slopes=layers(slopes), pushes=layers(pushed), keep=True)
    activation, _ = replay(pieces, linear, layers(slopes), upper_bound(pieces, linear)[1])
    step, checked = 1e-6, 0
    for i, s in zip(layout.relus, layout.slices, strict=True):
        for j in range(s.stop - s.start):
            unit = np.zeros(layout.neurons)
            unit[s.start + j] = step
            z, a = activation[i][0, 0, j], linear.relu[i][0, 0, j]
            by_slope = (value(slopes + unit, pushed) - value(slopes - unit, pushed)) / (2 * step)
            by_push = (value(slopes, pushed + unit) - value(slopes, pushed - unit)) / (2 * step)
            if pieces.lines[i].unstable[0, j]:
                assert by_slope == pytest.approx(min(a, 0.0) * z, abs=1e-5 * (1 + abs(z)))
                checked += 1
            assert by_push == pytest.approx(z, abs=1e-5 * (1 + abs(z)))
    assert checked > 0


LARGE = 2.0**30


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("seed", range(12))
def test_rounding_is_accounted_for(seed: int, kind: str) -> None:
    """Weights of 2^30 and 1e-8 side by side, and cancellation: float evaluation is wrong by far more than the gaps tested here."""
    generator = np.random.default_rng(1000 + seed)
    first = generator.standard_normal((4, 2)) * generator.choice([LARGE, 1.0, 1e-8], (4, 1))
    first[1] = first[0] * (1 + 2.0**-50)  # nearly parallel: their difference is all rounding
    second = generator.standard_normal((4, 4)) * generator.choice([LARGE, 1.0, 1e-8], (4, 1))
    second[:, 1] = -second[:, 0]
    third = generator.standard_normal((2, 4))
    biases = [-first @ generator.uniform(-1, 1, 2), np.zeros(4), np.zeros(2)]
    network = sequential([Dense(first), Dense(second), Dense(third)], biases)
    norm = {"l1": 1, "l2": 2, "linf": inf}.get(kind)
    width = float(generator.choice([1.0, 1e-6, 1e-12]))
    center = generator.uniform(-1, 1, 2)
    box = Box(center - width, center + width)
    region: Region = box if norm is None else Ball(center, width, norm)
    low, high = region.bounding_box()
    pieces = walk(Propagation(network, region, low[None], high[None]), crown=True, iterations=3 * (seed % 2))  # 0: compiled for boxes
    rows = np.concatenate([np.eye(2), -np.eye(2)])[None]
    value, _ = upper_bound(pieces, backward(pieces, 5, rows))
    checked = 0
    for x in points_of(region, generator, 30):
        values = exact.evaluate_all(network, x)
        checked += 1
        for index, node in enumerate(values):
            assert all(a <= v <= b for a, v, b in zip(pieces.lowers[index][0], node, pieces.uppers[index][0], strict=True))
        assert all(z <= top for z, top in zip([*values[-1], *(-z for z in values[-1])], value[0].tolist(), strict=True))
        point = np.array([float(v) for v in x])
        lower, upper = enclose(network, point[None])
        assert all(a <= v <= b for a, v, b in zip(lower[0], exact.evaluate(network, point), upper[0], strict=True))
    assert checked > 5


@settings(max_examples=200)
@given(SEEDS)
def test_relaxation_lines_hold_exactly(seed: int) -> None:
    """lower slope z <= relu(z) <= upper_slope z + intercept at the ends and at 0, in fractions, for bounds of every size."""
    generator = np.random.default_rng(seed)
    size = 10.0 ** generator.uniform(-300, 290, 40) * generator.choice([1.0, 1.0, 0.0], 40)
    lower = np.concatenate([-size, size[:20]]) * generator.uniform(0.5, 1.0, 60)
    upper = np.maximum(lower, np.concatenate([size[::-1], -size[:20]]))
    lines = Lines.of(lower[None], upper[None])
    for i in range(60):
        low, high = Fraction(lower[i]), Fraction(upper[i])
        slope, top, intercept = (Fraction(part[0, i]) for part in (lines.slope, lines.upper_slope, lines.intercept))
        assert 0 <= slope <= 1
        for z in [low, high, *([Fraction(0)] if low < 0 < high else [])]:
            assert slope * z <= max(z, 0) <= top * z + intercept


def test_layer_bounds_of_an_unstable_layer_match_the_propagation() -> None:
    """What `walk(crown=True)` keeps is the better of the interval and the backward bound."""
    generator = np.random.default_rng(7)
    network = sequential(
        [Dense(generator.standard_normal((5, 2))), Dense(generator.standard_normal((5, 5))), Dense(np.ones((2, 5)))],
        [np.zeros(5), np.zeros(5), np.zeros(2)],
    )
    box = Box(-np.ones(2), np.ones(2))
    plain = walk(Propagation(network, box, box.lower[None], box.upper[None]))
    tight = walk(Propagation(network, box, box.lower[None], box.upper[None]), crown=True)
    lower, upper = layer_bounds(plain, 3)
    expected = np.maximum(plain.lowers[3], lower), np.minimum(plain.uppers[3], upper)
    # The compiled walk sums in another order, and leaves out the other side of a neuron that it has proved inactive.
    open_now = (expected[0] < 0) & (expected[1] > 0)
    assert open_now.sum() > 1
    assert np.allclose(tight.lowers[3][open_now], expected[0][open_now], rtol=1e-12)
    assert np.allclose(tight.uppers[3][open_now], expected[1][open_now], rtol=1e-12)
    assert (tight.uppers[3] < plain.uppers[3]).any()
