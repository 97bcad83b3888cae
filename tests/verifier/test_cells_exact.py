"""The enumeration against exact brute force on random tiny networks: ties, dead, repeated and opposite neurons, sides of width zero."""

from fractions import Fraction
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Ball, Box, Region
from tests.verifier.cell_oracles import Pattern, by_patterns, by_vertices, signs
from tests.verifier.oracles import SEEDS, random_box, random_network
from verifier.enumeration import stream_batches
from verifier.enumeration.compiled import CompiledSearch
from verifier.enumeration.compose import Composer
from verifier.enumeration.exact_rows import ExactComposer
from verifier.enumeration.fold import prefixes
from verifier.enumeration.frame import frame_of
from verifier.enumeration.inradius import inscribed_radius
from verifier.enumeration.plain import PlainSearch


def enumerated(network: Network, region: Region) -> set[Pattern]:
    """The patterns of the stream, each once and in order. Points of certified cells are inside, exactly; nearly all cells are certified."""
    found: list[Pattern] = []
    doubtful = 0
    for batch in stream_batches(network, region):
        doubtful += int((~batch.certified).sum())
        for cell in batch.cells():
            if cell.certified:
                assert cell.inradius > 0.0
                assert region.contains(cell.point)
                assert signs(network, [Fraction(v) for v in cell.point.tolist()]) == tuple(cell.pattern.tolist())
        found += [tuple(pattern) for pattern in batch.patterns.tolist()]
    assert found == sorted(set(found))
    assert doubtful <= 1  # a cell between two neighbouring floats
    return set(found)


def drawn(seed: int) -> tuple[Network, np.random.Generator]:
    generator = np.random.default_rng(seed)
    return random_network(generator, most_inputs=3, most_neurons=8), generator


@given(SEEDS)
@settings(max_examples=60)
def test_boxes(seed: int) -> None:
    network, generator = drawn(seed)
    box = random_box(generator, network.input_size)
    assert enumerated(network, box) == by_vertices(network, box)


@given(SEEDS, st.sampled_from([1, 2]))
@settings(max_examples=40)
def test_balls(seed: int, norm: int) -> None:
    """Cut by a box or not; centres lie on rows and on sides of the box."""
    network, generator = drawn(seed)
    center = np.round(generator.uniform(-1, 1, network.input_size) * 8) / 8
    box = Box(np.floor(center - 1), np.ceil(center)) if generator.random() < 0.5 else None
    ball = Ball(center, float(generator.choice([0.25, 1.0, 2.0])), norm, box)
    assert enumerated(network, ball) == (by_vertices if norm == 2 else by_patterns)(network, ball)


@given(SEEDS)
@settings(max_examples=25)
def test_unbounded_boxes(seed: int) -> None:
    """All of space and parts of it with some sides at infinity; biases may all be zero."""
    network, generator = drawn(seed)
    n = network.input_size
    lower = np.where(generator.random(n) < 0.6, -inf, generator.integers(-4, 2, n) / 4.0)
    upper = np.where(generator.random(n) < 0.6, inf, np.where(np.isfinite(lower), lower, 0.0) + generator.integers(1, 8, n) / 4.0)
    region = Box.whole_space(n) if generator.random() < 0.3 else Box(lower, upper)
    assert enumerated(network, region) == by_patterns(network, region)


@given(SEEDS)
@settings(max_examples=15)
def test_the_general_solver_agrees(seed: int) -> None:
    """HiGHS against the compiled search: nothing that one finds is proved empty by the other."""
    network, generator = drawn(seed)
    frame = frame_of(random_box(generator, network.input_size))
    plain = list(PlainSearch(Composer(network, frame), frame).leaves())
    assert all(leaf is not None for leaf in plain)
    sure = {tuple(leaf.pattern.tolist()) for leaf in plain if leaf is not None and leaf.point is not None}
    kept = {tuple(leaf.pattern.tolist()) for leaf in plain if leaf is not None}
    ours = enumerated(network, frame.region)
    assert sure <= ours <= kept


