"""Worker processes: budgets hold across them, and they neither repeat the caller's script nor die of its signals."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verifier import dro

SCRIPT = """
print("script runs")
from verifier import radius
records = list(radius("digits-16x2", "digits:test", norm="inf", samples="0:3", workers=2))
print(len(records), "radii")
"""


def test_an_unguarded_script_runs_once(tmp_path: Path) -> None:
    """Spawned processes would import the main module again, and run it again where it has no guard."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["script runs", "3 radii", ""]


def test_a_whole_call_ends_in_time_with_workers() -> None:
    """Tasks wait in the workers' queue: each must know when the call ends, not how long it may take itself."""
    began = time.monotonic()
    records = dro("digits-conv", "digits:test", norm="2", order=1, epsilon=[0.05, 0.1], samples="0:8", timeout=4.0, workers=2)
    assert time.monotonic() - began < 25.0  # generous: starting workers takes seconds on a busy machine; without the limit it is a minute
    assert all(record.lower <= record.upper for record in records)


@pytest.mark.parametrize("delay", [2.0, 3.0])
def test_an_interrupt_of_the_whole_group_leaves_an_answer(delay: float) -> None:
    """A terminal sends Ctrl-C to parent and workers alike, also while these start."""
    command = "from verifier.cli import main; raise SystemExit(main())"
    arguments = ["radius", "--network", "digits-conv", "--data", "digits:test", "--samples", "0:6", "--norm", "2", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(delay)
    signal_group(process)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the workers, should the test have failed
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in (0, 3), err
    assert "Traceback" not in err
    assert "Traceback" not in out


def signal_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)
