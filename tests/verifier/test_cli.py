import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import verifier
from problems.data import Dataset
from problems.errors import DataError
from solvers.errors import SolverUnavailableError
from tests.verifier.command_line import QUESTION, answers
from verifier.bracket import Bracket, Status
from verifier.cli import main


@pytest.fixture
def absolute(tmp_path: Path) -> Path:
    """y = relu(x) + relu(-x) = |x|, as a file."""
    file = tmp_path / "absolute.npz"
    np.savez(file, L=2, W0=np.array([[1.0], [-1.0]]), b0=np.zeros(2), W1=np.array([[1.0, 1.0]]), b1=np.zeros(1))
    return file


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], list[dict]]:
    """Puts a function that returns `result` in the place of a verb of `verifier`; the list gets the options it is called with."""

    def fake(name: str, result: object) -> list[dict]:
        calls: list[dict] = []

        def called(*arguments: object, **options: object) -> object:
            calls.append({"arguments": arguments} | options)
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setitem(verifier.__dict__, name, called)
        return calls

    return fake


# verify, in earnest

INSIDE = "(assert (>= X_0 -1))(assert (<= X_0 1))"


def test_unsat(absolute: Path, write: Callable[[str], str], capsys: pytest.CaptureFixture) -> None:
    command = ["verify", write(INSIDE + "(assert (>= Y_0 1.5))"), "--network", str(absolute)]
    assert main(command) == 0
    assert capsys.readouterr().out == "unsat\n"
    assert main([*command, "--json"]) == 0
    (answer,) = answers(capsys)
    assert answer["verdict"] == "unsat"
    assert float(answer["lower"]) <= -0.5 <= answer["upper"] < 0
    assert answer["witness"] is None
    assert answer["semantics"] == "real"
    assert answer["seconds"] >= 0


def test_sat(absolute: Path, write: Callable[[str], str], capsys: pytest.CaptureFixture) -> None:
    command = ["verify", write(INSIDE + "(assert (>= Y_0 0.5))"), "--network", f"f={absolute}"]
    assert main(command) == 0
    verdict, *witness = capsys.readouterr().out.splitlines()
    assert verdict == "sat"
    pairs = dict(line.strip("()").split() for line in witness)
    assert list(pairs) == ["X_0", "Y_0"]
    assert abs(float(pairs["X_0"])) == float(pairs["Y_0"])
    assert 0.5 <= float(pairs["Y_0"]) <= 1
    assert main([*command, "--json"]) == 0
    (answer,) = answers(capsys)
    assert answer["verdict"] == "sat"
    assert answer["lower"] >= 0
    assert 0.5 <= abs(answer["witness"][0]) <= 1


