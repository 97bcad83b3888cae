"""Three instances of the competition and what surrounds them: both forms of properties, time-outs, leftovers, bad files, odd names."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from problems import bundled, readers
from problems.data import load
from problems.readers.agreement import replay
from problems.vnncomp import read_instances
from tests.vnncomp.competition import TOOL, call, environment, judge, play

IMAGE = 4


@pytest.fixture(scope="module")
def image() -> tuple[np.ndarray, int, int]:
    """An image of the digits, its class, and the runner-up, in the eyes of digits-16x2."""
    network, data = readers.load("digits-16x2"), load("digits:test")
    logits = replay(network, data.x[IMAGE])
    order = np.argsort(logits)
    return data.x[IMAGE], int(order[-1]), int(order[-2])


def write(path: Path, version: str, image: tuple[np.ndarray, int, int], radius: float) -> Path:
    """Is some point within `radius` of the image given to the runner-up? 2.0 writes pixels as [1,8,8]."""
    x, label, other = image
    lines = ["(vnnlib-version <2.0>)", "(declare-network N (declare-input X float32 [1,8,8]) (declare-output Y float32 [1,10]))"]
    inputs = [f"X[0,{i // 8},{i % 8}]" for i in range(64)]
    outputs = [f"Y[0,{i}]" for i in range(10)]
    if version == "1.0":
        inputs, outputs = [f"X_{i}" for i in range(64)], [f"Y_{i}" for i in range(10)]
        lines = [f"(declare-const {name} Real)" for name in (*inputs, *outputs)]
    for name, value in zip(inputs, x, strict=True):
        lines += [f"(assert (>= {name} {max(0.0, value - radius):.6f}))", f"(assert (<= {name} {min(1.0, value + radius):.6f}))"]
    lines += [f"(assert (or (and (>= {outputs[other]} {outputs[label]})) (and (>= {outputs[other]} 1000.0))))"]
    path.write_text("\n".join(lines) + "\n")
    return path


def hard(folder: Path) -> Path:
    """Two logits of digits-conv above what any image reaches together: no counter-example, and far too many pieces for a quick proof."""
    lines = [f"(declare-const X_{i} Real)(assert (<= 0 X_{i} 1))" for i in range(64)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(10)]
    path = folder / "hard.vnnlib"
    path.write_text("\n".join([*lines, "(assert (>= Y_0 10.5))", "(assert (>= Y_1 10.5))"]))
    return path


@pytest.mark.parametrize(("version", "radius", "expected"), [("1.0", 0.3, "sat"), ("2.0", 0.3, "sat"), ("2.0", 0.01, "unsat")])
def test_three_instances(version: str, radius: float, expected: str, image: tuple, tmp_path: Path) -> None:
    onnx, specification = str(bundled.path("digits-16x2")), write(tmp_path / "p.vnnlib", version, image, radius)
    played = play(onnx, str(specification), 60.0, tmp_path)
    assert played.result == expected, played.messages
    if expected == "sat":
        assert judge(onnx, specification, played.counterexample) == "correct"
        assert judge(onnx, write(tmp_path / "q.vnnlib", version, image, 0.01), played.counterexample) != "correct"
    else:
        assert played.counterexample == ""


@pytest.mark.parametrize(
    ("network", "specification", "expected"),
    [("1_1", "prop_1", "unsat"), ("5_3", "prop_2", "sat"), ("2_9", "prop_8", "sat")],
)
def test_published_instances(shared_data: Path, network: str, specification: str, expected: str, tmp_path: Path) -> None:
    instances = {instance.name: instance for instance in read_instances(shared_data / "vnncomp" / "acasxu")}
    instance = instances[f"ACASXU_run2a_{network}_batch_2000, {specification}"]
    played = play(str(instance.network), str(instance.specification), 60.0, tmp_path)
    assert played.result == expected, played.messages
    assert instance.truth == expected
    if expected == "sat":
        assert judge(instance.network, instance.specification, played.counterexample) == "correct"


def test_compressed_files_odd_names_and_another_locale(image: tuple, tmp_path: Path) -> None:
    """As the competition gives files: the network unpacked or not, the property listed without .gz; CRLF; no locale; a list of networks."""
    folder = tmp_path / "a b's ünï%$HOME;"
    folder.mkdir()
    specification = write(folder / "p q.vnnlib", "2.0", image, 0.01)
    with gzip.open(folder / "p q.vnnlib.gz", "wb") as file:
        file.write(specification.read_bytes().replace(b"\n", b"\r\n"))
    specification.unlink()
    with gzip.open(folder / "net 1.onnx.gz", "wb") as file:
        file.write(Path(bundled.path("digits-16x2")).read_bytes())
    network = [("N", str(folder / "net 1.onnx.gz"))]
    locale = {"LC_ALL": "C", "LANG": "xx_YY.nothing", "PYTHONUTF8": "0"}
    for onnx, asked in ((repr(network), str(specification)), (str(folder / "net 1.onnx"), str(specification) + ".gz")):
        played = play(onnx, asked, 60.0, folder, **locale)
        assert played.result == "unsat", played.messages
    several = play(repr([*network, ("M", "m.onnx")]), str(specification), 60.0, folder)
    assert several.result == "prepare_instance_error_1"
    assert "names 2 networks" in several.messages


@pytest.mark.parametrize("limit", [0.01, 1.5])
def test_time_outs_are_answered_in_time(limit: float, tmp_path: Path) -> None:
    played = play(str(bundled.path("digits-conv")), str(hard(tmp_path)), limit, tmp_path)
    assert played.result == "timeout", played.messages
    assert played.seconds < limit + 2.0  # one for the tool, one for this machine
    assert not list(tmp_path.glob("core*"))


def test_results_go_where_they_are_wanted(image: tuple, tmp_path: Path) -> None:
    files = ("v1", "test", str(bundled.path("digits-16x2")), str(write(tmp_path / "p.vnnlib", "1.0", image, 0.01)))
    assert call("run_instance.sh", *files, "new/folder/out.txt", "60", folder=tmp_path, limit=120).returncode == 0
    assert (tmp_path / "new" / "folder" / "out.txt").read_text() == "unsat\n"
    done = call("run_instance.sh", *files, str(tmp_path), "60", folder=tmp_path, limit=120)
    assert done.returncode == 1
    assert b"Is a directory" in done.stderr
    assert b"unsat" in done.stderr


@pytest.mark.parametrize("broken", ["missing", "folder", "empty", "noise", "other network"])
def test_files_that_cannot_be_read(broken: str, image: tuple, tmp_path: Path) -> None:
    """prepare_instance.sh refuses them, and run_instance.sh, asked all the same, answers error."""
    onnx = tmp_path / "net.onnx"
    shutil.copy(bundled.path("digits-16x2"), onnx)
    specification = write(tmp_path / "p.vnnlib", "1.0", image, 0.01)
    if broken == "other network":
        specification.write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))(assert (>= Y_0 1))")
    elif broken == "folder":
        onnx.unlink()
        onnx.mkdir()
    elif broken == "missing":
        specification.unlink()
    else:
        onnx.write_bytes(b"" if broken == "empty" else b"\x08\x07noise")
    assert play(str(onnx), str(specification), 60.0, tmp_path).result == "prepare_instance_error_1"
    done = call("run_instance.sh", "v1", "test", str(onnx), str(specification), "out.txt", "60", folder=tmp_path, limit=120)
    assert done.returncode == 0
    message = done.stderr.decode()
    assert (tmp_path / "out.txt").read_text() == "error\n", message
    assert message.startswith("tightcert: ")
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "arguments",
    [(), ("v1",), ("v2", "test", "a.onnx", "b.vnnlib", "out.txt", "5"), ("v1", "test", "a.onnx", "b.vnnlib", "out.txt", "5", "6")],
)
def test_wrong_arguments(arguments: tuple[str, ...], tmp_path: Path) -> None:
    for script in ("prepare_instance.sh", "run_instance.sh"):
        done = call(script, *arguments, folder=tmp_path, limit=60)
        assert done.returncode == 1
        assert done.stderr.startswith(b"tightcert: ")
    assert not (tmp_path / "out.txt").exists()
    assert subprocess.run([TOOL / "install_tool.sh", "v2"], capture_output=True, check=False).returncode == 1


def test_installation_is_the_work_of_the_makefile() -> None:
    """What it would do on a machine without tightcert; nothing is installed here."""
    done = subprocess.run(
        [TOOL / "install_tool.sh", "v1"], env=os.environ | {"MAKEFLAGS": "-n -B"}, capture_output=True, text=True, check=True
    )
    assert "-m venv .venv" in done.stdout
    assert "pip install" in done.stdout
    assert "verifier.warm" in done.stdout


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "soon"])
def test_wrong_time_limits(limit: str, tmp_path: Path) -> None:
    done = call("run_instance.sh", "v1", "test", "a.onnx", "b.vnnlib", "out.txt", limit, folder=tmp_path, limit=60)
    assert done.returncode == 0
    assert (tmp_path / "out.txt").read_text() == "error\n"
    assert limit.encode() in done.stderr


def test_through_a_link_and_without_standard_streams(image: tuple, tmp_path: Path) -> None:
    """And modules of the current folder are not loaded instead of the tool's."""
    (tmp_path / "linked.sh").symlink_to(TOOL / "run_instance.sh")
    (tmp_path / "numpy.py").write_text("raise SystemExit(7)")
    script = f"./linked.sh v1 test '{bundled.path('digits-16x2')}' p.vnnlib out.txt 60 <&- >&- 2>&-"
    write(tmp_path / "p.vnnlib", "1.0", image, 0.01)
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment(str(tmp_path)), check=False, timeout=120).returncode == 0
    assert (tmp_path / "out.txt").read_text() == "unsat\n"


