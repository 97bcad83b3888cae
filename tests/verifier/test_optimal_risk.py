"""The optimal adversarial risk against all classifiers of small problems, closed forms and exact arithmetic."""

import json
from fractions import Fraction
from itertools import pairwise, product
from math import inf, lcm, nextafter
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.data import Dataset, load
from problems.errors import DataError, InputError
from problems.rounding import root_up, round_up
from problems.transport import solver
from problems.transport.grid import Grid
from verifier import optimal_risk
from verifier.bracket import Status
from verifier.cli import main
from verifier.optimality import cover, images
from verifier.optimality.distances import NormDistances, power_of_distance

NORMS = (1.0, 2.0, inf)


def line(first: list[float], second: list[float]) -> Dataset:
    """Two classes on the real line."""
    return Dataset(np.array([*first, *second])[:, None], np.array([0] * len(first) + [1] * len(second)))


def pair_images(first: list[int], second: list[int], of: int) -> Dataset:
    """Images of two pixels, k and of - k: their W1 distance is |k - k'| / of."""
    x = np.array([[[k, of - k]] for k in (*first, *second)], dtype=float)
    return Dataset(x.reshape(len(x), 2), np.array([0] * len(first) + [1] * len(second)), image_shape=(1, 1, 2))


def every_classifier(data: Dataset, epsilon: float, weights: list[Fraction]) -> Fraction:
    """The least risk of all 2^c classifiers that are constant on the points and intervals into which the ends of all balls cut the line."""
    centres = [Fraction(value) for value in data.x[:, 0].tolist()]
    ends = sorted({c + sign * Fraction(epsilon) for c in centres for sign in (-1, 1)})
    places = sorted([*ends, *((a + b) / 2 for a, b in pairwise(ends))])  # outside all balls a classifier says what it likes
    says = np.arange(2 ** len(places))  # bit k of a classifier: what it says at place k
    common = lcm(*(w.denominator for w in weights))
    risks = np.zeros(len(says), dtype=np.int64)
    for centre, label, weight in zip(centres, data.y.tolist(), weights, strict=True):
        ball = sum(1 << k for k, z in enumerate(places) if abs(z - centre) <= Fraction(epsilon))
        risks += int(weight * common) * (((~says if label else says) & ball) != 0)
    return Fraction(int(risks.min()), common)


def weights_of(data: Dataset, priors: str) -> list[Fraction]:
    counts = np.bincount(data.y)
    return [Fraction(1, 2 * int(counts[y])) if priors == "equal" else Fraction(1, len(data)) for y in data.y]


coordinates = st.integers(0, 8).map(float)


@settings(max_examples=12)
@given(
    st.lists(coordinates, min_size=1, max_size=2), st.lists(coordinates, min_size=1, max_size=2), st.sampled_from([0.0, 0.5, 1.0, 1.75]),
    st.sampled_from(["empirical", "equal"]),
)  # fmt: skip
def test_every_classifier_of_the_line(first: list[float], second: list[float], epsilon: float, priors: str) -> None:
    data = line(first, second)
    (risk,) = optimal_risk(data, classes=[0, 1], norm=2, epsilon=epsilon, priors=priors)
    assert risk.exact_lower == risk.exact_upper == every_classifier(data, epsilon, weights_of(data, priors))


def test_three_against_two() -> None:
    # By hand: 2 conflicts with both 1 and 3; one of them is enough to give up. With equal priors 2 weighs 1/4 and 1 with 3 weigh 1/3.
    data = line([1.0, 3.0, 9.0], [2.0, 20.0])
    (risk,) = optimal_risk(data, classes=[0, 1], norm=1, epsilon=0.5)
    assert (risk.exact_lower, risk.exact_upper, risk.conflicts, risk.matching) == (Fraction(1, 5), Fraction(1, 5), 2, 1)
    assert risk.errors.tolist() == [3]
    (even,) = optimal_risk(data, classes=[0, 1], norm=1, epsilon=0.5, priors="equal")
    assert even.exact_lower == even.exact_upper == Fraction(1, 4) == sum(even.weights)
    assert sorted(map(tuple, even.pairs.tolist())) == [(0, 3), (1, 3)]


def test_closed_balls_touch() -> None:
    # 0.1 and 0.3 as float64 are 0.2 apart less a little; eps = 0.1 as a float64 gives 2 eps a little above that.
    gap = Fraction(0.3) - Fraction(0.1)
    touching = float(gap) / 2
    assert Fraction(touching) * 2 == gap
    for epsilon, expected in ((touching, 0.5), (nextafter(touching, 0.0), 0.0)):
        for norm in NORMS:
            (risk,) = optimal_risk(line([0.1], [0.3]), classes=[1, 0], norm=norm, epsilon=epsilon)
            assert risk.lower == risk.upper == expected


