"""Instances of the verification competition with published truth: no wrong verdict; and the benchmark program itself."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks import verify as program
from problems import readers, vnnlib
from problems.exact import evaluate
from problems.maps import Dense
from problems.network import sequential
from problems.readers.agreement import replay
from problems.vnncomp import read_instances
from problems.writer import write_onnx
from verifier import verify

# (benchmark, network, property): quick ones, sat and unsat, one and several rows and disjuncts, input and neuron splitting.
QUICK = [
    ("acasxu", "ACASXU_run2a_1_1_batch_2000", "prop_1"),
    ("acasxu", "ACASXU_run2a_1_4_batch_2000", "prop_2"),
    ("acasxu", "ACASXU_run2a_4_1_batch_2000", "prop_2"),
    ("acasxu", "ACASXU_run2a_1_7_batch_2000", "prop_3"),
    ("acasxu", "ACASXU_run2a_4_4_batch_2000", "prop_3"),
    ("acasxu", "ACASXU_run2a_2_1_batch_2000", "prop_4"),
    ("acasxu", "ACASXU_run2a_1_9_batch_2000", "prop_4"),
    ("acasxu", "ACASXU_run2a_5_7_batch_2000", "prop_3"),
    ("mnist_fc", "mnist-net_256x2", "prop_4_0.03"),
    ("mnist_fc", "mnist-net_256x2", "prop_12_0.03"),
    ("mnist_fc", "mnist-net_256x2", "prop_1_0.05"),
    ("mnist_fc", "mnist-net_256x2", "prop_7_0.05"),
]


@pytest.mark.parametrize(("benchmark", "network", "specification"), QUICK)
def test_published_truth(shared_data: Path, benchmark: str, network: str, specification: str) -> None:
    instances = {instance.name: instance for instance in read_instances(shared_data / "vnncomp" / benchmark)}
    instance = instances[f"{network}, {specification}"]
    assert instance.truth in ("sat", "unsat")
    verdict = verify(instance.network, instance.specification, timeout=5.0)
    other = {"sat": "unsat", "unsat": "sat"}[instance.truth]
    assert verdict.verdict != other
    if verdict.verdict == "sat":
        assert verdict.witness is not None
        asked, net = vnnlib.read(instance.specification), readers.load(instance.network)
        assert asked.is_violated(verdict.witness, evaluate(net, verdict.witness))
        assert asked.is_violated(verdict.witness, replay(net, verdict.witness).astype(np.float64))
    if verdict.verdict == "unsat":
        asked, net = vnnlib.read(instance.specification), readers.load(instance.network)
        generator = np.random.default_rng(0)
        for region in asked.input_boxes():
            low, high = region.bounding_box()
            for point in region.clip(low + generator.random((5, len(low))) * (high - low)):
                margin = asked.margin(point, evaluate(net, point))
                assert margin is not None
                assert margin <= Fraction(verdict.bracket.upper)


# --- benchmarks/verify.py ---------------------------------------------------------------------------------------------------------------

TEXT = """(declare-const X_0 Real)(declare-const Y_0 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= Y_0 {}))"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark with two instances, y = relu(x), y >= 0.5 (sat) and y >= 2 (unsat); the truth of the second is wrong on purpose."""
    place = tmp_path / "tiny"
    place.mkdir()
    write_onnx(sequential([Dense(np.ones((1, 1))), Dense(np.ones((1, 1)))], [np.zeros(1), np.zeros(1)]), place / "relu.onnx")
    for name, threshold in (("half", 0.5), ("two", 2)):
        (place / f"{name}.vnnlib").write_text(TEXT.format(threshold))
    (place / "instances.csv").write_text("relu.onnx,half.vnnlib,20\nrelu.onnx,two.vnnlib,20\n")
    (place / "truth.csv").write_text("onnx,vnnlib,truth\nrelu.onnx,half.vnnlib,sat\nrelu.onnx,two.vnnlib,sat\n")
    return place


def test_benchmark_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measures in fresh processes, goes on where it stopped, and a wrong verdict makes its exit status 1."""
    output = folder.parent / "results.csv"
    assert program.main([str(folder), "--output", str(output), "--only", "half"]) == 0
    text = output.read_text()
    assert text.startswith("# ")
    assert " cores" in text.splitlines()[1]
    (first,) = program.read_results(output)
    assert (first.verdict, first.truth, first.wrong) == ("sat", "sat", False)
    assert 0.1 < first.cpu < 60
    assert first.wall > 0.1
    assert 20 < first.memory < 4000
    # The whole folder's parent, resumed: the first instance is not run again; the second contradicts its (false) truth.
    assert program.main([str(folder.parent), "--output", str(output)]) == 1
    assert program.read_results(output)[0] == first
    assert [result.verdict for result in program.read_results(output)] == ["sat", "unsat"]
    shown = capsys.readouterr().out
    assert "WRONG" in shown
    assert "solved 2 of 2 (1 unsat, 1 sat), wrong 1" in shown


def test_benchmark_program_refuses_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(tmp_path)]) == 2
    assert program.main([]) == 2
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "instances.csv").write_text("no.onnx,no.vnnlib,1\n")
    assert program.main([str(tmp_path), "--output", str(tmp_path / "other.csv")]) == 2
    assert "instances.csv" in capsys.readouterr().err


def test_a_failing_instance_is_an_error_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "relu.onnx").write_bytes(b"broken")
    assert program.main([str(folder), "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "error" in shown
    assert "solved 0 of 1" in shown
