"""Complete verification against brute force in exact arithmetic; ties, several rows and disjuncts, replay, budgets, bad input."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact
from problems.maps import Dense, Sparse
from problems.network import Affine, Network, sequential
from problems.readers.agreement import replay
from problems.regions.ball import Ball
from problems.regions.box import Box
from problems.specification import Row, Specification, make_disjunct, robustness
from problems.vnnlib import format_witness, parse_text
from problems.writer import write_onnx
from solvers.errors import SolverError
from tests.verifier.oracles import SEEDS, largest_violation, nearest_error, random_box, random_network, sample
from verifier import verify
from verifier.bounds import Propagation
from verifier.bounds.walk import walk
from verifier.bracket import Status
from verifier.robustness import Verdict
from verifier.search.budget import Budget
from verifier.search.search import Search
from verifier.violation import Violation, targets_of

# Generous: no instance below needs a tenth of it, unless it lies within rounding of a tie.
PATIENCE = 10.0


def random_specification(generator: np.random.Generator, network: Network, *, shift: Fraction = Fraction(0)) -> Specification:
    """One to three disjuncts of one to three rows, some over inputs too, some strict; every row's offset is moved by `shift`."""
    n, k = network.input_size, network.output_size
    shared = random_box(generator, n)
    disjuncts = []
    for _ in range(int(generator.choice([1, 1, 2, 3]))):
        rows = []
        for _ in range(int(generator.choice([1, 1, 2, 3]))):
            outputs = tuple((j, Fraction(int(generator.integers(-4, 5)), 4)) for j in range(k) if generator.random() < 0.8)
            inputs = tuple((i, Fraction(int(generator.integers(-4, 5)), 4)) for i in range(n)) if generator.random() < 0.2 else ()
            rows.append(Row(outputs, Fraction(int(generator.integers(-8, 9)), 10) + shift, bool(generator.random() < 0.3), inputs))
        region = shared if generator.random() < 0.6 else random_box(generator, n)
        disjuncts.append(make_disjunct(region, rows, output_size=k))
    return Specification(tuple(disjuncts), n, k)


def drawn(seed: int, distance: float) -> tuple[Network, Specification, Fraction]:
    """A network, a specification and its exact largest violation. distance 0: an exact tie; inf: wherever it falls."""
    network = random_network(np.random.default_rng(seed))
    specification = random_specification(np.random.default_rng(seed + 1), network)
    truth = largest_violation(network, specification)
    if np.isfinite(distance):
        specification = random_specification(np.random.default_rng(seed + 1), network, shift=Fraction(distance) - truth)
        truth = Fraction(distance)
    return network, specification, truth


def check(verdict: Verdict, network: Network, specification: Specification, truth: Fraction) -> None:
    """Nothing that a verdict says may be wrong."""
    bracket = verdict.bracket
    assert bracket.lower <= truth <= bracket.upper
    assert verdict.verdict in ("sat", "unsat", "unknown", "timed-out")
    assert (verdict.verdict == "unsat") == (bracket.upper < 0)
    assert (verdict.verdict == "sat") == (bracket.lower >= 0)
    if bracket.witness is not None:
        margin = specification.margin(bracket.witness, exact.evaluate(network, bracket.witness))
        assert margin is not None
        assert bracket.lower <= margin
    if verdict.verdict == "sat":
        assert verdict.witness is not None
        assert verdict.witness_output is not None
        assert specification.is_violated(verdict.witness, exact.evaluate(network, verdict.witness))
        replayed = replay(network, verdict.witness)
        assert specification.is_violated(verdict.witness, replayed.astype(np.float64))
        assert np.array_equal(verdict.witness_output, replayed)
    else:
        assert verdict.witness is None


# Where the exact largest violation is put; inf leaves it where it falls.
DISTANCES = st.sampled_from([np.inf, np.inf, np.inf, 0.0, 1e-3, -1e-3, 1e-9, -1e-9])


def clear(network: Network, specification: Specification, truth: Fraction, share: float) -> bool:
    """Whether the largest violation is further from zero than this share of the numbers that the rows are made of.

    Within rounding of a tie nobody has to decide, and where slopes are steep halving boxes takes long even for a small margin: there the
    engine must stop in time, and say nothing wrong.
    """
    low, high = (np.array(side) for side in zip(*(box.bounding_box() for box in specification.input_boxes()), strict=True))
    pieces = walk(Propagation(network, Box(low.min(axis=0), high.max(axis=0)), low, high))
    size = max(float(values.max()) for values in pieces.magnitude.values())
    return abs(truth) > max(1e-4, share * size)


