"""The compiled walk against the numpy one, against exact arithmetic, and at the edges."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact, readers, vnnlib
from problems.maps import Conv, Dense, Sparse, identity
from problems.network import Affine, Input, Network, Relu, sequential
from problems.regions.ball import Ball
from problems.regions.box import Box
from verifier.bounds import Linear, Optimised, Propagation, backward, compiled, optimise, upper_bound
from verifier.bounds.linear import Concretise
from verifier.bounds.rounding import gamma
from verifier.bounds.walk import walk
from verifier.branching import axis_scores
from verifier.search.budget import Budget
from verifier.search.search import Search
from verifier.violation import Violation, targets_of

Array = np.ndarray
Boxes = tuple[Array, Array]
SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=7)


def chain(sizes: list[int], seed: int, *, scale: float = 1.0, dead: float = 0.0) -> Network:
    """Random dense layers; scale multiplies the weights, dead is the share of neurons that never fire or have no inputs."""
    rng = np.random.default_rng(seed)
    maps, biases = [], []
    for n, m in pairwise(sizes):
        weights, bias = rng.normal(size=(m, n)) * scale / np.sqrt(n), rng.normal(size=m) * 0.3
        gone = rng.random(m) < dead
        weights[gone] = 0.0
        bias[gone] = -1.0
        bias[gone & (rng.random(m) < 0.5)] = 0.0
        maps.append(Dense(weights))
        biases.append(bias)
    return sequential(maps, biases)


def boxes(size: int, count: int, seed: int, *, width: float = 1.0, flat: float = 0.0) -> Boxes:
    """Random boxes; flat is the share of sides of width zero."""
    rng = np.random.default_rng(seed)
    centre, radius = rng.normal(size=(count, size)), width * rng.random((count, size))
    radius[rng.random(radius.shape) < flat] = 0.0
    return centre - radius, centre + radius


def pieces_of(network: Network, cells: Boxes) -> Propagation:
    region = Box(np.minimum(*cells).min(axis=0) - 1.0, np.maximum(*cells).max(axis=0) + 1.0)
    return Propagation(network, region, cells[0].copy(), cells[1].copy())


def by_kernel(network: Network, cells: Boxes, known: Boxes | None = None) -> Propagation:
    pieces = walk(pieces_of(network, cells), known, crown=True)
    assert pieces.packed is not None, "the kernel was not used"
    return pieces


def by_numpy(network: Network, cells: Boxes, known: Boxes | None = None) -> list[Propagation]:
    """One piece at a time: in a batch the numpy walk also tightens neurons that only another piece leaves open."""
    result = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "applies", lambda pieces: False)
        for b in range(len(cells[0])):
            own = None if known is None else (known[0][b : b + 1], known[1][b : b + 1])
            result.append(walk(pieces_of(network, (cells[0][b : b + 1], cells[1][b : b + 1])), own, crown=True))
    assert all(pieces.packed is None for pieces in result)
    return result


def evaluated(pieces: Propagation, rows: Array, concretise: Concretise = upper_bound) -> Optimised:
    """The rows of the output with the relaxation's own slopes, by the kernel where it made the bounds."""
    if pieces.packed is not None:
        return compiled.optimise(pieces, rows, concretise, iterations=1)
    return optimise(pieces, len(pieces.network.nodes) - 1, rows, concretise, iterations=1)


def assert_same(fast: Propagation, slow: list[Propagation]) -> None:
    """Equal but for rounding. Of a neuron proved inactive the lower bound is of no use to anybody, and the kernel leaves it out."""
    for b, one in enumerate(slow):
        assert fast.empty[b] == one.empty[0]
        if one.empty[0]:
            continue
        for index, node in enumerate(one.network.nodes[1:], start=1):
            if isinstance(node, Affine):
                size = one.magnitude[index][0]
                np.testing.assert_allclose(fast.magnitude[index][b], size, rtol=1e-11, atol=1e-270)
            tolerance = 1e-9 * (size + 1e-260)
            useful = fast.uppers[index][b] > 0 if isinstance(node, Affine) and index < len(one.network.nodes) - 1 else True
            assert (np.abs(fast.uppers[index][b] - one.uppers[index][0]) <= tolerance).all()
            assert (np.where(useful, np.abs(fast.lowers[index][b] - one.lowers[index][0]), 0.0) <= tolerance).all()


