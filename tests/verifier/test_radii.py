"""Exact radii against brute force in exact arithmetic, closed forms, and what a radius search may and may not say without a witness."""

from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact
from problems.network import Network
from problems.regions.ball import Ball
from problems.regions.box import Box
from tests.verifier.oracles import SEEDS, nearest_error, random_network
from verifier.bracket import Bracket, Status
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


@settings(max_examples=60)
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