# Shares for halving boxes and for deciding neurons.
HALVING, DECIDING = 1e-5, 1e-9


def patience(decided: bool) -> float:
    return PATIENCE if decided else 0.2


@settings(max_examples=80)
@given(SEEDS, DISTANCES)
def test_against_brute_force(seed: int, distance: float) -> None:
    network, specification, truth = drawn(seed, distance)
    decided = clear(network, specification, truth, HALVING)
    verdict = verify(network, specification, timeout=patience(decided))
    check(verdict, network, specification, truth)
    if decided:
        assert verdict.verdict == ("sat" if truth > 0 else "unsat"), verdict.reason


@settings(max_examples=40)
@given(SEEDS, DISTANCES)
def test_as_one_program_against_brute_force(seed: int, distance: float) -> None:
    """method="milp" is another way to the same verdict."""
    network, specification, truth = drawn(seed, distance)
    decided = clear(network, specification, truth, DECIDING)
    verdict = verify(network, specification, method="milp", timeout=patience(decided))
    check(verdict, network, specification, truth)
    if decided:
        assert verdict.verdict == ("sat" if truth > 0 else "unsat"), verdict.reason


def searched(network: Network, specification: Specification, splitting: Any, timeout: float) -> tuple[Search, Status]:
    question = Violation(network, targets_of(specification), splitting=splitting, specification=specification)
    search = Search(question, batch=8)
    return search, search.run(Budget(timeout))


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(["input", "neuron"]), DISTANCES)
def test_both_splittings_against_brute_force(seed: int, splitting: str, distance: float) -> None:
    network, specification, truth = drawn(seed, distance)
    decided = clear(network, specification, truth, HALVING if splitting == "input" else DECIDING)
    search, status = searched(network, specification, splitting, patience(decided))
    assert search.lower <= truth <= search.upper
    if search.witness is not None:
        margin = specification.margin(search.witness.point, exact.evaluate(network, search.witness.point))
        assert margin is not None
        assert search.lower <= margin
    if decided:
        assert search.lower >= 0 if truth > 0 else search.upper < 0, status


@settings(max_examples=40)
@given(SEEDS, st.sampled_from([1, 2, np.inf]), st.sampled_from([0.9, 0.999, 1.001, 1.1]), st.sampled_from(["auto", "cells"]))
def test_norm_balls_against_brute_force(seed: int, norm: float, share: float, method: str) -> None:
    """Robustness within a ball cut by a box, a little below and above the exact radius."""
    generator = np.random.default_rng(seed)
    network = random_network(generator, most_neurons=6)
    box = random_box(generator, network.input_size)
    center = sample(box, 4, seed)[3]
    assert box.exact is not None
    distance = nearest_error(network, center, 0, norm, *box.exact)  # type: ignore[arg-type]
    power = 2 if norm == 2 else 1
    size = 1.0 if distance is None else float(distance) ** (1 / power) * share
    ball = Ball(center, size, norm, box)
    violated = distance is not None and distance <= Fraction(size) ** power
    specification = robustness(ball, 0, network.output_size)
    verdict = verify(network, specification, method=method, timeout=PATIENCE)
    if size > 1e-3 or not violated:
        assert verdict.verdict == ("sat" if violated else "unsat"), verdict.reason
    if verdict.witness is not None:
        assert ball.contains(verdict.witness)
        assert specification.is_violated(verdict.witness, exact.evaluate(network, verdict.witness))


def in_float32(network: Network) -> Network:
    """The network with its weights rounded to float32; divided maps become plain ones."""
    nodes = []
    for node in network.nodes:
        if isinstance(node, Affine):
            maps = tuple(Dense(_float32(m.rows()[0].toarray())) if isinstance(m, Sparse | Dense) else m for m in node.maps)
            node = Affine(node.parents, maps, _float32(node.bias))
        nodes.append(node)
    return Network(tuple(nodes), network.input_shape, network.output_shape, precision="float32")