def test_gaussian_closed_form() -> None:
    size, shift, sigma = 1000, 2.0, 1.0
    rng = np.random.default_rng(0)
    data = line(rng.normal(0.0, sigma, size).tolist(), rng.normal(shift, sigma, size).tolist())
    epsilons = [0.25, 0.5, 0.75, 1.5]
    for risk in optimal_risk(data, classes=[0, 1], norm=inf, epsilon=epsilons):
        expected = min(0.5, NormalDist().cdf((risk.epsilon - shift / 2) / sigma))
        assert risk.exact_lower == risk.exact_upper
        # Sampling error of two classes, and a little more because the best classifier of the samples is chosen after seeing them.
        assert expected - 0.03 <= risk.lower <= expected + 0.02


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**25 - 1), st.booleans())
def test_cover_against_all_sets(a: int, b: int, bits: int, equal: bool) -> None:
    edges = np.array([bits >> k & 1 for k in range(a * b)], dtype=bool).reshape(a, b)
    capacity = cover.capacities(a, b, equal=equal)
    best = a * capacity[0]
    for left in product((False, True), repeat=a):
        needed = edges[~np.array(left)].any(axis=0)
        best = min(best, sum(left) * capacity[0] + int(needed.sum()) * capacity[1])
    assert cover.solve(edges, capacity).value == best


near_ties = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1 / 3, 2 / 3, nextafter(0.5, 1), 1e-200, 5e-324, -0.1, 1e200])


@settings(max_examples=60)
@given(st.lists(near_ties, min_size=6, max_size=6), st.sampled_from(NORMS), st.data())
def test_distances_are_decided_exactly(values: list[float], norm: float, draw: st.DataObject) -> None:
    a, b = np.array(values[:2])[None, :], np.array(values[2:]).reshape(2, 2)
    true = [power_of_distance(a[0], q, norm) for q in b]
    power = 2 if norm == 2.0 else 1
    around = draw.draw(st.sampled_from(true))
    guess = root_up(around) if norm == 2.0 else round_up(around)
    for threshold in (guess, nextafter(guess, 0.0), nextafter(guess, inf)):
        if threshold == inf:
            continue
        proved, possible = NormDistances(a, b, norm).within(Fraction(threshold))
        assert proved[0].tolist() == possible[0].tolist() == [d <= Fraction(threshold) ** power for d in true]


def test_sums_that_do_not_round() -> None:
    digits = load("digits:test").select("0:30").x
    for norm in NORMS:
        assert NormDistances(digits, digits, norm).lower[0, 1] == power_of_distance(digits[0], digits[1], norm)


# Images


