"""Complete verification against brute force in exact arithmetic; ties, several rows and disjuncts, replay, budgets, bad input."""

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact
from problems.network import Network
from problems.readers.agreement import replay
from problems.specification import Row, Specification, make_disjunct
from tests.verifier.oracles import SEEDS, largest_violation, random_box, random_network
from verifier import verify
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
    if bracket.witness is not None:
        logits = exact.evaluate(network, bracket.witness)
        margin = specification.margin(bracket.witness, logits)
        assert margin is not None
        assert bracket.lower <= margin
    if verdict.verdict == "sat":
        assert verdict.witness is not None
        assert verdict.witness_output is not None
        assert specification.is_violated(verdict.witness, exact.evaluate(network, verdict.witness))
        assert specification.is_violated(verdict.witness, replay(network, verdict.witness).astype(np.float64))
        assert np.array_equal(verdict.witness_output, replay(network, verdict.witness))
    else:
        assert verdict.witness is None


DISTANCES = st.sampled_from([np.inf, np.inf, np.inf, 0.0, 1e-3, -1e-3, 1e-9, -1e-9])


@settings(max_examples=60)
@given(SEEDS, DISTANCES)
def test_against_brute_force(seed: int, distance: float) -> None:
    network, specification, truth = drawn(seed, distance)
    # Within rounding of a tie the search may halve for ever: it must then stop in time, and say nothing wrong.
    close = abs(truth) < 1e-4
    verdict = verify(network, specification, timeout=0.3 if close else PATIENCE)
    check(verdict, network, specification, truth)
    if not close:
        assert verdict.verdict == ("sat" if truth > 0 else "unsat"), verdict.reason


def searched(network: Network, specification: Specification, splitting: Any, timeout: float = PATIENCE) -> tuple[Search, Status]:
    question = Violation(network, targets_of(specification), splitting=splitting, specification=specification)
    search = Search(question, batch=8)
    return search, search.run(Budget(timeout))


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(["input", "neuron"]), DISTANCES)
def test_both_splittings_against_brute_force(seed: int, splitting: str, distance: float) -> None:
    network, specification, truth = drawn(seed, distance)
    close = abs(truth) < 1e-4
    search, status = searched(network, specification, splitting, 0.3 if close else PATIENCE)
    assert search.lower <= truth <= search.upper
    if search.witness is not None:
        margin = specification.margin(search.witness.point, exact.evaluate(network, search.witness.point))
        assert margin is not None
        assert search.lower <= margin
    if not close:
        assert search.lower >= 0 if truth > 0 else search.upper < 0, status
