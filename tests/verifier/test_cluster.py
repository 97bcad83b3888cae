"""A Dask cluster of two worker processes: the same answers as here, also where one of them is killed in mid-run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from problems import readers
from tests.verifier.test_survival import NETWORK, around, command, write_property
from verifier import dro, radius, verify
from verifier.bracket import Status
from verifier.property import Property
from verifier.search.budget import Budget
from verifier.search.cluster import ExecutorError, opened
from verifier.search.search import Search
from verifier.search.sharing import spread

CLUSTER = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=60) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster that runs in processes of its own, in a folder of its own: it shares nothing with this process."""
    folder = tmp_path_factory.mktemp("cluster")
    script = folder / "cluster.py"
    script.write_text(CLUSTER)
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2])])}
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ | paths
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip().replace("tcp://", "dask://")
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def kill_a_worker(address: str) -> int:
    """SIGKILL for the process of one worker; its number."""
    from distributed import Client

    with Client(address.replace("dask://", "tcp://"), set_as_default=False) as client:
        numbers = client.run(os.getpid)
    victim = next(iter(numbers.values()))
    os.kill(victim, signal.SIGKILL)
    return victim


def test_a_worker_is_killed_in_mid_run(address: str) -> None:
    asked = Property(readers.load(NETWORK), around(0.2))
    search, killed, pieces = Search(asked.question, batch=64), [], []

    def watch(search: Search) -> None:
        pieces.append(search.bounded)
        if not killed and search._lent and search.opened > 300:
            killed.append(kill_a_worker(address))

    with opened(address) as executor:
        status = spread(search, Budget(100), watch, context=asked.portable(), workers=2, executor=executor)
    assert killed
    assert pieces[-1] - pieces[0] > 1000
    assert status is Status.CLOSED
    assert search.upper < 0


def test_radii_on_a_cluster_while_a_worker_is_killed(address: str) -> None:
    question = {"norm": inf, "samples": "0:8", "restarts": 2}
    here = {record.sample: record.bracket for record in radius("digits-16x2", "digits:test", workers=1, **question)}  # type: ignore[arg-type]
    killer = threading.Timer(0.3, kill_a_worker, [address])
    killer.start()
    there = {record.sample: record.bracket for record in radius("digits-16x2", "digits:test", executor=address, **question)}  # type: ignore[arg-type]
    killer.join()
    assert there.keys() == here.keys()
    for sample, bracket in there.items():
        assert bracket.lower <= here[sample].upper
        assert here[sample].lower <= bracket.upper
        assert bracket.status.finished


def test_worst_case_error_and_commands_on_a_cluster(address: str, tmp_path: Path) -> None:
    question = {"norm": inf, "order": 1, "epsilon": [0.02], "samples": "0:5"}
    (here,) = dro("digits-16x2", "digits:test", workers=1, **question)  # type: ignore[arg-type]
    (there,) = dro("digits-16x2", "digits:test", executor=address, **question)  # type: ignore[arg-type]
    assert there.lower <= here.upper
    assert here.lower <= there.upper
    line = command("verify", write_property(tmp_path / "p.vnnlib", 0.15), "--network", NETWORK, "--executor", address, "--timeout", 60)
    done = subprocess.run(line, capture_output=True, text=True, timeout=100)
    assert done.stdout == "unsat\n", done.stderr


def test_a_time_out_on_a_cluster(address: str) -> None:
    from tests.verifier.test_verify_limits import hard

    network, specification = hard()
    began = time.monotonic()
    verdict = verify(network, specification, executor=address, timeout=3.0)
    assert time.monotonic() - began < 3.0 + 3.0  # a second on a machine that is not busy
    assert verdict.verdict == "timed-out"
    assert verdict.bracket.lower < 0 <= verdict.bracket.upper < inf


@pytest.mark.parametrize("wrong", ["dask://", "ray://localhost:1", "somewhere", "dask://localhost:9", "dask://localhost:no"])
def test_an_address_without_a_cluster_is_one_clear_error(wrong: str) -> None:
    began = time.monotonic()
    with pytest.raises(ExecutorError) as caught:
        verify(NETWORK, around(0.1), executor=wrong)
    assert caught.value.problem
    assert time.monotonic() - began < 20.0


def test_without_dask_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r"pip install 'tightcert\[cluster\]'"), opened("dask://localhost:8786"):
        pass
