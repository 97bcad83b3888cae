import json
from argparse import Namespace
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import verifier
from problems.data import load
from problems.errors import RegionError
from problems.regions import Ball, Box
from tests.verifier.command_line import QUESTION, answers
from verifier.bracket import Status
from verifier.cli import main
from verifier.cli.output import at_least, at_most, plain
from verifier.cli.parser import UsageError, build
from verifier.cli.region import region_of


def parse(*arguments: str) -> Namespace:
    return build().parse_args(list(arguments))


# The grammar


def test_negative_numbers_are_values() -> None:
    assert parse(*QUESTION, "--box", "-1e4", "1e4").box == [-1e4, 1e4]
    assert parse(*QUESTION, "--box", "-1.5E-3", "-.5e-3").box == [-1.5e-3, -0.5e-3]
    assert parse(*QUESTION, "--box", "-inf", "inf").box == [-inf, inf]
    assert parse(*QUESTION, "--box", "-3", "-2.").box == [-3, -2]


def test_defaults() -> None:
    options = parse(*QUESTION)
    assert (options.timeout, options.memory, options.workers, options.device) == (None, None, None, "cpu")
    assert (options.solver, options.tolerance, options.seed, options.semantics) == ("auto", 1e-6, 0, "real")
    assert options.norm == inf
    assert parse("audit").network == "digits-16x2"
    assert parse("audit").output == "report"
    dro = ["dro", *QUESTION[1:], "--order", "1", "--epsilon", "0, 0.1,1e-3"]
    assert parse(*dro).epsilon == (0, 0.1, 1e-3)
    assert parse(*dro).loss == "zero-one"


@pytest.mark.parametrize(
    "change",
    [
        ["--norm", "3"],
        ["--timeout", "-1"],
        ["--timeout", "nan"],
        ["--timeout", "soon"],
        ["--memory", "0"],
        ["--workers", "0"],
        ["--workers", "-1"],
        ["--workers", "1.5"],
        ["--seed", "-1"],
        ["--seed", "1e3"],
        ["--tolerance", "-1e-6"],
        ["--device", "tpu"],
        ["--semantics", "double"],
        ["--box", "0"],
        ["--box", "a", "b"],
        ["--box", "nan", "1"],
        ["--radius", "-1e-3"],
        ["--ball", "0"],
        ["--time", "3"],
        ["extra"],
    ],
)
def test_bad_options(change: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*QUESTION, *change]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: tightcert")
    assert main([*QUESTION, *change, "--json"]) == 2
    (answer,) = answers(capsys)
    assert list(answer) == ["error"]


