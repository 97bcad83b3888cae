"""Complete verification: budgets that end, and each kind of bad input."""

import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from problems import bundled, exact
from problems.errors import InputError, NetworkError, SpecificationError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions.box import Box
from problems.specification import Row, Specification, make_disjunct, robustness
from verifier import verify
from verifier.bracket import Status
from verifier.search.budget import Budget
from verifier.search.search import Search
from verifier.violation import Violation, targets_of

PATIENCE = 10.0


# --- budgets ------------------------------------------------------------------------------------------------------------------------------


def hard() -> tuple[Network, Specification]:
    """Random weights in 30 dimensions, largest violation far below the first bound: hours of search."""
    generator = np.random.default_rng(0)
    sizes = [30, 60, 60, 60, 2]
    maps = [Dense(generator.standard_normal((b, a)) / np.sqrt(a)) for a, b in pairwise(sizes)]
    network = sequential(maps, [0.1 * generator.standard_normal(b) for b in sizes[1:]])
    box = Box(-np.ones(30), np.ones(30))
    row = Row(((0, Fraction(1)), (1, Fraction(-1))), Fraction(-6))
    return network, Specification((make_disjunct(box, [row], output_size=2),), 30, 2)


@pytest.mark.parametrize("method", ["auto", "milp"])
def test_time_out_comes_in_time_and_leaves_a_bracket(method: str) -> None:
    network, specification = hard()
    begun = time.monotonic()
    verdict = verify(network, specification, method=method, timeout=1.5)
    assert time.monotonic() - begun < 6.0
    assert verdict.verdict == "timed-out"
    assert verdict.bracket.status is Status.TIMED_OUT
    assert verdict.bracket.lower < 0 <= verdict.bracket.upper < np.inf
    point = np.zeros(30)
    assert exact.evaluate(network, point)[0] - exact.evaluate(network, point)[1] - 6 <= verdict.bracket.upper


def test_memory_limit_leaves_a_bracket() -> None:
    network, specification = hard()
    verdict = verify(network, specification, memory=1e-3, timeout=PATIENCE)
    assert verdict.verdict == "unknown"
    assert verdict.bracket.status is Status.OUT_OF_MEMORY
    assert verdict.bracket.lower < 0 <= verdict.bracket.upper


def test_interrupt_event_stops_a_search() -> None:
    network, specification = hard()
    budget = Budget(PATIENCE)
    threading.Timer(0.3, budget.interrupt.set).start()
    search = Search(Violation(network, targets_of(specification), specification=specification), batch=8)
    assert search.run(budget) is Status.INTERRUPTED
    assert search.lower < 0 <= search.upper < np.inf
    assert budget.elapsed < 5.0


def test_progress_sees_a_narrowing_bracket() -> None:
    seen: list[tuple[float, float]] = []
    network, specification = hard()
    verify(network, specification, timeout=1.0, progress=lambda search: seen.append((search.lower, search.upper)))
    assert len(seen) > 1
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in pairwise(seen))


# --- bad input ----------------------------------------------------------------------------------------------------------------------------

GOOD = robustness(Box(np.zeros(64), np.ones(64)), 0, 10)
BAD: dict[str, tuple[type[InputError], dict[str, Any]]] = {
    "another number of inputs": (SpecificationError, {"specification": robustness(Box(np.zeros(3), np.ones(3)), 0, 10)}),
    "another number of outputs": (SpecificationError, {"specification": robustness(Box(np.zeros(64), np.ones(64)), 0, 3)}),
    "an unbounded region": (SpecificationError, {"specification": robustness(Box(np.zeros(64), np.full(64, np.inf)), 0, 10)}),
    "no such property": (SpecificationError, {"specification": "nowhere.vnnlib"}),
    "no such network": (NetworkError, {"network": "nowhere.onnx"}),
    "not a kind of network": (NetworkError, {"network": "network.txt"}),
    "no network at all": (NetworkError, {"network": 3}),
    "negative timeout": (InputError, {"timeout": -1.0}),
    "timeout that is no number": (InputError, {"timeout": float("nan")}),
    "timeout that is a text": (InputError, {"timeout": "soon"}),
    "no memory": (InputError, {"memory": 0.0}),
    "no workers": (InputError, {"workers": 0}),
    "unknown method": (InputError, {"method": "guess"}),
    "unknown solver": (InputError, {"solver": "oracle"}),
    "unknown semantics": (InputError, {"semantics": "float16"}),
    "tolerance of zero": (InputError, {"tolerance": 0.0}),
    "negative seed": (InputError, {"seed": -1}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_typed_error(case: str) -> None:
    kind, arguments = BAD[case]
    call = {"network": "digits-16x2", "specification": GOOD} | arguments
    with pytest.raises(kind) as caught:
        verify(call.pop("network"), call.pop("specification"), **({"timeout": 5.0} | call))
    assert caught.value.place
    assert caught.value.problem


def test_malformed_files(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(NetworkError):
        verify(tmp_path / "broken.onnx", GOOD)
    (tmp_path / "broken.vnnlib").write_text("(declare-const X_0 Real)\n(assert (<= X_0")
    with pytest.raises(SpecificationError):
        verify("digits-16x2", tmp_path / "broken.vnnlib")


def test_bundled_networks_are_found_by_name() -> None:
    verdict = verify("digits-16x2", robustness(Box(np.full(64, 0.5), np.full(64, 0.5)), 0, 10), timeout=PATIENCE)
    logits = exact.evaluate(_load("digits-16x2"), np.full(64, 0.5))
    assert verdict.verdict == ("unsat" if logits[0] > max(logits[1:]) else "sat")


def _load(name: str) -> Network:
    from problems import readers

    assert name in bundled.names()
    return readers.load(name)
