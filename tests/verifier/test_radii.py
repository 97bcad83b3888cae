"""Exact radii against brute force in exact arithmetic, closed forms, and what a radius search may and may not say without a witness."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from problems import exact
from problems.data import Dataset
from problems.errors import DataError, InputError, RegionError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions.ball import Ball
from problems.regions.box import Box
from tests.verifier.oracles import SEEDS, nearest_error, random_network
from verifier import dro, radius
from verifier.bracket import Bracket, Status
from verifier.distributional.zero_one import worst_case_error
from verifier.radii import Setting, Task, solve

NORMS = [1, 2, inf]
TOLERANCE = 1e-6


def power(norm: float) -> int:
    return 2 if norm == 2 else 1


def misclassified(network: Network, x: Any, label: int) -> bool:
    logits = exact.evaluate(network, x)
    return any(z >= logits[label] for k, z in enumerate(logits) if k != label)


def check(bracket: Bracket, network: Network, x: np.ndarray, label: int, norm: float, truth: Fraction | None) -> None:
    """The ends are right (truth is the exact distance to the power, None for no misclassified point) and the witness is real."""
    assert bracket.sense == "min"
    if truth is None:
        assert bracket.upper == inf
    else:
        assert Fraction(bracket.lower) ** power(norm) <= truth
        assert bracket.upper == inf or truth <= Fraction(bracket.upper) ** power(norm)
    if bracket.upper < inf:
        assert bracket.witness is not None
        assert misclassified(network, bracket.witness, label)
        assert Ball(x, 0.0, norm).distance_exact(bracket.witness) <= Fraction(bracket.upper) ** power(norm)


def drawn(seed: int) -> tuple[Network, np.ndarray, Box]:
    """A network, a sample and the box around it that worst cases are sought in."""
    generator = np.random.default_rng(seed)
    network = random_network(generator, most_neurons=6)
    lower = generator.integers(-8, 5, network.input_size) / 4.0
    upper = lower + generator.choice([0.0, 1.0, 2.0, 4.0, 4.0], network.input_size)
    x = lower + np.round(generator.random(network.input_size) * 16) / 16 * (upper - lower)
    return network, x, Box(lower, upper)


def question(network: Network, norm: float, box: Box | None, solver: str = "auto") -> Setting:
    return Setting(network, norm, box, TOLERANCE, solver)


@settings(max_examples=45)
@given(SEEDS, st.sampled_from(NORMS))
def test_in_a_box_against_brute_force(seed: int, norm: float) -> None:
    """Without an attack's point: the search has to find the witness itself."""
    network, x, box = drawn(seed)
    bracket = solve(question(network, norm, box), Task(0, x, 0, None, timeout=20.0)).bracket
    truth = nearest_error(network, x, 0, norm, box.lower, box.upper)
    check(bracket, network, x, 0, norm, truth)
    if truth is None:
        assert bracket.status is Status.EMPTY
        assert bracket.lower == inf
    else:
        assert bracket.status.finished
        assert bracket.lower >= bracket.upper * (1 - TOLERANCE)


@example(994, 1)  # rows of rounding errors alone, which HiGHS refused once scaled
@settings(max_examples=40)
@given(SEEDS, st.sampled_from(NORMS))
def test_in_the_whole_space_against_brute_force(seed: int, norm: float) -> None:
    network, x, _ = drawn(seed)
    bracket = solve(question(network, norm, None), Task(0, x, 0, None, timeout=2.0)).bracket
    far = 50.0
    truth = nearest_error(network, x, 0, norm, x - far, x + far)
    if truth is None or truth > Fraction(far) ** power(norm):
        assert bracket.upper >= far
        if bracket.witness is not None:
            assert misclassified(network, bracket.witness, 0)
        return
    check(bracket, network, x, 0, norm, truth)
    assert bracket.status.finished
    assert bracket.lower >= bracket.upper * (1 - TOLERANCE)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(NORMS))
