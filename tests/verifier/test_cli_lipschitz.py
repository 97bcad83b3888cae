"""The command `lipschitz`: what it prints, and that it agrees with brute force."""

from math import inf
from pathlib import Path

import numpy as np
import pytest

from problems.network import Network
from problems.regions import Box
from tests.verifier.command_line import answers
from tests.verifier.slopes import constant, random_network
from verifier.cli import main

Example = tuple[Network, str]


@pytest.fixture
def example(tmp_path: Path) -> Example:
    """A small network, and the file that holds it."""
    network = random_network(1, (2, 4, 3))
    arrays = {"L": np.array(2), "X": np.zeros((1, 2)), "y": np.zeros(1, dtype=int)}
    for number, node in enumerate(network.nodes[1::2]):
        arrays |= {f"W{number}": node.maps[0].weights, f"b{number}": node.bias}
    np.savez(tmp_path / "net.npz", **arrays)
    return network, str(tmp_path / "net.npz")


@pytest.mark.parametrize("method", ["auto", "cells", "search"])
@pytest.mark.parametrize(("norm", "of"), [("1", "vector:1"), ("2", "margin:1"), ("inf", "pair:0,2"), ("2", "output:1")])
def test_json(method: str, norm: str, of: str, example: Example, capsys: pytest.CaptureFixture) -> None:
    network, file = example
    asked = ["lipschitz", "--network", file, "--box", "-1", "1", "--input-norm", norm, "--of", of, "--method", method, "--json"]
    assert main(asked) == 0
    (answer,) = answers(capsys)
    expected = constant(network, Box(np.full(2, -1.0), np.full(2, 1.0)), of, float(norm))
    assert answer["lower"] <= expected * (1 + 1e-9)
    assert answer["upper"] >= expected * (1 - 1e-9)
    assert answer["upper"] <= answer["lower"] * (1 + 1.1e-6)
    assert answer["status"] == "closed"
    assert set(answer["bounds"]) == {"norm_product", "interval", "relaxation", "search"}
    assert len(answer["witness"]) == 2
    assert answer["seconds"] >= 0


def test_a_box_around_a_row_and_the_program(example: Example, capsys: pytest.CaptureFixture) -> None:
    network, file = example
    common = ["lipschitz", "--network", file, "--input-norm", "inf", "--of", "pair:1,0", "--json"]
    assert main([*common, "--box-center", file, "--radius", "1"]) == 0
    assert main([*common, "--box", "-1", "1", "--method", "milp"]) == 0
    searched, program = answers(capsys)
    expected = constant(network, Box(np.full(2, -1.0), np.full(2, 1.0)), "pair:1,0", inf)
    for answer in (searched, program):
        assert answer["lower"] == pytest.approx(expected, rel=1e-6)
        assert answer["upper"] == pytest.approx(expected, rel=2e-6)
    assert program["claimed"] == pytest.approx(expected, rel=1e-4)
    assert "claimed" not in searched


def test_text(example: Example, capsys: pytest.CaptureFixture) -> None:
    assert main(["lipschitz", "--network", example[1], "--all-space", "--input-norm", "2", "--of", "vector:2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "Lipschitz constant" in first
    assert "norm product" in second
    assert "quadratic bound" in second


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ([], "region"),
        (["--box", "0", "1", "--of", "margin"], "of"),
        (["--box", "0", "1", "--input-norm", "3"], "tightcert lipschitz"),
        (["--all-space", "--input-norm", "inf", "--method", "milp"], "method"),
        (["--box", "0", "1", "--semantics", "float32"], "semantics"),
    ],
)
def test_bad_input(change: list[str], place: str, example: Example, capsys: pytest.CaptureFixture) -> None:
    asked = ["lipschitz", "--network", example[1], "--input-norm", "2", "--of", "output:0", *change, "--json"]
    assert main(asked) == 2
    (answer,) = answers(capsys)
    assert answer["error"].startswith(place)