def test_degenerate_rows() -> None:
    """Parallel, opposite, repeated, dead and vanishing neurons; the centre lies on every row; one input is fixed."""
    first = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0], [1.0, -1.0, 1.0]])
    second = np.array([[1.0, -0.5, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0, -1.0, 0.5]])
    network = sequential([Dense(first), Dense(second), Dense(np.ones((2, 2)))], [np.zeros(6), np.zeros(2), np.zeros(2)])
    box = Box(np.array([-1.0, -1.0, 0.25]), np.array([1.0, 1.0, 0.25]))
    assert enumerated(network, box) == by_vertices(network, box)
    assert enumerated(network, Box.whole_space(3)) == by_patterns(network, Box.whole_space(3))


@pytest.mark.parametrize("scale", [1e6, 2.0**30])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_solvers_lie_here(scale: float, sign: float) -> None:
    """y = s relu(x - 1) on [0, 1 + 1/s]: the active cell is 1/s wide, and its neighbour behind another neuron narrower still."""
    network = sequential(
        [Dense(np.array([[1.0]])), Dense(np.array([[sign * scale]])), Dense(np.ones((1, 1)))],
        [np.array([-1.0]), np.array([-sign * 0.5]), np.zeros(1)],
    )
    box = Box(np.zeros(1), np.array([1.0 + 1.0 / scale]))
    assert enumerated(network, box) == by_vertices(network, box)


@given(SEEDS)
@settings(max_examples=20)
def test_tiny_differences_are_decided_exactly(seed: int) -> None:
    """Rows that differ by the last bit of a weight cut cells that no float linear program sees."""
    generator = np.random.default_rng(seed)
    row = generator.integers(-4, 5, 2) / 4.0 + np.array([0.125, 0.0])
    other = np.nextafter(row, np.inf)
    weights = np.array([row, other, generator.normal(size=2)])
    biases = np.array([0.25, 0.25, float(generator.normal())])
    network = sequential([Dense(weights), Dense(np.ones((1, 3)))], [biases, np.zeros(1)])
    box = Box(-np.ones(2), np.ones(2))
    found = {tuple(p) for batch in stream_batches(network, box) for p in batch.patterns.tolist()}
    assert found == by_vertices(network, box)


def test_bits_of_wide_layers() -> None:
    """More than 64 neurons in a layer need more than one word of the pool."""
    generator = np.random.default_rng(3)
    network = sequential([Dense(generator.normal(size=(70, 1))), Dense(np.ones((1, 70)))], [generator.normal(size=70), np.zeros(1)])
    box = Box(-np.ones(1), np.ones(1))
    crossings = -network.nodes[1].bias / network.nodes[1].maps[0].weights[:, 0]
    assert len(enumerated(network, box)) == 1 + int((np.abs(crossings) < 1.0).sum())


def test_pauses_and_small_batches_change_nothing() -> None:
    generator = np.random.default_rng(5)
    network = random_network(generator, most_inputs=3, most_neurons=8)
    frame = frame_of(Box(-np.ones(network.input_size), np.ones(network.input_size)))

    def patterns(search: CompiledSearch, programs: int) -> list[Pattern]:
        found: list[Pattern] = []
        while (event := search.advance(programs)) is not False:
            if event is not None:
                assert hasattr(event, "patterns")
                found += [tuple(p) for p in event.patterns.tolist()]
        return found

    assert patterns(CompiledSearch(network, frame, size=1), 1) == patterns(CompiledSearch(network, frame), 10**6)


@pytest.mark.parametrize("scale", [1e80, 1e160, 1e200])
def test_weights_beyond_floats(scale: float) -> None:
    """Products that overflow are decided in rationals; where no float is left to tell an inscribed radius it is 0."""
    generator = np.random.default_rng(1)
    maps = [Dense(scale * generator.normal(size=(3, 2))), Dense(scale * generator.normal(size=(3, 3))), Dense(np.ones((1, 3)))]
    network = sequential(maps, [generator.normal(size=3), generator.normal(size=3), np.zeros(1)])
    box = Box(-np.ones(2), np.ones(2))
    found = {tuple(p) for batch in stream_batches(network, box) for p in batch.patterns.tolist()}
    assert found == by_vertices(network, box)


