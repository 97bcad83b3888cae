"""Progress is shown where standard error is a terminal, and nowhere else."""

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

COUNTING = """
from types import SimpleNamespace
from verifier.cli.progress import count_up, counting, narrowing, waiting

for item in count_up(range(3), 3, "radii"):
    print(item, flush=True)
with counting() as count:
    if count is not None:
        count("radii, norm inf", 1, 2)
        count("radii, norm inf", 2, 2)
        count("radii, norm 2", 0, 2)
with waiting("attacking"):
    pass
with narrowing() as narrow:
    if narrow is not None:
        narrow(SimpleNamespace(lower=-1.0, upper=0.5, open_pieces=7))
"""


def test_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", COUNTING], stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=120, check=True)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert done.stdout.split() == [b"0", b"1", b"2"]
    for text in (b"radii", b"3/3", b"norm inf", b"2/2", b"attacking", b"largest violation in [-1, 0.5], 7 pieces open"):
        assert text in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


def test_elsewhere() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, timeout=120, check=True)
    assert done.stdout.split() == [b"0", b"1", b"2"]
    assert done.stderr == b""
