"""Runs survive: a search that is killed at any moment is gone on with by the same command, and little is done twice."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from problems import readers
from problems.data import load
from problems.network import Affine
from problems.regions.box import Box
from problems.specification import Specification, robustness
from tests.verifier.test_verify_limits import hard
from verifier import radius, verify
from verifier.bracket import Bracket, Status
from verifier.property import Property
from verifier.search.budget import Budget
from verifier.search.checkpoint import Checkpoint
from verifier.search.search import Search
from verifier.search.store import Store, StoreError

NETWORK = "digits-32x2"


def digit(radius: float) -> tuple[np.ndarray, np.ndarray, int]:
    """(lower, upper, label): a box around the first test image; a radius of 0.2 takes 17,000 pieces."""
    data = load("digits:test").select("0:1")
    return np.maximum(data.x[0] - radius, 0.0), np.minimum(data.x[0] + radius, 1.0), int(data.y[0])


def around(radius: float) -> Specification:
    low, high, label = digit(radius)
    return robustness(Box(low, high), label, 10)


def write_property(file: Path, radius: float) -> Path:
    """The same as a file."""
    low, high, label = digit(radius)
    lines = [f"(declare-const X_{i} Real)" for i in range(len(low))] + [f"(declare-const Y_{k} Real)" for k in range(10)]
    lines += [f"(assert (>= X_{i} {a:.17f})) (assert (<= X_{i} {b:.17f}))" for i, (a, b) in enumerate(zip(low, high, strict=True))]
    rivals = " ".join(f"(and (>= Y_{k} Y_{label}))" for k in range(10) if k != label)
    file.write_text("\n".join([*lines, f"(assert (or {rivals}))"]))
    return file


def write_endless(folder: Path) -> list[str]:
    """A network with random weights and a property of it that would take hours, as arguments of verify."""
    network, _ = hard()
    affine = [node for node in network.nodes if isinstance(node, Affine)]
    weights = {f"W{i}": node.maps[0].rows()[0].toarray() for i, node in enumerate(affine)}
    biases = {f"b{i}": node.bias for i, node in enumerate(affine)}
    np.savez(folder / "endless.npz", L=np.array(len(affine)), **weights, **biases)
    lines = [f"(declare-const X_{i} Real) (assert (>= X_{i} -1.0)) (assert (<= X_{i} 1.0))" for i in range(network.input_size)]
    lines += ["(declare-const Y_0 Real) (declare-const Y_1 Real)", "(assert (>= Y_0 (+ Y_1 6.0)))"]
    (folder / "endless.vnnlib").write_text("\n".join(lines))
    return ["verify", str(folder / "endless.vnnlib"), "--network", str(folder / "endless.npz")]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "verifier", *map(str, arguments)]


# --- checkpoints ----------------------------------------------------------------------------------------------------------------------


def search_of(radius: float, batch: int = 16) -> Search:
    return Search(Property(readers.load(NETWORK), around(radius)).question, batch=batch)


def test_every_checkpoint_holds_the_whole_frontier(tmp_path: Path) -> None:
    """Read back in another place after each of many checkpoints, chunks rewritten and deleted included."""
    file, search, checked, chunks = tmp_path / "run.sqlite", search_of(0.18), 0, set()
    with Store(file, run="r") as store, Store(file, run="r") as other:
        checkpoint = Checkpoint(store)
        search.start(Budget())
        while search.open_pieces:
            search.step(Budget())
            checkpoint.keep(search, {"step": checked}, now=True)
            chunks.add(len(other.keys("chunk/")))
            if checked % 7 == 0:
                store.delete("owner")  # the reader takes the run over, and gives it back
                reader = Checkpoint(other)
                state = reader.load()
                other.delete("owner")
                checkpoint._owned = False
                assert state is not None
                assert state["extra"] == {"step": checked}
                assert sorted(node.bound for node in state["frontier"]) == sorted(node.bound for node in search.frontier())
                again = search_of(0.18)
                again.restore(state)
                assert (again.lower, again.upper, again.bounded) == (search.lower, search.upper, search.bounded)
            checked += 1
    assert checked > 50
    assert max(chunks) > 3  # several chunks at a time: not everything is written anew
    assert search.upper < 0


def test_a_search_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    alone = search_of(0.18)
    assert alone.run(Budget()) is Status.CLOSED
    steps = 0
    while True:
        with Store(tmp_path / "run.sqlite", run="r") as store:
            checkpoint = Checkpoint(store)
            search = search_of(0.18)
            state = checkpoint.load()
            if state is not None:
                search.restore(state)
            else:
                search.start(Budget())
            for _ in range(12):
                if search.open_pieces:
                    search.step(Budget())
            checkpoint.keep(search, now=True)
            checkpoint.leave(search)
        steps += 1
        if not search.open_pieces:
            break
    assert steps > 5
    assert search.upper < 0
    assert search.bounded == alone.bounded


def test_pieces_lost_from_the_file_are_an_error(tmp_path: Path) -> None:
    file, search = tmp_path / "run.sqlite", search_of(0.18)
    with Store(file, run="r") as store:
        checkpoint = Checkpoint(store)
        search.run(Budget(), lambda search: checkpoint.keep(search, now=True) if search.opened < 200 else None)
        checkpoint._store.delete("owner")
        store.delete(store.keys("chunk/")[0])
        with pytest.raises(StoreError, match="missing or damaged"):
            Checkpoint(store).load()


def test_two_processes_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "run.sqlite"
    code = (
        "import sys, time\nfrom verifier.search.store import Store\nfrom verifier.search.checkpoint import Checkpoint\n"
        "Checkpoint(Store(sys.argv[1], run='r')).load()\nprint('mine', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        with Store(file, run="r") as store, pytest.raises(StoreError, match=f"process {process.pid}"):
            Checkpoint(store).load()
        process.kill()
    with Store(file, run="r") as store:
        assert Checkpoint(store).load() is None


# --- the command ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again(workers: int, tmp_path: Path) -> None:
    """SIGKILL at random moments; a budget of runs so that a search that never gets on fails."""
    specification, store = write_property(tmp_path / "p.vnnlib", 0.2), tmp_path / "run.sqlite"
    line = command("verify", specification, "--network", NETWORK, "--resume", store, "--workers", workers, "--json", "--timeout", 100)
    generator, kills = random.Random(workers), 0
    while True:
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output, error = process.communicate(timeout=generator.uniform(0.5, 2.5) if kills < 3 else None)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
        break
    assert process.returncode == 0, error
    answer = json.loads(output)
    assert answer["verdict"] == "unsat"
    assert answer["lower"] <= answer["upper"] < 0
    again = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    kept = json.loads(again.stdout)
    assert {name: kept[name] for name in kept if name != "seconds"} == {name: answer[name] for name in answer if name != "seconds"}
    assert kept["seconds"] < 1.0


@pytest.mark.parametrize("rest", [["radius", "--samples", "0:8"], ["dro", "--samples", "0:8", "--order", "1", "--epsilon", "0.05"]])
def test_radii_are_killed_again_and_again(rest: list[str], tmp_path: Path) -> None:
    line = command(*rest, "--network", "digits-16x2", "--data", "digits:test", "--norm", "inf", "--workers", 2, "--json")
    alone = subprocess.run(line, capture_output=True, text=True, timeout=100, check=True)
    line += ["--resume", str(tmp_path / "run.sqlite")]
    generator = random.Random(5)
    for kill in range(3):
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output, error = process.communicate(timeout=generator.uniform(1.5, 3.0) if kill < 2 else None)
            except subprocess.TimeoutExpired:
                process.kill()
                continue
        break
    assert process.returncode == 0, error
    key = "sample" if rest[0] == "radius" else "epsilon"
    before, after = ({answer[key]: answer for answer in map(json.loads, text.splitlines())} for text in (alone.stdout, output))
    assert before.keys() == after.keys()
    for name, answer in after.items():
        assert answer["lower"] <= before[name]["upper"]
        assert before[name]["lower"] <= answer["upper"]
        assert answer["status"] in ("closed", "decided")


def test_an_unfinished_radius_is_gone_on_from(tmp_path: Path) -> None:
    question: dict[str, Any] = {"norm": inf, "samples": "3:4", "workers": 1, "restarts": 2, "resume": tmp_path / "run.sqlite"}
    seen: list[Bracket] = []
    for _ in range(60):
        (record,) = radius(NETWORK, "digits:test", timeout=0.6, **question)
        seen.append(record.bracket)
        if record.bracket.status.finished:
            break
    assert seen[-1].status.finished
    assert len(seen) > 1
    assert all(a.lower <= b.lower and a.stats["opened"] <= b.stats["opened"] for a, b in pairwise(seen))
    (again,) = radius(NETWORK, "digits:test", **question)
    assert (again.bracket.lower, again.bracket.upper) == (seen[-1].lower, seen[-1].upper)


def test_a_time_out_is_gone_on_from(tmp_path: Path) -> None:
    specification, store = around(0.18), tmp_path / "run.sqlite"
    pieces = [0]
    for _ in range(100):
        verdict = verify(NETWORK, specification, timeout=0.3, workers=1, resume=store)
        pieces.append(verdict.bracket.stats["bounded"])
        if verdict.verdict != "timed-out":
            break
        assert pieces[-1] >= pieces[-2]
    assert verdict.verdict == "unsat"
    assert len(pieces) > 2


def test_a_witness_is_kept(tmp_path: Path) -> None:
    low, high, label = digit(0.0)
    specification = robustness(Box(low, high), (label + 1) % 10, 10)
    first, second = (verify(NETWORK, specification, resume=tmp_path / "run.sqlite", workers=1) for _ in range(2))
    assert first.verdict == second.verdict == "sat"
    assert first.witness is not None
    assert second.witness is not None
    assert (first.witness == second.witness).all()
    assert first.witness_output is not None
    assert (first.witness_output == second.witness_output).all()


def test_questions_and_options_do_not_mix(tmp_path: Path) -> None:
    """Everything that can change a result names the run."""
    store = tmp_path / "run.sqlite"
    network = readers.load(NETWORK)
    names = {
        Property(network, around(0.05)).fingerprint(),
        Property(network, around(0.06)).fingerprint(),
        Property(readers.load("digits-16x2"), around(0.05)).fingerprint(),
        Property(network, around(0.05), method="milp").fingerprint(),
        Property(network, around(0.05), solver="highs").fingerprint(),
        Property(network, around(0.05), semantics="float32").fingerprint(),
        Property(network, around(0.05)).fingerprint(seed=1),
    }
    assert len(names) == 7
    assert Property(readers.load(NETWORK), around(0.05)).fingerprint() in names
    assert verify(NETWORK, around(0.05), resume=store, workers=1).verdict == "unsat"
    low, high, label = digit(0.05)
    assert verify(NETWORK, robustness(Box(low, high), (label + 1) % 10, 10), resume=store, workers=1).verdict == "sat"


def damaged(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entry SET value = zeroblob(length(value))")
    connection.close()


def of_another_program(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()


@pytest.mark.parametrize("spoil", [damaged, of_another_program, lambda file: file.write_text("not a database" * 100)])
def test_a_store_that_cannot_be_used_is_one_clear_error(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    specification, store = write_property(tmp_path / "p.vnnlib", 0.05), tmp_path / "run.sqlite"
    if spoil is damaged:
        verify(NETWORK, specification, resume=store, workers=1)
    spoil(store)
    done = subprocess.run(
        command("verify", specification, "--network", NETWORK, "--resume", store, "--json"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert list(json.loads(done.stdout)) == ["error"]
    assert "Traceback" not in done.stderr
    assert str(store) in done.stderr


# --- signals ----------------------------------------------------------------------------------------------------------------------------


# In the first search, and in what follows the attack, on a machine that is not busy.
@pytest.mark.parametrize(("number", "delay"), [(signal.SIGINT, 1.5), (signal.SIGTERM, 4.0)])
def test_a_signal_leaves_the_bracket(number: signal.Signals, delay: float, tmp_path: Path) -> None:
    line = command(*write_endless(tmp_path), "--workers", 2, "--json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        time.sleep(delay)
        began = time.monotonic()
        os.killpg(process.pid, number)  # as a terminal does
        output, error = process.communicate(timeout=60)
        assert time.monotonic() - began < 5.0
    assert "Traceback" not in error
    assert process.returncode == 0, error
    answer = json.loads(output)
    assert answer["verdict"] == "unknown"
    assert answer["status"] == "interrupted"
    assert float(answer["lower"]) < 0 <= float(answer["upper"])  # infinite where a busy machine has not come to the first bound
    end = time.monotonic() + 20.0  # helpers of the interpreter end a moment later
    while processes_of(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes_of(process.pid)


def processes_of(group: int) -> list[int]:
    """Living processes of the process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
@pytest.mark.parametrize("question", ["radius", "verify"])
def test_workers_end_with_their_parent(question: str, tmp_path: Path) -> None:
    if question == "verify":
        line = command(*write_endless(tmp_path), "--workers", 2)
    else:
        line = command("radius", "--network", "digits-conv", "--data", "digits:test", "--samples", "0:12", "--norm", "2", "--workers", 2)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _until(lambda: len(processes_of(process.pid)) >= 3, 60.0)
        process.kill()
        process.wait()
        _until(lambda: not processes_of(process.pid), 10.0)
    finally:
        for number in processes_of(process.pid):
            os.kill(number, signal.SIGKILL)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