def assert_contains(pieces: Propagation, seed: int, points: int = 3) -> None:
    """Exactly evaluated points of every piece, corners among them, lie within the bounds of every node."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(pieces.batch, 2, pieces.network.output_size))
    linear = backward(pieces, len(pieces.network.nodes) - 1, rows)
    value, _ = upper_bound(pieces, linear)
    for b in range(pieces.batch):
        low, high = pieces.lower[b], pieces.upper[b]
        shares = [rng.integers(0, 2, len(low)), *rng.random((points - 1, len(low)))]
        for share in shares:
            x = np.clip(low + share * (high - low), low, high)
            nodes = exact.evaluate_all(pieces.network, x)
            for index, values in enumerate(nodes):
                for v, bottom, top in zip(values, pieces.lowers[index][b].tolist(), pieces.uppers[index][b].tolist(), strict=True):
                    assert bottom <= v <= top
            for s in range(2):
                exactly = sum((Fraction(c) * z for c, z in zip(rows[b, s].tolist(), nodes[-1], strict=True)), Fraction(0))
                assert exactly <= value[b, s]


@given(sizes=SIZES, seed=st.integers(0, 10**6), dead=st.sampled_from([0.0, 0.3]), flat=st.sampled_from([0.0, 0.5]))
@settings(max_examples=60)
def test_equals_the_numpy_walk_on_random_chains(sizes: list[int], seed: int, dead: float, flat: float) -> None:
    network, cells = chain(sizes, seed, scale=2.0, dead=dead), boxes(sizes[0], 3, seed, flat=flat)
    fast = by_kernel(network, cells)
    assert_same(fast, by_numpy(network, cells))
    assert_contains(fast, seed)


@pytest.mark.parametrize("sizes", [[1, 1], [3, 2], [1, 1, 1], [2, 1, 1, 1, 2], [5, 1, 7, 1, 3], [20, 30, 17, 4], [17, 40, 40, 40, 2]])
def test_odd_shapes(sizes: list[int]) -> None:
    """No ReLU at all, odd and even numbers of layers, layers of a single neuron, inputs on either side of the narrow case."""
    network, cells = chain(sizes, 5, scale=1.5), boxes(sizes[0], 4, 6, width=0.3)
    fast = by_kernel(network, cells)
    assert_same(fast, by_numpy(network, cells))
    assert_contains(fast, 7)


@given(sizes=SIZES, seed=st.integers(0, 10**6), scale=st.sampled_from([1e-160, 1e-90, 1e-12, 1e6, 1e60, 1e150]))
@settings(max_examples=40)
def test_extreme_weights_stay_contained(sizes: list[int], seed: int, scale: float) -> None:
    """Underflow and overflow may cost tightness, never soundness; NaN never appears."""
    with np.errstate(all="ignore"):
        pieces = by_kernel(chain(sizes, seed, scale=scale), boxes(sizes[0], 2, seed))
        assert not any(np.isnan(side).any() for side in (*pieces.lowers, *pieces.uppers))
        assert not pieces.empty.any()
        assert_contains(pieces, seed, points=2)


def test_underflow_meets_huge_inputs() -> None:
    """Products below the smallest float meet inputs of 1e300: what they lose is no longer small."""
    tiny = 2.0**-600
    network = sequential(
        [Dense(np.array([[1e300], [-1e300]])), Dense(np.array([[tiny, tiny], [-tiny, tiny]])), Dense(np.array([[tiny, -tiny]]))],
        [np.zeros(2), np.array([-0.5 * tiny, 0.25 * tiny]), np.zeros(1)],
    )
    cells = np.array([[-1.0], [0.5]]), np.array([[1.0], [0.75]])
    for pieces in (by_kernel(network, cells), *by_numpy(network, cells)):
        assert_contains(pieces, 1, points=8)


def test_underflow_meets_huge_points() -> None:
    """The same at the input of the network."""
    tiny = np.array([[2.0**-600]])
    network = sequential([Dense(tiny), Dense(tiny), Dense(-tiny)], [np.zeros(1)] * 3)
    cells = np.array([[-1e300], [1e299]]), np.array([[1e300], [1e300]])
    for pieces in (by_kernel(network, cells), *by_numpy(network, cells)):
        assert_contains(pieces, 1, points=8)


@given(st.sampled_from([1, 3, 40, 200]), st.integers(0, 10**6), st.sampled_from([1e-200, 1e-160, 1.0, 1e150]), st.booleans())
@settings(max_examples=100)
def test_the_maximum_over_a_box_is_rounded_up(size: int, seed: int, scale: float, cancel: bool) -> None:
    from verifier.bounds import kernel

    rng = np.random.default_rng(seed)
    c, constant = scale * rng.normal(size=size), scale * scale * rng.normal()
    low, high = (scale * side[0] for side in boxes(size, 1, seed, flat=1.0 if cancel else 0.2))
    if cancel:  # the exact sum is 0, the computed one is rounding
        order = rng.permutation(2 * size)
        c, low, high, constant = np.concatenate([c, -c])[order], np.tile(low, 2)[order], np.tile(high, 2)[order], 0.0
    point = np.empty(len(c))
    value = kernel.concretise(c, low, high, constant, 0.0, gamma(len(c) + 8), point)
    sides = np.where(c > 0, high, low)
    exactly = sum((Fraction(a) * Fraction(b) for a, b in zip(c.tolist(), sides.tolist(), strict=True)), Fraction(constant))
    assert exactly <= value
    assert value <= exactly + Fraction(1e-13 * float(np.abs(c) @ np.abs(sides) + abs(constant)) + 1e-300)
    assert ((low <= point) & (point <= high)).all()


def test_points_are_bounded_to_rounding() -> None:
    network = chain([4, 12, 12, 3], 1, scale=2.0)
    x = np.random.default_rng(2).normal(size=(5, 4))
    pieces = by_kernel(network, (x, x))
    assert_contains(pieces, 3, points=1)
    assert (pieces.uppers[-1] - pieces.lowers[-1]).max() < 1e-10
    assert max(lines.intercept.max() for lines in pieces.lines.values()) < 1e-10


@given(sizes=st.lists(st.integers(2, 9), min_size=3, max_size=6), seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_known_bounds_are_taken_over(sizes: list[int], seed: int) -> None:
    """Neurons stable on a box are stable on its halves: handing that down gives sound bounds, nearly as tight where it matters."""
    network, (low, high) = chain(sizes, seed, scale=2.0), boxes(sizes[0], 2, seed)
    parent = by_kernel(network, (low, high))
    bounds = parent.neuron_bounds()
    known = np.where(bounds[0] >= 0, 0.0, -np.inf), np.where(bounds[1] <= 0, 0.0, np.inf)
    half = high.copy()
    half[:, 0] = 0.5 * low[:, 0] + 0.5 * high[:, 0]
    child = by_kernel(network, (low, half), known)
    assert_contains(child, seed)
    assert_same(child, by_numpy(network, (low, half), known))
    inherited = child.neuron_bounds()
    assert (inherited[0] >= 0)[bounds[0] >= 0].all()
    assert (inherited[1] <= 0)[bounds[1] <= 0].all()


def test_contradictions_make_a_piece_empty() -> None:
    network, (low, high) = chain([3, 6, 6, 2], 4, scale=2.0), boxes(3, 3, 4)
    known = np.full((3, 12), -np.inf), np.full((3, 12), np.inf)
    known[0][0, 2] = 1e6  # first layer, beyond what the box allows
    known[1][1, 8] = -1e6  # second layer
    pieces = by_kernel(network, (low, high), known)
    assert pieces.empty.tolist() == [True, True, False]
    swapped = by_kernel(network, (np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 1.0]])))
    assert swapped.empty.tolist() == [True]


@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_do_not_depend_on_their_company(threads: int) -> None:
    """Bit for bit the same, alone, in a batch, and in several threads at once."""
    network, (low, high) = chain([5, 20, 20, 20, 4], 8, scale=2.0), boxes(5, 64, 9, width=0.4)
    together = by_kernel(network, (low, high))
    parts = [slice(i, i + 4) for i in range(0, 64, 4)]
    with ThreadPoolExecutor(threads) as pool:
        apart = list(pool.map(lambda part: by_kernel(network, (low[part], high[part])), parts))
    for part, pieces in zip(parts, apart, strict=True):
        for whole, own in zip((*together.lowers, *together.uppers), (*pieces.lowers, *pieces.uppers), strict=True):
            np.testing.assert_array_equal(whole[part], own)


@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=6), seed=st.integers(0, 10**6), rows=st.integers(1, 3))
@settings(max_examples=40)
def test_rows_of_the_output_and_scores_equal_the_numpy_ones(sizes: list[int], seed: int, rows: int) -> None:
    network, cells = chain(sizes, seed, scale=2.0, dead=0.2), boxes(sizes[0], 3, seed)
    rng = np.random.default_rng(seed)
    functionals, weights = rng.normal(size=(3, rows, sizes[-1])), rng.dirichlet(np.ones(rows), 3)
    fast = by_kernel(network, cells)
    quick = evaluated(fast, functionals)
    scores = axis_scores(fast, quick, weights)
    fast.packed = None  # the same bounds, by the general code
    general = evaluated(fast, functionals)
    scale = 1e-10 * (np.abs(general.value).max() + np.abs(general.linear.coefficients).max() + 1.0)
    for ours, theirs in (
        (quick.value, general.value),
        (quick.linear.coefficients, general.linear.coefficients),
        (quick.linear.constant, general.linear.constant),
        *((quick.linear.relu[i], general.linear.relu[i]) for i in network.relus),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=scale)
    np.testing.assert_allclose(quick.linear.error, general.linear.error, rtol=1e-6, atol=1e-270)
    np.testing.assert_allclose(scores, axis_scores(fast, general, weights), rtol=1e-7, atol=1e-9 * (1.0 + scores.max()))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("own_terms", [False, True])
def test_optimised_slopes_equal_the_numpy_ones(seed: int, own_terms: bool) -> None:
    network, cells = chain([3, 8, 8, 8, 3], seed, scale=2.0), boxes(3, 4, seed)
    rng = np.random.default_rng(seed)
    rows, last = rng.normal(size=(4, 2, 3)), len(network.nodes) - 1
    inputs, offsets = (rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2))) if own_terms else (np.zeros((4, 2, 3)), np.zeros((4, 2)))

    def concretise(pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        linear.coefficients = linear.coefficients + inputs
        linear.constant = linear.constant + offsets
        return upper_bound(pieces, linear)

    pieces = by_kernel(network, cells)
    plain = evaluated(pieces, rows, concretise)
    quick = compiled.optimise(pieces, rows, concretise, inputs=inputs, offsets=offsets, iterations=6)
    general = optimise(pieces, last, rows, concretise, iterations=6)
    np.testing.assert_allclose(quick.value, general.value, rtol=1e-8, atol=1e-8)
    assert (quick.value <= plain.value + 1e-9).all()
    assert (quick.value < plain.value - 1e-6).any()
    for b in range(4):
        for share in rng.random((4, 3)):
            x = np.clip(cells[0][b] + share * (cells[1][b] - cells[0][b]), cells[0][b], cells[1][b])
            z = exact.evaluate(network, x)
            for s in range(2):
                terms = [(c, v) for c, v in zip(rows[b, s].tolist(), z, strict=True)]
                terms += [(c, Fraction(v)) for c, v in zip(inputs[b, s].tolist(), x.tolist(), strict=True)]
                exactly = sum((Fraction(c) * v for c, v in terms), Fraction(offsets[b, s]))
                assert exactly <= quick.value[b, s] + 1e-12  # concretise above does not charge the rounding of its additions
    # A piece that is good enough at the first step is left there.
    level = float(np.median(plain.value[:, 0]))
    stopped = compiled.optimise(pieces, rows, concretise, inputs=inputs, offsets=offsets, iterations=6, enough=level)
    early = plain.value[:, 0] < level
    assert early.any()
    assert not early.all()
    np.testing.assert_array_equal(stopped.value[early], plain.value[early])


def test_axes_are_scored_even_where_every_row_is_constant() -> None:
    """A constant row sets the bound: halving by its scores alone would cut the first axis for ever."""
    network, cells = chain([3, 6, 2], 3, scale=2.0), boxes(3, 2, 3)
    rows = np.zeros((2, 2, 2))
    rows[:, 1, 0] = 1.0
    for packed in (True, False):
        pieces = by_kernel(network, cells)
        if not packed:
            pieces.packed = None
        result = evaluated(pieces, rows)
        assert (axis_scores(pieces, result, np.array([[1.0, 0.0], [1.0, 0.0]])) > 0).any(axis=1).all()
        flat = evaluated(pieces, np.zeros((2, 1, 2)))
        widths = cells[1] - cells[0]
        assert (axis_scores(pieces, flat, np.ones((2, 1))).argmax(axis=1) == widths.argmax(axis=1)).all()


def residual() -> Network:
    nodes = [
        Input(3), Affine((0,), (Dense(np.eye(3)),), np.zeros(3)), Relu(1, 3),
        Affine((2, 0), (Dense(np.eye(3)), identity(3)), np.zeros(3)),
    ]  # fmt: skip
    return Network(tuple(nodes), (3,), (3,))


def twice_affine() -> Network:
    nodes = [Input(3), Affine((0,), (Dense(np.eye(3)),), np.zeros(3)), Affine((1,), (Dense(np.eye(3)),), np.ones(3))]
    return Network(tuple(nodes), (3,), (3,))


@pytest.mark.parametrize(
    "make",
    [
        residual,
        twice_affine,
        lambda: sequential([Conv(np.ones((1, 1, 2, 2)), (1, 3, 3)), Dense(np.ones((1, 4)))], [np.zeros(4), np.zeros(1)]),
        lambda: sequential([Sparse(np.eye(3)), Dense(np.ones((2, 3)))], [np.zeros(3), np.zeros(2)]),
    ],
)
def test_other_networks_keep_the_general_walk(make: Callable[[], Network]) -> None:
    network = make()
    pieces = walk(pieces_of(network, boxes(network.input_size, 2, 1)), crown=True)
    assert pieces.packed is None
    assert_contains(pieces, 1)


def test_other_regions_keep_the_general_walk() -> None:
    network, (low, high) = chain([3, 4, 2], 1), boxes(3, 2, 1)
    ball = Ball(np.zeros(3), 1.0, 2)
    assert walk(Propagation(network, ball, low, high), crown=True).packed is None
    assert not compiled.applies(Propagation(network, Box.whole_space(3), low, np.full((2, 3), np.inf)))
    assert walk(pieces_of(network, (low, high)), crown=True, iterations=2).packed is None


@pytest.mark.parametrize("name", ["1_1", "3_3"])
def test_acas_xu_networks(shared_data: Path, name: str) -> None:
    folder = shared_data / "vnncomp" / "acasxu"
    network = readers.load(folder / "onnx" / f"ACASXU_run2a_{name}_batch_2000.onnx")
    box = vnnlib.read(folder / "vnnlib" / "prop_2.vnnlib").disjuncts[0].region
    rng = np.random.default_rng(1)
    width = (box.upper - box.lower) * np.array([1.0, 0.25, 0.05, 0.01])[:, None]
    low = box.lower + rng.random((4, 5)) * (box.upper - box.lower - width)
    cells = low, low + width
    fast = by_kernel(network, cells)
    assert_same(fast, by_numpy(network, cells))
    assert_contains(fast, 2, points=2)


def test_a_search_ends_as_with_the_numpy_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Input splitting with inherited stable neurons: the same answer, and as many pieces but for a few."""
    network = chain([3, 16, 16, 16, 2], 11, scale=2.0)
    text = "\n".join(
        [*(f"(declare-const X_{i} Real)" for i in range(3)), *(f"(declare-const Y_{i} Real)" for i in range(2))]
        + [f"(assert (<= X_{i} 1.0))\n(assert (>= X_{i} -1.0))" for i in range(3)]
    )
    points = np.random.default_rng(0).uniform(-1, 1, (20000, 3))
    largest = network.forward(points)[:, 0].max()
    ends = []
    for threshold in (largest + 0.5, largest - 0.05):
        for fast in (True, False):
            with monkeypatch.context() as patch:
                if not fast:
                    patch.setattr(compiled, "applies", lambda pieces: False)
                specification = vnnlib.parse_text(f"{text}\n(assert (>= Y_0 {threshold:.6f}))")
                search = Search(Violation(network, targets_of(specification), "input", specification=specification))
                search.run(Budget(60.0))
                ends.append((search.lower >= 0, search.upper < 0, search.bounded))
    (proved, proved_too, found, found_too) = ends
    assert proved[:2] == proved_too[:2] == (False, True)
    assert found[:2] == found_too[:2] == (True, False)
    assert proved[2] <= 1.1 * proved_too[2] + 8