@pytest.mark.parametrize("arguments", [[], ["cells"], ["lipschitz"], ["check", "file"], ["nonsense"], ["--nonsense"], ["verify"], ["dro"]])
def test_bad_commands(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("epsilon", ["", "-1", "-1e-3,2", "0.1,,0.2", "nan", "inf", "a"])
def test_bad_epsilon(epsilon: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["dro", *QUESTION[1:], "--order", "1", "--epsilon", epsilon]) == 2
    assert "--epsilon" in capsys.readouterr().err


def test_version_and_name(capsys: pytest.CaptureFixture) -> None:
    for option, text in (("--version", verifier.__version__), ("--name", "tightcert")):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
        assert capsys.readouterr().out == text + "\n"


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert verifier.__version__ == version("tightcert")


# The region


def test_no_region() -> None:
    assert region_of(parse(*QUESTION), 3) is None


def test_boxes() -> None:
    box = region_of(parse(*QUESTION, "--box", "-1e4", "1e4"), 3)
    assert isinstance(box, Box)
    assert (box.lower.tolist(), box.upper.tolist()) == ([-1e4] * 3, [1e4] * 3)
    space = region_of(parse(*QUESTION, "--all-space"), 2)
    assert isinstance(space, Box)
    assert (space.lower.tolist(), space.upper.tolist()) == ([-inf] * 2, [inf] * 2)


def test_region_of_a_property(write: Callable[[str], str]) -> None:
    file = write("(assert (>= X_0 0.1))(assert (<= X_0 1))")
    region = region_of(parse(*QUESTION, "--region", file), 1)
    assert region is not None
    assert region.contains([Fraction(1, 10)])
    assert not region.contains([np.nextafter(0.1, 0)])
    with pytest.raises(RegionError, match="there are 2"):
        region_of(parse(*QUESTION, "--region", file), 2)


def test_region_of_two_boxes(write: Callable[[str], str]) -> None:
    file = write("(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 2) (<= X_0 3))))")
    with pytest.raises(RegionError, match="2 input boxes"):
        region_of(parse(*QUESTION, "--region", file), 1)


def test_ball_around_a_row(tmp_path: Path) -> None:
    file = tmp_path / "centers.npz"
    np.savez(file, X=np.array([[3.0, -4.0], [0.0, 0.0]]))
    ball = region_of(parse(*QUESTION, "--box-center", str(file), "--radius", "0.5", "--ball", "1"), 2)
    assert isinstance(ball, Ball)
    assert (ball.center.tolist(), ball.radius, ball.norm, ball.box) == ([3.0, -4.0], 0.5, 1, None)
    cube = region_of(parse(*QUESTION, "--box-center", str(file), "--radius", "0.5"), 2)
    assert isinstance(cube, Ball)
    assert cube.norm == inf
    with pytest.raises(RegionError, match="3 numbers"):
        region_of(parse(*QUESTION, "--box-center", str(file), "--radius", "0.5"), 3)
    np.savez(file, x=np.zeros((2, 2)))
    with pytest.raises(RegionError, match="no array X"):
        region_of(parse(*QUESTION, "--box-center", str(file), "--radius", "0.5"), 2)
    file.write_bytes(b"nothing")
    with pytest.raises(RegionError, match="cannot be read"):
        region_of(parse(*QUESTION, "--box-center", str(file), "--radius", "0.5"), 2)


def test_ball_around_a_sample() -> None:
    options = parse(*QUESTION, "--samples", "7", "--radius", "0.25", "--ball", "2")
    data = load("digits:test").select("7")
    ball = region_of(options, 64, data)
    assert isinstance(ball, Ball)
    assert ball.center.tolist() == data.x[0].tolist()
    assert ball.norm == 2
    assert ball.box is data.domain
    with pytest.raises(UsageError, match="one sample"):
        region_of(options, 64, load("digits:test"))


@pytest.mark.parametrize(
    "options",
    [
        ["--box", "0", "1", "--all-space"],
        ["--all-space", "--region", "a.vnnlib"],
        ["--box", "0", "1", "--radius", "1"],
        ["--box-center", "a.npz"],
        ["--ball", "2"],
        ["--ball", "2", "--box", "0", "1"],
    ],
)
def test_regions_that_do_not_go_together(options: list[str]) -> None:
    with pytest.raises(UsageError):
        region_of(parse(*QUESTION, *options), 64)


def test_empty_box() -> None:
    with pytest.raises(RegionError):
        region_of(parse(*QUESTION, "--box", "1", "0"), 64)


# What is printed


@given(st.floats(allow_nan=False))
def test_ends_are_rounded_outward(value: float) -> None:
    if np.isinf(value):
        assert at_least(value) == at_most(value) == str(value)
        return
    below, above = at_least(value), at_most(value)
    assert float(below) == value or Decimal(below) < Decimal(value)
    assert float(above) == value or Decimal(value) < Decimal(above)
    assert Decimal(above) - Decimal(below) <= abs(Decimal(value)) * Decimal("1.1e-5")
    assert max(len(below), len(above)) < 20


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_digit(value: float) -> None:
    assert json.loads(json.dumps(plain({"a": np.array([value]), "b": np.float64(value)}))) == {"a": [value], "b": value}


def test_json_of_what_json_has_not() -> None:
    record = {"a": (inf, -inf), "b": Fraction(1, 3), "c": Status.TIMED_OUT, "d": np.int64(3), "e": None, 1: np.array([True])}
    expected = {"a": ["inf", "-inf"], "b": "1/3", "c": "timed-out", "d": 3, "e": None, "1": [True]}
    assert plain(record) == expected