def test_started_from_any_misclassified_point(seed: int, norm: float) -> None:
    """A start of any quality (here: a far corner) changes the work, not the answer; neither does a point that is none."""
    network, x, box = drawn(seed)
    truth = nearest_error(network, x, 0, norm, box.lower, box.upper)
    for start in (box.lower, box.upper):
        bracket = solve(question(network, norm, box), Task(0, x, 0, np.array(start), timeout=20.0)).bracket
        check(bracket, network, x, 0, norm, truth)
        assert (bracket.upper == inf) == (truth is None)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(NORMS), st.sampled_from([0.0, 0.05, 0.5, 2.0]), st.booleans())
def test_enough_stops_early_and_claims_nothing_more(seed: int, norm: float, enough: float, bounded: bool) -> None:
    """With a goal for the lower end (as dro asks) the search may stop there; what it then says is still true."""
    network, x, box = drawn(seed)
    bracket = solve(question(network, norm, box if bounded else None), Task(0, x, 0, None, timeout=2.0, enough=enough)).bracket
    lower, upper = (box.lower, box.upper) if bounded else (x - 50, x + 50)
    truth = nearest_error(network, x, 0, norm, lower, upper)
    if bounded or (truth is not None and truth <= 50 ** power(norm)):
        check(bracket, network, x, 0, norm, truth)
    assert bracket.lower >= min(enough, bracket.upper * (1 - TOLERANCE)) or not bracket.status.finished


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(NORMS), st.sampled_from([0.0, 1e-4, 1e-3, 1e-2]))
def test_a_budget_that_ends_leaves_a_true_bracket(seed: int, norm: float, timeout: float) -> None:
    network, x, box = drawn(seed)
    truth = nearest_error(network, x, 0, norm, box.lower, box.upper)
    check(solve(question(network, norm, box), Task(0, x, 0, None, timeout=timeout)).bracket, network, x, 0, norm, truth)
    free = solve(question(network, norm, None), Task(0, x, 0, None, timeout=timeout)).bracket
    if truth is not None:  # without the box the nearest error can only be nearer
        assert Fraction(free.lower) ** power(norm) <= truth


# --- closed forms -------------------------------------------------------------------------------------------------------------------------


