"""The benchmark of complete verification: fresh processes, resumed files, lists of instances, rivals that work, fail and hang."""

import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from benchmarks import accounting, results, rivals
from benchmarks import verify as program
from problems.errors import InputError
from problems.maps import Dense
from problems.network import sequential
from problems.writer import write_onnx

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
    (first,) = results.read_results(output)
    assert (first.verdict, first.truth, first.wrong, first.tool) == ("sat", "sat", False, "tightcert")
    assert 0.1 < first.cpu < 60
    assert first.wall > 0.1
    assert 20 < first.memory < 4000
    # The whole folder's parent, resumed: the first instance is not run again; the second contradicts its (false) truth.
    assert program.main([str(folder.parent), "--output", str(output)]) == 1
    assert results.read_results(output)[0] == first
    assert [result.verdict for result in results.read_results(output)] == ["sat", "unsat"]
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


@pytest.mark.parametrize(
    ("option", "value"), [("--timeout", "nan"), ("--timeout", "0"), ("--limit", "-1"), ("--every", "0"), ("--jobs", "x")]
)
def test_benchmark_program_refuses_bad_numbers(option: str, value: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main([str(folder), option, value])
    assert caught.value.code == 2
    assert option in capsys.readouterr().err


def test_results_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(folder), "--output", str(folder)]) == 2
    assert program.main([str(folder), "--output", str(folder / "relu.onnx" / "out.csv")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_failing_instance_is_an_error_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "relu.onnx").write_bytes(b"broken")
    assert program.main([str(folder), "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "error" in shown
    assert "solved 0 of 1" in shown


# --- lists ----------------------------------------------------------------------------------------------------------------------------


def test_lists_choose_in_their_own_order(folder: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "mine.txt"
    chosen.write_text("# two, then half\ntiny, relu, two\n\n tiny, relu, half \n")
    options = program.parser().parse_args([str(folder), "--list", str(chosen)])
    assert [instance.name for _, instance in program.choose(options)] == ["relu, two", "relu, half"]
    chosen.write_text("tiny, relu, three\n")
    with pytest.raises(InputError, match="holds no instance 'tiny, relu, three'"):
        program.choose(options)
    with pytest.raises(InputError, match=r"one of .*rivals"):
        program.choose(program.parser().parse_args([str(folder), "--list", "nothing"]))


def test_the_list_of_the_published_comparison(shared_data: Path) -> None:
    options = program.parser().parse_args([str(shared_data / "vnncomp"), "--list", "rivals"])
    chosen = program.choose(options)
    assert len(chosen) == 18
    assert {instance.truth for _, instance in chosen} == {"sat", "unsat"}


# --- rivals ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> rivals.Rival:
    """A rival of our own making: right on 'half', crashes on 'two'. It stands in an environment where installed ones do."""
    monkeypatch.setattr(rivals, "HOME", tmp_path / "rivals")
    made = rivals.Rival("guess", "1.0", ("{network}", "{specification}", "{timeout}"))
    monkeypatch.setitem(rivals.RIVALS, "guess", made)
    made.python.parent.mkdir(parents=True)
    made.python.write_text(
        dedent(f"""\
            #!{sys.executable}
            import pathlib, sys
            print("sat or unsat?")
            assert "two" not in sys.argv[2], "no idea"
            assert pathlib.Path(sys.argv[1]).read_bytes() and "assert" in pathlib.Path(sys.argv[2]).read_text() and sys.argv[3] == "20"
            print("sat,0.01")
            """)
    )
    made.python.chmod(0o755)
    return made


def test_rivals_run_beside_and_failures_are_failures(folder: Path, rival: rivals.Rival, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder.parent / "results.csv"
    assert program.main([str(folder), "--rivals", "guess", "--output", str(output)]) == 1  # our "wrong" one
    verdicts = {(result.specification, result.tool): result for result in results.read_results(output)}
    assert {key: result.verdict for key, result in verdicts.items()} == {
        ("half.vnnlib", "tightcert"): "sat",
        ("half.vnnlib", "guess"): "sat",
        ("two.vnnlib", "tightcert"): "unsat",
        ("two.vnnlib", "guess"): "error",
    }
    assert verdicts["two.vnnlib", "guess"].note == "exit status 1: AssertionError: no idea"
    shown = capsys.readouterr().out
    assert "guess, tiny: solved 1 of 2 (0 unsat, 1 sat), wrong 0, errors 1, killed 0" in shown
    assert "against guess 1.0 on 2 instances: both solved 1, only tightcert 0, only guess 0, neither 1; " in shown
    assert "guess ran out of time on 0, failed on 1 and was wrong on 0" in shown
    mine, other = verdicts["half.vnnlib", "tightcert"], verdicts["half.vnnlib", "guess"]
    assert f"medians {mine.cpu:.2f} s and {other.cpu:.2f} s, ratio {other.cpu / mine.cpu:.2f}" in shown
    assert program.main([str(folder), "--rivals", "guess", "--output", str(output)]) == 1
    assert "4 of 4 results are in" in capsys.readouterr().out


def test_compressed_instances_are_unpacked_for_rivals(folder: Path, rival: rivals.Rival) -> None:
    import gzip

    for name in ("relu.onnx", "half.vnnlib"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    ((name, instance), _) = program.find_instances(folder)
    result = program.measure(name, instance, rival, None, {})
    assert (result.network, result.specification, result.verdict) == ("relu.onnx", "half.vnnlib", "sat"), result.note


def test_rivals_that_are_not_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(rivals, "HOME", tmp_path / "rivals")
    assert program.main([str(folder), "--rivals", "maraboupy"]) == 2
    assert "python -m benchmarks.rivals maraboupy" in capsys.readouterr().err
    assert program.main([str(folder), "--rivals", "nobody"]) == 2
    assert "Known are maraboupy, neuralsat" in capsys.readouterr().err
    assert rivals.main(["nobody"]) == 2
    assert rivals.main([]) == 2


@pytest.mark.parametrize(
    ("output", "code", "verdict", "note"),
    [
        ("Network: a\n\nunsat\n", 0, "unsat", ""),
        ("sat\ninput 0 = 1\n", 0, "sat", ""),
        ("sat\nunsat,1.5\n", 0, "unsat", ""),
        ("Timeout\n", 0, "timed-out", ""),
        ("UNKNOWN\n", 0, "unknown", ""),
        ("it is unsat\n", 0, "error", "exit status 0: it is unsat"),
        ("sat\n", 1, "error", "exit status 1: sat"),
        ("", -11, "error", "signal 11: nothing printed"),
    ],
)
def test_what_rivals_say(output: str, code: int, verdict: str, note: str) -> None:
    finished = accounting.Finished(code, output, "", 1.0, 1.0, 10.0, False)
    assert rivals.verdict_of(finished, 20.0) == (verdict, note)


def test_times_over_several_instances() -> None:
    """Medians over the instances that both solved: the failed, the wrong and the unsolved ones do not count."""

    def result(name: str, tool: str, verdict: str, cpu: float, truth: str = "") -> results.Result:
        return results.Result("b", "n", name, 9.0, truth, verdict, 2 * cpu, cpu, 1.0, "", tool)

    rows = [("a", "sat", 1, "sat", 4), ("b", "unsat", 2, "unsat", 10), ("c", "unsat", 3, "unsat", 9)]
    rows += [("d", "unsat", 50, "timed-out", 500), ("e", "timed-out", 50, "error", 0.1), ("f", "unsat", 70, "sat", 0.1)]
    measured = [result(name, tool, verdict, cpu, "unsat" if name == "f" else "")
                for name, *both in rows for tool, verdict, cpu in (("tightcert", *both[:2]), ("maraboupy", *both[2:]))]  # fmt: skip
    shown = rivals.compare(measured, rivals.RIVALS["maraboupy"]).splitlines()
    assert (
        "both solved 3, only tightcert 2, only maraboupy 0, neither 1; maraboupy ran out of time on 1, failed on 1 and was wrong on 1"
        in shown[0]
    )
    assert shown[1] == ("  cpu where both solved: medians 2.00 s and 9.00 s, ratio 4.50; sums 6.0 s and 23.0 s, ratio 3.83")
    assert "ratio 4.50" in shown[2]


# --- processes and files --------------------------------------------------------------------------------------------------------------


def test_accounting_of_a_process_that_hangs(tmp_path: Path) -> None:
    """It is killed with its children, and its time is its own."""
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('on'); sys.stdout.flush()"
    )
    finished = accounting.run([sys.executable, "-c", f"{code}\nwhile True: pass"], limit=1.0, folder=tmp_path)
    assert finished.killed
    assert finished.code == -9
    assert finished.output == "on\n"
    assert 0.9 < finished.wall < 10
    assert 0.05 < finished.cpu < 1.5
    assert finished.memory > 5


def test_files_of_an_earlier_form_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("# when\nbenchmark,network,specification,timeout,truth,verdict,wall,cpu,memory,note\nb,n,s,9,sat,sat,1,2,3,\n")
    (result,) = results.read_results(path)
    assert result.tool == "tightcert"
    results.append(path, results.Result("b", "n", "s", 9.0, "sat", "error", 1.0, 2.0, 3.0, "why, then", "guess"))
    assert [result.tool for result in results.read_results(path)] == ["tightcert", "guess"]
    path.write_text(path.read_text() + "b,n\n")
    with pytest.raises(InputError, match="no result"):
        results.read_results(path)