def test_inscribed_radii_are_exact_where_they_are_tiny() -> None:
    """Between x + y >= 0 and x + y <= w lies a strip whose inscribed radius is w / sqrt(8); w far below the tolerances of solvers."""
    for width in (1e-4, 1e-9, 2.0**-60, 1e-30):
        network = sequential([Dense(np.array([[1.0, 1.0], [-1.0, -1.0]])), Dense(np.ones((1, 2)))], [np.array([0.0, width]), np.zeros(1)])
        for region in (Box(-np.ones(2), np.ones(2)), Ball(np.zeros(2), 1.0, 1)):
            composer = ExactComposer(network, frame_of(region))
            assert inscribed_radius(composer, np.array([1, 1], np.int8)) == pytest.approx(width / np.sqrt(8.0), rel=1e-12)


@given(SEEDS)
@settings(max_examples=15)
def test_inscribed_radii_are_never_below_the_streams(seed: int) -> None:
    network, generator = drawn(seed)
    center = np.round(generator.uniform(-1, 1, network.input_size) * 8) / 8
    box = random_box(generator, network.input_size)
    for region in (box, Ball(center, 0.75, 1), Ball(center, 0.75, 1, Box(center, center + 0.5))):
        composer = ExactComposer(network, frame_of(region))
        for batch in stream_batches(network, region):
            for cell in batch.cells():
                if composer.frame.matrix.any():  # a region of one point has no sides
                    assert cell.inradius <= inscribed_radius(composer, cell.pattern) * (1.0 + 1e-9) + 1e-12


@given(SEEDS)
@settings(max_examples=25)
def test_streams_go_on_and_part_anywhere(seed: int) -> None:
    """start: behind any pattern, a cell's or not; prefix: any signs given; batches of any size; also through exact subtrees."""
    network, generator = drawn(seed)
    n, h = network.input_size, network.neurons
    for region in (random_box(generator, n), Box.whole_space(n)):

        def patterns(region: Region = region, **options: object) -> list[Pattern]:
            return [tuple(p) for batch in stream_batches(network, region, **options) for p in batch.patterns.tolist()]  # type: ignore[arg-type]

        whole = patterns()
        assert patterns(size=2) == whole
        for start in (whole[0], whole[len(whole) // 2], whole[-1], tuple(generator.choice([-1, 1], h).tolist())):
            assert patterns(start=np.array(start, np.int8)) == [p for p in whole if p > start]
        prefix = generator.choice([-1, 0, 1], h, p=[0.15, 0.7, 0.15]).astype(np.int8)
        assert patterns(prefix=prefix) == [p for p in whole if all(f in (0, v) for f, v in zip(prefix, p, strict=True))]
        parts = [patterns(prefix=part) for part in prefixes(network, region, 5)]
        assert sorted(p for part in parts for p in part) == whole


def test_deeper_networks_agree_with_the_general_solver() -> None:
    """Four layers, six inputs: the patterns of HiGHS, one by one."""
    generator = np.random.default_rng(8)
    sizes = [6, 7, 7, 7, 2]
    maps = [Dense(generator.normal(size=(b, a)) / np.sqrt(a)) for a, b in pairwise(sizes)]
    network = sequential(maps, [0.3 * generator.normal(size=b) for b in sizes[1:]])
    frame = frame_of(Box(-0.5 * np.ones(6), 0.5 * np.ones(6)))
    plain = [tuple(leaf.pattern.tolist()) for leaf in PlainSearch(Composer(network, frame), frame).leaves() if leaf is not None]
    assert sorted(enumerated(network, frame.region)) == plain
    assert len(plain) > 100