def test_sat_of_a_vnnlib_2_property(absolute: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The witness is written tensor by tensor; declared float32 is not passed over in silence, and must be what the network computes in."""
    file = tmp_path / "q.vnnlib"
    text = "(vnnlib-version <2.0>)(declare-network f (declare-input X {0} [1,1]) (declare-output Y {0} [1]))(assert (<= -1 X[0,0] 1))"
    file.write_text(text.format("real") + "(assert (>= Y[0] 0.5))")
    assert main(["verify", str(file), "--network", f"f={absolute}"]) == 0
    captured = capsys.readouterr()
    verdict, first, x, second, y = captured.out.splitlines()
    assert (verdict, first, second, captured.err) == ("sat", "X real [1,1]", "Y real [1]", "")
    assert abs(float(x)) == float(y) >= 0.5
    file.write_text(text.format("float32") + "(assert (>= Y[0] 0.5))")
    assert main(["verify", str(file), "--network", str(absolute)]) == 2
    assert "computes in float64" in capsys.readouterr().err
    single = {name: array.astype(np.float32) if array.ndim else array for name, array in np.load(absolute).items()}
    np.savez(tmp_path / "single.npz", **single)
    assert main(["verify", str(file), "--network", str(tmp_path / "single.npz")]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[:2] == ["sat", "X float32 [1,1]"]
    assert "declares float32. The answer is about real numbers" in captured.err


def test_verify_in_no_time(write: Callable[[str], str], capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    inputs = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(64))
    outputs = "".join(f"(declare-const Y_{i} Real)\n" for i in range(10))
    file = tmp_path / "hard.vnnlib"
    file.write_text(inputs + outputs + "(assert (>= Y_0 15))(assert (>= Y_1 15))")
    assert main(["verify", str(file), "--network", "digits-16x2", "--timeout", "0"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "timed-out\n"
    assert "largest violation lies in" in captured.err


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("(assert (>= Y_0 0.5)", "absolute"),
        ("(assert (>= Y_1 0.5))", "absolute"),
        (INSIDE + "(assert (>= X_0 2))", "absolute"),
        (INSIDE + "(assert (>= Y_0 0.5))", "digits-16x2"),
        (INSIDE + "(assert (>= Y_0 0.5))", "nowhere.onnx"),
        (INSIDE + "(assert (>= Y_0 0.5))", "digits-9x9"),
        (INSIDE + "(assert (>= Y_0 0.5))", "f="),
    ],
)
def test_bad_input(text: str, network: str, absolute: Path, write: Callable[[str], str], capsys: pytest.CaptureFixture) -> None:
    command = ["verify", write(text), "--network", str(absolute) if network == "absolute" else network]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert main([*command, "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": captured.err.removeprefix("error: ").rstrip("\n")}


def test_missing_property(absolute: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(tmp_path / "nowhere.vnnlib"), "--network", str(absolute)]) == 2
    assert "nowhere.vnnlib" in capsys.readouterr().err


# What the functions are given, and what is made of what they return


def test_options_arrive(faked: Callable[[str, object], list[dict]]) -> None:
    bracket = Bracket("max", -1.0, 0.5, Status.TIMED_OUT, np.array([0.25]))
    calls = faked(
        "verify",
        SimpleNamespace(verdict="timed-out", bracket=bracket, witness=None, witness_output=None, reason="R.", seconds=1.0, tensors=()),
    )
    options = ["--timeout", "3", "--memory", "2", "--workers", "1", "--solver", "highs", "--tolerance", "1e-3", "--seed", "5"]
    assert main(["verify", "a.vnnlib", "--network", "f=b.onnx", "--method", "milp", "--semantics", "float32", *options]) == 0
    (call,) = calls
    assert call.pop("arguments") == ("b.onnx", Path("a.vnnlib"))
    assert call.pop("progress") is None
    expected = {"timeout": 3, "memory": 2, "workers": 1, "device": "cpu", "solver": "highs", "tolerance": 1e-3, "seed": 5}
    assert call == expected | {"semantics": "float32", "method": "milp", "resume": None, "executor": None}


def radius_records() -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(sample=4, label=7, bracket=Bracket("min", 0.1, 0.25, Status.CLOSED, np.array([0.5]), seconds=2.0))
    yield SimpleNamespace(sample=5, label=1, bracket=Bracket("min", inf, inf, Status.EMPTY))
    yield SimpleNamespace(sample=6, label=1, bracket=Bracket("min", 0.0, inf, Status.INTERRUPTED))
    raise AssertionError("went on after an interrupt")


def test_radius(faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    calls = faked("radius", radius_records())
    assert main([*QUESTION, "--samples", "4:8", "--json"]) == 0
    first, second, third = answers(capsys)
    assert {name: first[name] for name in ("sample", "label", "lower", "upper", "status", "seconds")} == {
        "sample": 4,
        "label": 7,
        "lower": 0.1,
        "upper": 0.25,
        "status": "closed",
        "seconds": 2.0,
    }
    assert (second["lower"], second["upper"], second["status"]) == ("inf", "inf", "empty")
    assert (third["lower"], third["upper"], third["status"]) == (0.0, "inf", "interrupted")
    network, data = calls[0]["arguments"]
    assert network == "digits-16x2"
    assert data.numbers.tolist() == [4, 5, 6, 7]
    assert (calls[0]["norm"], calls[0]["region"], calls[0]["timeout"]) == (inf, None, None)


def test_radius_for_people(faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    faked("radius", radius_records())
    assert main([*QUESTION, "--samples", "4:8"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "sample 4, label 7: 0.1 <= radius <= 0.25 (2.00 s)"
    assert captured.out.splitlines()[1].startswith("sample 5, label 1: radius = inf")
    assert "Interrupted" in captured.out.splitlines()[2]
    assert captured.err == "2 of 4 radii are exact to the tolerance.\n"


def test_dro(faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    worst = SimpleNamespace(epsilon=0.1, attack=0.2, lower=0.25, upper=0.5, lipschitz_bound=None, slope_bounds=None, seconds=1.5)
    worst.status = Status.CLOSED
    shown = dict(vars(worst))
    worst.reasons, worst.distribution = (), None
    calls = faked("dro", [worst])
    command = ["dro", *QUESTION[1:], "--order", "2", "--epsilon", "0.1,0.2", "--box", "-1", "2"]
    assert main([*command, "--json"]) == 0
    assert answers(capsys) == [shown | {"status": "closed"}]
    assert (calls[0]["loss"], calls[0]["order"], calls[0]["epsilon"], calls[0]["label_cost"]) == ("zero-one", 2, (0.1, 0.2), None)
    assert calls[0]["region"].lower.tolist() == [-1.0] * 64
    assert main(command) == 0
    assert capsys.readouterr().out == "epsilon 0.1: 0.25 <= worst-case error <= 0.5, attack 0.2 (1.50 s)\n"


def test_attack(faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    from verifier.attacks.base import AttackReport, AttackRow
    from verifier.attacks.shift import MixtureRow

    rows = [AttackRow(0, 3, True, 0.05, 0.5), AttackRow(1, 2, False, inf, -1.0)]
    report = AttackReport("pgd", tuple(rows), np.zeros((2, 64)), 0.5, 0.025, "point-wise")
    calls = faked("attack", report)
    command = ["attack", "--method", "pgd", *QUESTION[1:], "--epsilon", "0.1", "--samples", "0:2"]
    assert main([*command, "--json"]) == 0
    *samples, last = answers(capsys)
    assert samples == [vars(rows[0]), vars(rows[1]) | {"distance": "inf"}]
    assert last == {
        "accuracy": 0.5, "budget_used": 0.025, "threat_model": "point-wise", "judged_by": report.judged_by, "loss": "margin",
        "status": "decided",
    }  # fmt: skip
    assert (calls[0]["epsilon"], calls[0]["norm"], calls[0]["method"]) == (0.1, inf, "pgd")
    assert main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    choices = ("--loss", "ce", "--copies", "3", "--order", "2", "--points", "4", "--allocation", "random")
    calls = faked("attack", replace(report, rows=(MixtureRow(0, 3, True, 0.05, 0.5, 0.5, 0.25),), status=Status.INTERRUPTED))
    assert main([*command, *choices]) == 0
    assert [calls[0][name] for name in ("loss", "copies", "order", "points", "allocation")] == ["ce", 3, 2, 4, "random"]
    captured = capsys.readouterr()
    assert "0.25 of its mass" in captured.out
    assert "ended early" in captured.err


@pytest.mark.parametrize("complete", [True, False])
def test_audit(complete: bool, faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    parts: dict[str, tuple] = {"losses": (), "certified": (), "tightness": (), "notes": ()}
    audit = SimpleNamespace(complete=complete, radii_closed=3, radii_done=4, radii_wanted=8, seconds=2.0, **parts)
    calls = faked("audit", audit)
    assert main(["audit", "-o", "out", "--samples", "0:4", "--json"]) == 0
    (answer,) = answers(capsys)
    files = {"report": str(Path("out/index.html")), "results": str(Path("out/results.json"))}
    assert answer == vars(audit) | {name: [] for name in parts} | files
    assert calls[0]["arguments"] == ("digits-16x2", "digits:test")
    assert (calls[0]["output"], calls[0]["samples"], calls[0]["progress"]) == ("out", "0:4", None)
    assert main(["audit", "-o", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(str(Path("out/index.html")))
    assert ("go on" in captured.err) is not complete


def test_unknown_attacks(capsys: pytest.CaptureFixture) -> None:
    assert main(["attack", "--method", "magic", *QUESTION[1:], "--epsilon", "0.1"]) == 2
    assert "magic" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [DataError("x", "is bad."), SolverUnavailableError("solver", "is not there."), FileNotFoundError(2, "gone", "f")]
)
def test_errors_of_the_engine(error: Exception, faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    faked("radius", error)
    assert main([*QUESTION, "--json"]) == 2
    captured = capsys.readouterr()
    assert "error" in json.loads(captured.out)
    assert captured.err.startswith("error: ")


def test_nothing_to_report(faked: Callable[[str, object], list[dict]], capsys: pytest.CaptureFixture) -> None:
    faked("radius", KeyboardInterrupt())
    assert main(QUESTION) == 3
    faked("radius", [])
    assert main(QUESTION) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("data", ["digits:nowhere", "nowhere.npz", "mnist:nowhere"])
def test_bad_data(data: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["radius", "--network", "digits-16x2", "--data", data, "--norm", "2"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "nowhere" in message


def test_data_sets_travel(tmp_path: Path, faked: Callable[[str, object], list[dict]]) -> None:
    calls = faked("radius", [])
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.zeros(3))
    main(["radius", "--network", "n.onnx", "--data", str(tmp_path / "d.npz"), "--norm", "2", "--samples", "1:"])
    data = calls[0]["arguments"][1]
    assert isinstance(data, Dataset)
    assert data.numbers.tolist() == [1, 2]


def test_supports(capsys: pytest.CaptureFixture) -> None:
    assert main(["supports", "--onnx-operators"]) == 0
    assert {"Gemm", "Conv", "Relu", "BatchNormalization"} <= set(capsys.readouterr().out.split())
    assert main(["supports", "--vnnlib-versions"]) == 0
    assert capsys.readouterr().out == "1.0\n2.0\n"
    assert main(["supports", "--unsat-proofs"]) == 0
    assert capsys.readouterr().out == "false\n"
    assert main(["supports", "--json"]) == 0
    (everything,) = answers(capsys)
    assert everything["onnx-element-types"] == ["real"]
    assert main(["supports", "--everything"]) == 2


# As a process

NOISY = """
import os, sys, time, types, numpy as np, verifier
from verifier.bracket import Bracket, Status
from verifier.cli import main

def verify(*arguments, **options):
    print("printed by Python")
    os.write(1, b"written from C\\n")
    status = Status.TIMED_OUT
    if "--wait" in sys.argv:
        try:
            print("ready", file=sys.stderr, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    bracket = Bracket("max", -1.0, 0.5, status, np.zeros(1))
    parts = {"witness": None, "witness_output": None, "reason": str(status), "seconds": 1.0, "tensors": ()}
    return types.SimpleNamespace(verdict="unknown", bracket=bracket, **parts)

verifier.__dict__["verify"] = verify
sys.exit(main(["verify", "a.vnnlib", "--network", "b.onnx", "--json"]))
"""


def test_standard_output_carries_answers_only() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["upper"] == 0.5
    assert "written from C" in done.stderr
    assert "printed by Python" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_give_the_bracket_reached(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", NOISY, "--wait"], stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        while process.stderr.readline() != "ready\n":
            assert process.poll() is None
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(output)["status"] == "interrupted"


def test_a_reader_that_stops_reading() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        command = [sys.executable, "-m", "verifier", "supports"]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_python_m_verifier() -> None:
    done = subprocess.run([sys.executable, "-m", "verifier", "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == verifier.__version__ + "\n"