def test_leftovers_are_ended(tmp_path: Path) -> None:
    """A process of an earlier run of the same session is killed, one of another session is not."""
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    mine, other = (
        subprocess.Popen(command, env=environment("", TIGHTCERT_INSTANCE=session), stdout=subprocess.PIPE)
        for session in (str(tmp_path), f"{tmp_path}2")
    )
    try:
        for process in (mine, other):
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
        call("prepare_instance.sh", "v1", "test", "a.onnx", "b.vnnlib", folder=tmp_path, limit=60)
        assert mine.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        mine.kill()
        other.kill()
        mine.wait()
        other.wait()


@pytest.mark.parametrize(("killed", "result"), [("tool", "timeout"), ("search", "error")])
def test_an_ended_run_leaves_an_answer_and_no_process(killed: str, result: str, tmp_path: Path) -> None:
    """SIGTERM to the tool, as `timeout` sends it; SIGKILL to the search, as a system out of memory does."""
    arguments = ["v1", "test", str(bundled.path("digits-conv")), str(hard(tmp_path)), "out.txt", "100"]
    process = subprocess.Popen([TOOL / "run_instance.sh", *arguments], cwd=tmp_path, env=environment(str(tmp_path)))
    try:
        deadline = time.monotonic() + 30
        while len(marked(str(tmp_path))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if killed == "tool":
            process.send_signal(signal.SIGTERM)
        else:
            os.kill(next(number for number in marked(str(tmp_path)) if number != process.pid), signal.SIGKILL)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "out.txt").read_text() == f"{result}\n"
    assert marked(str(tmp_path)) == []


def marked(session: str) -> list[int]:
    """The live processes that carry the session's mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"TIGHTCERT_INSTANCE={session}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return [number for number in found if number != os.getpid()]