@settings(max_examples=12)
@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=2),
    st.lists(st.integers(0, 8), min_size=1, max_size=2),
    st.sampled_from([0, 0.125, 0.25]),
)
def test_images_of_two_pixels_are_a_line(first: list[int], second: list[int], epsilon: float) -> None:
    data = pair_images(first, second, 8)
    (risk,) = optimal_risk(data, classes=[0, 1], norm="wasserstein", epsilon=epsilon)
    flat = line([k / 8 for k in first], [k / 8 for k in second])
    assert risk.exact_lower == risk.exact_upper == every_classifier(flat, epsilon, weights_of(flat, "empirical"))


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 5), (4, 1), (3, 4)]))
def test_bracket_of_w1(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid.of(shape)
    size = grid.size
    raw = rng.integers(0, 5, (2, size)) * rng.choice([1.0, 0.1], (2, 1))
    raw[:, 0] += 0.5
    a, b = images.normalised(raw)
    plan = images.transport(a, b, grid.distances)
    exact = images.exact_distance(raw[0], raw[1], grid)
    assert Fraction(plan.lower) <= exact <= Fraction(plan.upper)
    assert plan.upper - plan.lower < 1e-11
    # The midpoint is half as far from both: closed balls meet iff the distance is at most 2 eps.
    middle = images.normalised((a + b)[None, :])[0]
    assert abs(images.transport(a, middle, grid.distances).upper - float(exact) / 2) < 1e-11


def test_w1_bounds_do_not_trust_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a, b = images.normalised(rng.random((2, 12)))
    costs = Grid.of((3, 4)).distances
    true = images.transport(a, b, costs)

    def wrong(first: np.ndarray, second: np.ndarray, costs: np.ndarray) -> tuple:
        plan = np.outer(first, second) * rng.choice([0.0, 1.0, -1.0, 50.0], costs.shape)
        return plan, rng.choice([0.0, 1e300, np.nan, -3.3], len(second))

    monkeypatch.setattr(solver, "plan", wrong)
    for _ in range(20):
        lie = images.transport(a, b, costs)
        assert lie.lower <= true.upper
        assert lie.upper >= true.lower


def test_digits_as_if_all_distances_were_known() -> None:
    data = load("digits:test")
    a, b = data.x[data.y == 3][:15], data.x[data.y == 8][:12]
    small = Dataset(np.concatenate([a, b]), np.array([3] * 15 + [8] * 12), data.domain, "small", data.image_shape)
    exact = np.array([[float(images.exact_distance(p, q, Grid.of((8, 8)))) for q in b] for p in a])
    epsilons = [0.2, 0.3, 0.4]
    for risk in optimal_risk(small, classes=[3, 8], norm="wasserstein", epsilon=epsilons):
        expected = cover.solve(exact <= 2 * risk.epsilon, (1, 1)).value
        assert risk.exact_lower == risk.exact_upper == Fraction(expected, 27)
        assert all(exact[i, j - 15] <= 2 * risk.epsilon for i, j in risk.pairs)
        assert risk.conflicts <= (exact <= 2 * risk.epsilon).sum() <= risk.conflicts + risk.open_pairs


def test_time_over_leaves_a_bracket() -> None:
    risks = optimal_risk("digits:test", classes=[3, 8], norm="wasserstein", epsilon=[0.25, 5.0], timeout=0.0)
    assert risks[0].status is Status.TIMED_OUT
    assert risks[0].lower == 0.0 < risks[0].upper
    assert (risks[1].lower, risks[1].upper, risks[1].status) == (0.0, 0.5, Status.TIMED_OUT)


def test_ctrl_c_leaves_a_bracket(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = images.transport, []

    def interrupted(*arguments: np.ndarray) -> images.Plan:
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(images, "transport", interrupted)
    first, second = optimal_risk("digits:test", classes=[3, 8], norm="wasserstein", epsilon=[0.3, 0.0])
    assert first.status is Status.INTERRUPTED
    assert first.lower <= 0.2625 <= first.upper
    assert first.lower < first.upper
    assert (second.lower, second.upper, second.status) == (0.0, 0.0, Status.CLOSED)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": [3, 3]}, "not two classes"),
        ({"classes": [3]}, "not two classes"),
        ({"classes": [3, 11]}, "no sample of class 11"),
        ({"epsilon": -0.1}, "not a finite number"),
        ({"epsilon": float("nan")}, "not a finite number"),
        ({"epsilon": inf}, "not a finite number"),
        ({"epsilon": []}, "is empty"),
        ({"norm": 3}, "not supported"),
        ({"priors": "half"}, "not known"),
        ({"timeout": -1}, "not a number of seconds"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        optimal_risk("digits:test", **({"classes": [3, 8], "norm": 2, "epsilon": 0.1} | options))


@pytest.mark.parametrize(
    ("x", "shape", "message"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], (1, 1, 2), "has no mass"),
        ([[1.0, 0.0], [1.0, -0.5]], (1, 2, 1), "pixel 1 is negative"),
        ([[1.0, 0.0], [1.0, 0.5]], None, "no image shape"),
        ([[1.0, 0.0], [1.0, 0.5]], (2, 1, 1), "2 channels"),
    ],
)
def test_bad_images(x: list, shape: tuple | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        optimal_risk(Dataset(np.array(x), np.array([0, 1]), image_shape=shape), classes=[0, 1], norm="wasserstein", epsilon=1.0)


def test_command(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([[0.0], [1.0], [5.0]]), y=np.array([4, 7, 7]))
    command = ["optimal-risk", "--data", str(tmp_path / "data.npz"), "--classes", "4,7", "--norm", "2", "--epsilon", "0.25,0.5"]
    assert main([*command, "--json"]) == 0
    first, second = (json.loads(row) for row in capsys.readouterr().out.splitlines())
    assert (first["epsilon"], first["lower"], first["upper"], first["matching"]) == (0.25, 0.0, 0.0, 0)
    assert (second["pairs"], second["weights"], second["conflicts"], second["status"]) == ([[0, 1]], ["1/3"], 1, "closed")
    assert second["lower"] <= 1 / 3 <= second["upper"]
    assert main([*command, "--priors", "equal"]) == 0
    assert "optimal risk = 1/4 (0.25)" in capsys.readouterr().out
    assert main([*command[:4], "7,7", *command[5:]]) == 2
    assert "not two classes" in capsys.readouterr().err
    assert main([*command[:-1], "0.1,-1"]) == 2
