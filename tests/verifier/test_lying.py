"""Networks that solvers lie about: y = s relu(x - 1) on [0, 1 + 1/s], s = 1e6 and 2^30, both directions. No answer may be wrong.

The exact values are computed here from the stored (rounded) end of the interval. "unknown" and an open bracket are allowed where the
margin lies within rounding; a wrong verdict or a bracket that misses the truth never is.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import pytest

from problems import exact
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from problems.specification import Row, Specification, make_disjunct
from solvers import available, capabilities, names
from solvers.program import Capability
from verifier import verify
from verifier.bounds import Propagation, backward, layer_bounds, upper_bound
from verifier.bounds.walk import walk
from verifier.radii import Setting, Task, solve
from verifier.search.budget import Budget
from verifier.search.search import Search
from verifier.violation import Violation, targets_of

SLOPES = [1e6, 2.0**30]


def solvers_for(*needs: Capability) -> list[str]:
    """ "auto" and the backends that start here and can take the programs of a question."""
    return ["auto", *[name for name in names() if not available()[name] and capabilities(name) >= set(needs)]]


LINEAR, QUADRATIC = solvers_for(Capability.LINEAR), solvers_for(Capability.LINEAR, Capability.QUADRATIC)


def steep(slope: float, form: str) -> Network:
    """y = slope relu(x - 1), written in three ways."""
    one = np.ones((1, 1))
    if form == "inside":
        return sequential([Dense(slope * one), Dense(one)], [np.array([-slope]), np.zeros(1)])
    if form == "outside":
        return sequential([Dense(one), Dense(slope * one)], [np.array([-1.0]), np.zeros(1)])
    root = 2.0 ** (round(np.log2(slope)) // 2)  # a power of two: the product of the two factors is exact
    return sequential([Dense(root * one), Dense(slope / root * one)], [np.array([-root]), np.zeros(1)])


FORMS = ["inside", "outside", "split"]


def interval(slope: float) -> Box:
    return Box(np.zeros(1), np.array([1.0 + 1.0 / slope]))


def top(slope: float) -> Fraction:
    """The exact maximum of y: 1 up to the rounding of the interval's end."""
    return Fraction(slope) * (Fraction(1.0 + 1.0 / slope) - 1)


def specification(slope: float, sign: int, threshold: Fraction, *, strict: bool = False) -> Specification:
    """Unsafe where sign * y >= threshold."""
    row = Row(((0, Fraction(sign)),), -threshold, strict)
    return Specification((make_disjunct(interval(slope), [row], output_size=1),), 1, 1)


def questions(slope: float) -> Iterator[tuple[str, int, Fraction, bool]]:
    """(name, sign, threshold, strict) around the exact extremes 0 and `top`."""
    high = top(slope)
    for strict in (False, True):
        for name, gap in (
            ("tie", Fraction(0)),
            ("above", Fraction(1, 10**6)),
            ("just above", Fraction(1, 10**9)),
            ("below", Fraction(-1, 10**6)),
        ):
            yield f"max {name}", 1, high + gap, strict
            yield f"min {name}", -1, gap, strict
    yield "half", 1, Fraction(1, 2), False
    yield "one", 1, Fraction(1), False
    yield "two", 1, Fraction(2), False
    yield "negative", -1, Fraction(1, 2), False


CASES = [(slope, form, *question) for slope in SLOPES for form in FORMS for question in questions(slope)]


def largest(slope: float, sign: int, threshold: Fraction) -> Fraction:
    """The exact largest violation."""
    return (top(slope) if sign > 0 else Fraction(0)) - threshold


def beyond_rounding(slope: float, value: Fraction) -> bool:
    """Whether float64 has to settle a question whose exact value this is: terms of the size of the slope cancel."""
    return abs(value) > slope * 2.0**-43


@pytest.mark.parametrize("splitting", ["input", "neuron"])
@pytest.mark.parametrize(("slope", "form", "name", "sign", "threshold", "strict"), CASES)
def test_search(slope: float, form: str, name: str, sign: int, threshold: Fraction, strict: bool, splitting: Any) -> None:
    network, wanted = steep(slope, form), specification(slope, sign, threshold, strict=strict)
    search = Search(Violation(network, targets_of(wanted), splitting=splitting, specification=wanted), batch=4)
    search.run(Budget(0.05))
    value = largest(slope, sign, threshold)
    assert search.lower <= value <= search.upper
    if beyond_rounding(slope, value):
        assert (search.lower >= 0) == (value > 0)
        assert (search.upper < 0) == (value < 0)


@pytest.mark.parametrize("method", ["auto", "milp"])
@pytest.mark.parametrize(("slope", "form", "name", "sign", "threshold", "strict"), CASES)
def test_verify(slope: float, form: str, name: str, sign: int, threshold: Fraction, strict: bool, method: str) -> None:
    value = largest(slope, sign, threshold)
    answer = verify(steep(slope, form), specification(slope, sign, threshold, strict=strict), method=method, timeout=0.05)
    assert answer.bracket.lower <= value <= answer.bracket.upper
    if answer.verdict == "sat":
        assert value > 0 or (value == 0 and not strict)
    elif answer.verdict == "unsat":
        assert value < 0
    else:
        assert answer.verdict in ("unknown", "timed-out")


