"""The commands on the bundled networks, as a script would call them."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import pytest

from problems import readers
from problems.data import load
from problems.exact import evaluate
from tests.verifier.command_line import answers
from verifier.cli import main

DIGITS = ["--network", "digits-16x2", "--data", "digits:test", "--norm", "inf", "--workers", "1", "--json"]


def run(capsys: pytest.CaptureFixture, *arguments: str) -> list[dict]:
    assert main(list(arguments)) == 0
    return answers(capsys)


def test_radius_dro_and_attack_agree(capsys: pytest.CaptureFixture) -> None:
    data, network = load("digits:test").select("2:6"), readers.load("digits-16x2")
    radii = run(capsys, "radius", *DIGITS, "--samples", "2:6")
    assert sorted(answer["sample"] for answer in radii) == [2, 3, 4, 5]
    for answer in radii:
        row = answer["sample"] - 2
        assert answer["label"] == data.y[row]
        assert 0 <= answer["lower"] <= answer["upper"] <= (1 + 1e-6) * answer["lower"]
        logits = evaluate(network, np.array(answer["witness"]))
        assert max(z for k, z in enumerate(logits) if k != answer["label"]) >= logits[answer["label"]]
        assert np.abs(answer["witness"] - data.x[row]).max() <= answer["upper"]
    # Order inf, by hand: the share of samples whose radius is at most epsilon.
    epsilons = [0.5 * (a["lower"] + b["upper"]) for a, b in pairwise(radii)]
    curve = run(
        capsys, "dro", *DIGITS, "--samples", "2:6", "--loss", "zero-one", "--order", "inf", "--epsilon", ",".join(map(repr, epsilons))
    )
    for epsilon, answer in zip(epsilons, curve, strict=True):
        truth = np.mean([radius["upper"] <= epsilon for radius in radii])
        assert answer["epsilon"] == epsilon
        assert answer["attack"] <= answer["lower"] <= truth <= answer["upper"]
        assert answer["upper"] - answer["lower"] <= 1e-6
    largest = max(answer["upper"] for answer in radii)
    *rows, summary = run(capsys, "attack", "--method", "pgd", *DIGITS, "--samples", "2:6", "--epsilon", repr(1.2 * largest))
    assert [row["success"] for row in rows] == [True] * 4
    for row in rows:
        radius = next(answer for answer in radii if answer["sample"] == row["sample"])
        assert radius["lower"] <= row["distance"] <= 1.2 * largest
    assert summary["accuracy"] == 0


def test_a_wider_box_brings_errors_nearer_or_leaves_them(capsys: pytest.CaptureFixture) -> None:
    (inside,) = run(capsys, "radius", *DIGITS, "--samples", "4")
    (wider,) = run(capsys, "radius", *DIGITS, "--samples", "4", "--box", "-1e4", "1e4")
    (space,) = run(capsys, "radius", *DIGITS, "--samples", "4", "--all-space")
    assert space["lower"] <= wider["upper"]
    assert wider["lower"] <= inside["upper"]
    assert abs(wider["upper"] - space["upper"]) <= 2e-6 * space["upper"]


def test_no_time(capsys: pytest.CaptureFixture) -> None:
    (answer,) = run(capsys, "radius", "--network", "digits-conv", *DIGITS[2:], "--samples", "0", "--timeout", "0")
    assert answer["lower"] <= float(answer["upper"])
    assert answer["status"] in ("timed-out", "decided", "closed")


@pytest.mark.parametrize(
    "change",
    [
        ["--box", "0.25", "0.5"],
        ["--box", "1", "0"],
        ["--samples", "390:410"],
        ["--region", "nowhere.vnnlib"],
        ["--network", "digits-9x9"],
        ["--data", "nowhere.npz"],
        ["--solver", "no-such-solver"],
    ],
)
@pytest.mark.parametrize("command", [["radius"], ["dro", "--order", "1", "--epsilon", "0.1"]])
def test_bad_input(command: list[str], change: list[str], capsys: pytest.CaptureFixture) -> None:
    samples = [] if "--samples" in change else ["--samples", "0:2"]
    assert main([*command, *DIGITS, *samples, *change]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert list(json.loads(captured.out)) == ["error"]


def test_terminated_radius_search() -> None:
    command = [sys.executable, "-m", "verifier", "radius", "--network", "digits-conv", *DIGITS[2:], "--samples", "0:40"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        output, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "Traceback" not in error
    answers = [json.loads(line) for line in [first, *output.splitlines()]]
    assert 1 <= len(answers) < 40
    assert all(0 <= answer["lower"] <= float(answer["upper"]) <= inf for answer in answers)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_clear_error() -> None:
    command = [sys.executable, "-m", "verifier", "supports", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "standard output" in done.stderr