def closes(bracket: Bracket, value: float) -> bool:
    return bracket.lower <= value * (1 + 1e-12) and value * (1 - 1e-12) <= bracket.upper <= bracket.lower * (1 + 1.01e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_linear_classifiers(norm: float) -> None:
    """|margin| over the dual norm of the difference of the rows, smallest over the competitors (THEORY 9, linear network)."""
    generator = np.random.default_rng(3)
    weights, bias, x = generator.standard_normal((4, 6)), generator.standard_normal(4), generator.standard_normal((5, 6))
    labels = (x @ weights.T + bias).argmax(axis=1)
    found = {r.sample: r for r in radius(sequential([Dense(weights)], [bias]), Dataset(x, labels), norm=norm, workers=1, timeout=20.0)}
    assert sorted(found) == list(range(5))
    dual = {1: inf, 2: 2, inf: 1}[norm]
    for i, (point, label) in enumerate(zip(x, labels, strict=True)):
        logits = weights @ point + bias
        expected = min(
            (logits[label] - logits[k]) / np.linalg.norm(weights[label] - weights[k], dual) for k in range(4) if k != label
        )  # fmt: skip
        assert found[i].label == label
        assert found[i].bracket.status.finished
        assert closes(found[i].bracket, float(expected))


@pytest.mark.parametrize(("norm", "expected"), [(1, 3.0), (2, 3.0), (inf, 1.5)])
def test_relu_of_two_inputs(norm: float, expected: float) -> None:
    """z = relu(x) on R^2, sample (4, 1) of label 0 (THEORY 9): the boundary x_0 = x_1, and x <= 0, where both logits are 0.

    l1 and l2: (1, 1) is at distance 3 in l1; in l2 the line x_0 = x_1 is at 3 / sqrt 2; linf: both move by 1.5.
    """
    network = sequential([Dense(np.eye(2)), Dense(np.eye(2))], [np.zeros(2), np.zeros(2)])
    bracket = next(iter(radius(network, Dataset(np.array([[4.0, 1.0]]), np.array([0])), norm=norm, workers=1, timeout=20.0))).bracket
    assert closes(bracket, expected / np.sqrt(2) if norm == 2 else expected)


def test_already_misclassified_and_ties_have_radius_zero() -> None:
    network = sequential([Dense(np.array([[1.0], [-1.0]]))], [np.zeros(2)])
    data = Dataset(np.array([[-1.0], [0.0], [2.0]]), np.array([0, 0, 0]))
    found = {r.sample: r.bracket for r in radius(network, data, norm=2, workers=1, timeout=20.0)}
    for sample in (0, 1):
        assert (found[sample].lower, found[sample].upper, found[sample].status) == (0.0, 0.0, Status.CLOSED)
        assert found[sample].witness is not None
    assert closes(found[2], 2.0)


@pytest.mark.parametrize("norm", NORMS)
def test_no_error_in_the_box(norm: float) -> None:
    network = sequential([Dense(np.array([[1.0], [-1.0]])), Dense(np.eye(2))], [np.zeros(2), np.array([0.5, 0.0])])
    data = Dataset(np.array([[0.5]]), np.array([0]))
    inside = next(iter(radius(network, data, norm=norm, region=Box(np.array([0.0]), np.array([1.0])), workers=1, timeout=20.0)))
    assert (inside.bracket.lower, inside.bracket.upper, inside.bracket.status) == (inf, inf, Status.EMPTY)
    assert inside.bracket.witness is None
    wider = next(iter(radius(network, data, norm=norm, region=Box(np.array([-2.0]), np.array([1.0])), workers=1, timeout=20.0)))
    assert closes(wider.bracket, 1.0)  # -x >= 0.5


def test_nowhere_an_error_in_the_whole_space() -> None:
    """z_0 = 1, z_1 = -relu(x): nothing to find; the lower end grows and says so, and the answer is not EMPTY."""
    network = sequential([Dense(np.ones((1, 1))), Dense(np.array([[0.0], [-1.0]]))], [np.zeros(1), np.array([1.0, 0.0])])
    bracket = next(iter(radius(network, Dataset(np.zeros((1, 1)), np.array([0])), norm=2, workers=1, timeout=20.0))).bracket
    assert bracket.upper == inf
    assert bracket.lower > 1e5
    assert bracket.status in (Status.UNBOUNDED_SEARCH, Status.EMPTY)


def test_a_spike_that_no_gradient_shows() -> None:
    """z_1 - z_0 = 1e4 relu(x - 3) - 1e4 relu(x - 3.001) ... is 0 up to 3: exact all the same, with and without an attack's point."""
    network = sequential(
        [Dense(np.ones((3, 1))), Dense(np.array([[0.0, 0.0, 0.0], [1e4, -2e4, 1e4]]))],
        [-np.array([3.0, 3.001, 3.002]), np.array([1.0, 0.0])],
    )
    box = Box(np.array([-5.0]), np.array([5.0]))
    for norm in NORMS:
        bracket = solve(question(network, norm, box), Task(0, np.zeros(1), 0, None, timeout=20.0)).bracket
        check(bracket, network, np.zeros(1), 0, norm, nearest_error(network, np.zeros(1), 0, norm, box.lower, box.upper))
        assert closes(bracket, 3.0001)
    records = dro(
        network, Dataset(np.zeros((1, 1)), np.array([0])), norm=2, order=inf, epsilon=[2.9, 3.1], region=box, workers=1, timeout=20.0
    )
    assert [(r.lower, r.upper) for r in records] == [(0.0, 0.0), (1.0, 1.0)]


def test_workers_change_nothing() -> None:
    one, two = (
        {r.sample: r.bracket for r in radius("digits-16x2", "digits:test", norm=inf, samples="0:2", workers=workers, timeout=60.0)}
        for workers in (1, 2)
    )
    assert sorted(one) == sorted(two) == [0, 1]
    for sample, bracket in one.items():
        assert (two[sample].lower, two[sample].upper) == (bracket.lower, bracket.upper)
        assert bracket.status.finished
        assert bracket.lower >= bracket.upper * (1 - TOLERANCE)


def test_a_given_executor_is_used() -> None:
    network = sequential([Dense(np.array([[1.0], [-1.0]]))], [np.zeros(2)])
    data = Dataset(np.array([[1.0], [2.0], [3.0]]), np.array([0, 0, 0]))
    with ThreadPoolExecutor(2) as pool:
        found = {r.sample: r.bracket for r in radius(network, data, norm=2, executor=pool, timeout=20.0)}
    assert all(closes(found[sample], sample + 1.0) for sample in range(3))


def test_skipped_samples_are_not_asked_for() -> None:
    network = sequential([Dense(np.array([[1.0], [-1.0]]))], [np.zeros(2)])
    data = Dataset(np.array([[1.0], [2.0], [3.0]]), np.array([0, 0, 0]))
    assert sorted(r.sample for r in radius(network, data, norm=2, workers=1, skip={1}, timeout=20.0)) == [0, 2]
    assert list(radius(network, data, norm=2, workers=1, skip={0, 1, 2})) == []


LINE = sequential([Dense(np.array([[1.0], [-1.0]]))], [np.zeros(2)])
POINT = Dataset(np.ones((1, 1)), np.array([0]))
BAD: dict[str, tuple[type[InputError], dict[str, Any]]] = {
    "norm": (InputError, {"norm": 3}),
    "norm by another name": (InputError, {"norm": "euclidean"}),
    "label out of range": (DataError, {"data": Dataset(np.ones((1, 1)), np.array([2]))}),
    "another number of inputs": (DataError, {"data": Dataset(np.ones((1, 2)), np.array([0]))}),
    "sample outside the region": (DataError, {"region": Box(np.array([2.0]), np.array([3.0]))}),
    "a region that is no box": (RegionError, {"region": Ball(np.ones(1), 1.0, 2)}),
    "no such data": (DataError, {"data": "nowhere.npz"}),
    "one output": (InputError, {"network": sequential([Dense(np.ones((1, 1)))], [np.zeros(1)])}),
    "rows that are not there": (DataError, {"samples": "5:7"}),
    "negative timeout": (InputError, {"timeout": -1.0}),
    "tolerance": (InputError, {"tolerance": 0.0}),
    "workers": (InputError, {"workers": 0}),
    "solver": (InputError, {"solver": "oracle"}),
    "semantics": (InputError, {"semantics": "float16"}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_typed_error(case: str) -> None:
    kind, changes = BAD[case]
    call: dict[str, Any] = {"network": LINE, "data": POINT, "norm": 2} | changes
    with pytest.raises(kind) as caught:
        list(radius(call.pop("network"), call.pop("data"), **call))
    assert caught.value.place


# --- worst-case error (THEORY W4) -------------------------------------------------------------------------------------------------------


def worst_by_linear_program(radii: np.ndarray, epsilon: float, order: float) -> float:
    """max mean of t_i, 0 <= t_i <= 1, mean of t_i r_i^p <= eps^p: mass t_i of sample i moves to its nearest error."""
    from scipy.optimize import linprog

    if order == inf:
        return float(np.mean(radii <= epsilon))
    reachable = radii[np.isfinite(radii)]
    if not len(reachable):
        return 0.0
    solution = linprog(
        -np.ones(len(reachable)) / len(radii),
        A_ub=(reachable**order)[None] / len(radii),
        b_ub=[epsilon**order],
        bounds=[(0, 1)] * len(reachable),
    )
    return float(-solution.fun)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(NORMS))
def test_knapsack_against_a_linear_program(seed: int, order: float) -> None:
    generator = np.random.default_rng(seed)
    radii = generator.exponential(1.0, int(generator.integers(1, 12)))
    radii[generator.random(len(radii)) < 0.2] = 0.0
    radii[generator.random(len(radii)) < 0.2] = inf
    if generator.random() < 0.3:
        radii = np.round(radii, 1)  # several of one size
    wider = radii * generator.uniform(0.9, 1.0, len(radii)), radii * generator.uniform(1.0, 1.1, len(radii))
    for epsilon in (0.0, *generator.exponential(1.0, 3), *(radii[np.isfinite(radii)][:2]), 1e3):
        expected = worst_by_linear_program(radii, float(epsilon), order)
        lower, upper = worst_case_error(radii, radii, float(epsilon), order)
        assert lower <= upper <= np.nextafter(lower, inf)
        assert lower == pytest.approx(expected, abs=1e-7)
        bracket = worst_case_error(*wider, float(epsilon), order)
        assert bracket[0] <= lower
        assert upper <= bracket[1]


@pytest.mark.parametrize("order", NORMS)
def test_lazy_worst_cases_equal_those_of_all_radii(order: float) -> None:
    """dro refines only what it pays for; the full list of exact radii gives the same errors."""
    generator = np.random.default_rng(11)
    sizes = [2, 5, 5, 3]
    maps = [Dense(generator.standard_normal((b, a))) for a, b in pairwise(sizes)]
    network = sequential(maps, [0.3 * generator.standard_normal(b) for b in sizes[1:]])
    x = generator.uniform(-1, 1, (8, 2))
    labels = network.forward(x).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3  # one is wrong from the start
    data, box = Dataset(x, labels), Box(-np.ones(2), np.ones(2))
    epsilon = [0.0, 0.05, 0.1, 0.3, 1.0]
    for norm in {1: (2, inf), 2: (1,), inf: (2,)}[order]:
        records = dro(network, data, norm=norm, order=order, epsilon=epsilon, region=box, workers=1, timeout=60.0)
        exact_radii = [
            nearest_error(network, point, int(label), norm, box.lower, box.upper) for point, label in zip(x, labels, strict=True)
        ]
        radii = np.array([inf if r is None else float(r) ** (1 / power(norm)) for r in exact_radii])
        full = {r.sample: r.bracket for r in radius(network, data, norm=norm, region=box, workers=1, timeout=60.0)}
        lower_radii, upper_radii = (np.array([getattr(full[i], end) for i in range(8)]) for end in ("lower", "upper"))
        assert (lower_radii <= radii * (1 + 1e-12)).all()
        assert (radii * (1 - 1e-12) <= upper_radii).all()
        for record in records:
            assert record.attack <= record.lower <= record.upper <= record.lower + 1e-6
            assert record.status is Status.CLOSED
            expected = worst_by_linear_program(radii, record.epsilon, order)
            assert record.lower <= expected + 1e-6
            assert record.upper >= expected - 1e-6
            whole = worst_case_error(lower_radii, upper_radii, record.epsilon, order)
            assert abs(record.lower - whole[0]) <= 2e-6
            assert abs(record.upper - whole[1]) <= 2e-6


def test_bad_questions_about_worst_cases() -> None:
    for changes in ({"order": 3}, {"epsilon": []}, {"epsilon": [-1.0]}, {"loss": "hinge"}, {"norm": 5}, {"label_cost": -1.0}):
        with pytest.raises(InputError):
            dro(LINE, POINT, **({"norm": 2, "order": 1, "epsilon": [0.1]} | changes))  # type: ignore[arg-type]