@pytest.mark.parametrize("solver", LINEAR)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slope", SLOPES)
def test_search_with_every_solver(slope: float, form: str, solver: str) -> None:
    """Two rows, so that pieces end as programs: y >= t and 2 y >= 2 t, whose smaller violation is v, or 2 v for v < 0."""
    network = steep(slope, form)
    for sign, threshold in (
        (1, Fraction(1)),
        (1, top(slope) + Fraction(1, 10**6)),
        (1, Fraction(1, 2)),
        (-1, Fraction(1, 10**9)),
        (-1, Fraction(0)),
    ):
        rows = [Row(((0, Fraction(factor * sign)),), -factor * threshold) for factor in (1, 2)]
        wanted = Specification((make_disjunct(interval(slope), rows, output_size=1),), 1, 1)
        value = largest(slope, sign, threshold)
        for splitting in ("input", "neuron"):
            question = Violation(network, targets_of(wanted), splitting=splitting, specification=wanted, solver=solver)
            search = Search(question, batch=4)
            search.run(Budget(0.05))
            assert search.lower <= min(value, 2 * value) <= search.upper


@pytest.mark.parametrize("region", ["box", "l1", "l2", "linf"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slope", SLOPES)
def test_bounds(slope: float, form: str, region: str) -> None:
    """Interval and backward bounds of every neuron and of y contain the exact values at the ends, the kink and between."""
    network, box = steep(slope, form), interval(slope)
    norm = {"l1": 1, "l2": 2, "linf": inf}.get(region)
    chosen: Region = box if norm is None else Ball(np.array([0.5]), 0.5 + 1.0 / slope, norm, box)
    lower, upper = (side[None] for side in chosen.bounding_box())
    pieces = walk(Propagation(network, chosen, lower, upper), crown=True, iterations=3)
    last = len(network.nodes) - 1
    value = {sign: upper_bound(pieces, backward(pieces, last, np.full((1, 1, 1), sign)))[0][0, 0] for sign in (1.0, -1.0)}
    first = layer_bounds(pieces, network.relus[0] - 1)
    for x in (Fraction(0), Fraction(1), Fraction(1) + Fraction(1, 2**31), Fraction(float(box.upper[0]))):
        if not chosen.contains([x]):
            continue
        values = exact.evaluate_all(network, [x])
        y = values[last][0]
        assert y <= value[1.0]
        assert -y <= value[-1.0]
        assert pieces.lowers[last][0, 0] <= y <= pieces.uppers[last][0, 0]
        assert first[0][0, 0] <= values[network.relus[0] - 1][0] <= first[1][0, 0]


def classifier(slope: float, form: str, height: float, sign: int) -> Network:
    """Two inputs, z_0 = 0 and z_1 = sign (slope relu(x_0 + x_1 - 1) - height)."""
    inner = steep(slope, form)
    maps = [inner.nodes[1].maps[0].weights, inner.nodes[3].maps[0].weights]  # type: ignore[union-attr]
    first, second = Dense(maps[0] @ np.ones((1, 2))), Dense(sign * np.array([[0.0], [1.0]]) @ maps[1])
    return sequential([first, second], [inner.nodes[1].bias, np.array([0.0, -sign * height])])  # type: ignore[union-attr]


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize(("norm", "solver"), [(norm, name) for norm in (1, 2, inf) for name in (QUADRATIC if norm == 2 else LINEAR)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slope", SLOPES)
def test_radius(slope: float, form: str, norm: float, solver: str, bounded: bool) -> None:
    """From 0 up to where y reaches the height, and from beyond back to where it falls to it: along the diagonal."""
    box = Box(np.zeros(2), np.full(2, 2.0)) if bounded else None
    for height, sign in ((0.5, 1), (1.0, 1), (0.5, -1)):
        network = classifier(slope, form, height, sign)
        start = 0.0 if sign > 0 else (1.0 + 1.0 / slope) / 2
        gap = abs(1 + Fraction(height) / Fraction(slope) - 2 * Fraction(start))  # how far x_0 + x_1 has to move
        truth = {1: gap, 2: gap**2 / 2, inf: gap / 2}[norm]
        bracket = solve(Setting(network, norm, box, 1e-6, solver), Task(0, np.full(2, start), 0, None, timeout=0.2)).bracket
        power = 2 if norm == 2 else 1
        assert Fraction(bracket.lower) ** power <= truth
        if bracket.upper < inf:
            assert bracket.witness is not None
            assert truth <= Fraction(bracket.upper) ** power
            logits = exact.evaluate(network, bracket.witness)
            assert logits[1] >= logits[0]
            assert Ball(np.full(2, start), 0.0, norm).distance_exact(bracket.witness) <= Fraction(bracket.upper) ** power