def _float32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("seed", range(10))
def test_witnesses_replay_in_onnxruntime(seed: int, tmp_path: Path) -> None:
    """The network is read from a float32 ONNX file; a witness holds in fractions and in onnxruntime, a proof in fractions."""
    written = random_network(np.random.default_rng(500 + seed))
    if any(not isinstance(m, Dense) for node in written.nodes if isinstance(node, Affine) for m in node.maps):
        written = sequential([Dense(np.ones((3, 2))), Dense(np.eye(2, 3))], [np.array([-1.0, 0.1, -3.0]), np.zeros(2)])
    write_onnx(in_float32(written), tmp_path / "network.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    name, shape = session.get_inputs()[0].name, [dim if isinstance(dim, int) else 1 for dim in session.get_inputs()[0].shape]
    network = in_float32(written)
    for distance in (0.05, -0.05):
        base = random_specification(np.random.default_rng(seed), network)
        shift = Fraction(distance) - largest_violation(network, base)
        specification = random_specification(np.random.default_rng(seed), network, shift=shift)
        verdict = verify(str(tmp_path / "network.onnx"), specification, timeout=PATIENCE)
        assert verdict.verdict == ("sat" if distance > 0 else "unsat")
        assert verdict.bracket.lower <= Fraction(distance) <= verdict.bracket.upper
        if verdict.witness is not None:
            output = session.run(None, {name: verdict.witness.reshape(shape).astype(np.float32)})[0].reshape(-1)
            assert specification.is_violated(verdict.witness, output.astype(np.float64))
            assert specification.is_violated(verdict.witness, exact.evaluate(network, verdict.witness))
            assert "(X_0 " in format_witness(verdict.witness, output)


# --- ties ---------------------------------------------------------------------------------------------------------------------------------


def hat() -> Network:
    """z_0 = 1 - |x| on R, largest at 0 where it is 1; z_1 = x."""
    return sequential([Dense(np.array([[1.0], [-1.0]])), Dense(np.array([[-1.0, -1.0], [1.0, -1.0]]))], [np.zeros(2), np.array([1.0, 0.0])])


def asked(rows: list[Row], box: Box | None = None) -> Specification:
    region = Box(np.array([-2.0]), np.array([2.0])) if box is None else box
    return Specification((make_disjunct(region, rows, output_size=2),), 1, 2)


def test_an_exact_tie_is_a_counterexample_unless_the_row_is_strict() -> None:
    top = Row(((0, Fraction(1)),), Fraction(-1))
    verdict = verify(hat(), asked([top]), timeout=PATIENCE)
    assert verdict.verdict == "sat"
    assert verdict.bracket.lower == 0.0
    assert verdict.witness is not None
    assert verdict.witness[0] == 0.0
    strict = verify(hat(), asked([top._replace(strict=True)]), timeout=0.5)
    assert strict.verdict in ("unknown", "timed-out")
    assert strict.bracket.lower < 0 <= strict.bracket.upper


def test_several_rows_are_a_conjunction_and_disjuncts_a_disjunction() -> None:
    """z_0 >= 1/2 holds for |x| <= 1/2, z_1 >= 1 for x >= 1: never together, each alone."""
    half, one = Row(((0, Fraction(1)),), Fraction(-1, 2)), Row(((1, Fraction(1)),), Fraction(-1))
    both = verify(hat(), asked([half, one]), timeout=PATIENCE)
    assert both.verdict == "unsat"
    assert both.bracket.upper >= -0.25  # min(1/2 - x, x - 1) is largest at x = 3/4
    either = Specification(asked([half]).disjuncts + asked([one]).disjuncts, 1, 2)
    assert verify(hat(), either, timeout=PATIENCE).verdict == "sat"


def test_rows_over_inputs_count_in_whatever_order_they_come() -> None:
    """Disjuncts with and without input terms share a box: z_0 >= 2 never holds, z_0 + 3 x >= 2 does."""
    box = Box(np.array([0.0]), np.array([1.0]))
    plain = make_disjunct(box, [Row(((0, Fraction(1)),), Fraction(-2))], output_size=2)
    mixed = make_disjunct(box, [Row(((0, Fraction(1)),), Fraction(-2), inputs=((0, Fraction(3)),))], output_size=2)
    for disjuncts in ((plain, mixed), (mixed, plain)):
        specification = Specification(disjuncts, 1, 2)
        for method in ("auto", "cells", "milp"):
            verdict = verify(hat(), specification, method=method, timeout=PATIENCE)
            check(verdict, hat(), specification, Fraction(1))
            assert verdict.verdict == "sat"


@pytest.mark.parametrize("method", ["auto", "cells", "milp"])
def test_a_side_of_width_zero(method: str) -> None:
    box = Box(np.array([0.25]), np.array([0.25]))
    assert verify(hat(), asked([Row(((0, Fraction(1)),), Fraction(-3, 4))], box), method=method, timeout=PATIENCE).verdict == "sat"
    assert verify(hat(), asked([Row(((0, Fraction(1)),), Fraction(-7, 8))], box), method=method, timeout=PATIENCE).verdict == "unsat"


@pytest.mark.parametrize(("threshold", "verdict"), [("0.9", "sat"), ("0.95", "unsat")])
def test_a_side_of_width_zero_that_is_no_float64(threshold: str, verdict: str) -> None:
    """x = 0.1 as a decimal: 1 - x is exactly 0.9; the witness is written as 0.1, and judged there."""
    text = f"""(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)
    (assert (>= X_0 0.1))(assert (<= X_0 0.1))(assert (>= Y_0 {float(threshold) - 0.01}))"""
    answer = verify(hat(), parse_text(text), timeout=2.0)
    assert answer.verdict in (verdict, "unknown")
    assert answer.verdict == "unsat" or answer.bracket.upper >= 0
    if answer.witness is not None:
        assert format_witness(answer.witness, [0.9, 0.1]).startswith("((X_0 0.1)")


def test_a_witness_that_replay_disputes_is_no_counterexample() -> None:
    """z(1) = 2^30 + 1 - 1/2 >= 2^30 + 1/4 exactly, but 2^30 in float32: neither sat nor unsat may be said."""
    weights = np.array([[2.0**30], [-(2.0**30)]])
    network = sequential([Dense(weights), Dense(np.array([[1.0, 1.0]]))], [np.array([1.0, 0.0]), np.array([-0.5])])
    single = Network(network.nodes, (1,), (1,), precision="float32")
    box = Box(np.array([1.0]), np.array([1.0]))
    specification = Specification((make_disjunct(box, [Row(((0, Fraction(1)),), -Fraction(2**30) - Fraction(1, 4))], output_size=1),), 1, 1)
    verdict = verify(single, specification, timeout=2.0)
    logits = exact.evaluate(single, [1.0])
    assert specification.is_violated([1.0], logits)
    assert not specification.is_violated([1.0], replay(single, np.ones(1)).astype(np.float64))
    assert verdict.verdict in ("unknown", "timed-out")
    assert verdict.bracket.upper >= 0
    assert verdict.bracket.status is Status.REPLAY_DIFFERS


# --- float32 semantics -------------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([np.inf, 1e-2, -1e-2, 1e-6, -1e-6]))
def test_float32_verdicts_hold_for_any_float32_evaluation(seed: int, distance: float) -> None:
    """unsat: no sampled input violates in float32 arithmetic; sat: the witness does, and in exact arithmetic too."""
    network, specification, truth = drawn(seed, distance)
    network = in_float32(network)
    truth = largest_violation(network, specification)
    verdict = verify(network, specification, semantics="float32", timeout=0.4)
    assert verdict.bracket.semantics == "float32"
    if verdict.verdict == "sat":
        assert truth >= 0
        assert verdict.witness is not None
        assert specification.is_violated(verdict.witness, exact.evaluate(network, verdict.witness))
    if verdict.verdict == "unsat":
        assert truth < 0
        generator = np.random.default_rng(seed)
        for disjunct in specification.disjuncts:
            low, high = disjunct.region.bounding_box()
            for point in disjunct.region.clip(low + generator.random((20, len(low))).round(1) * (high - low)):
                assert not specification.is_violated(point, replay(network, point).astype(np.float64))


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(["auto", "cells", "milp"]))
def test_weights_beyond_what_solvers_take(seed: int, method: str) -> None:
    """Layers scaled by anything from 1e-200 to 1e200: overflow and underflow on the way; an answer is right, or there is a typed error."""
    generator = np.random.default_rng(seed)
    nodes = []
    for node in random_network(generator, most_neurons=6).nodes:
        if isinstance(node, Affine) and all(isinstance(m, Dense) for m in node.maps):
            scale = float(generator.choice([1e-200, 1e-30, 1e-12, 1.0, 1e6, 1e12, 1e30, 1e200]))
            node = Affine(node.parents, tuple(Dense(m.weights * scale) for m in node.maps if isinstance(m, Dense)), node.bias)
        nodes.append(node)
    network = Network(tuple(nodes), (nodes[0].size,), (nodes[-1].size,))
    specification = random_specification(generator, network)
    try:
        verdict = verify(network, specification, method=method, timeout=0.5)
    except SolverError:  # what the command line prints, with advice to rescale
        return
    check(verdict, network, specification, largest_violation(network, specification))
