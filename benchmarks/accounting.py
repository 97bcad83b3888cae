"""Programs in processes of their own: what they print, and what they cost as the operating system accounts for it."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL


@dataclass(frozen=True)
class Finished:
    """wall and cpu in seconds, cpu with that of descendants that were waited for; memory: the largest resident set of one process, in MB.

    `killed`: it was ended after `limit` seconds, with its process group. `code` is the exit status, -N for signal N.
    """

    code: int
    output: str
    messages: str
    wall: float
    cpu: float
    memory: float
    killed: bool


_running: set[int] = set()  # process groups


def stop() -> None:
    """Kill what is running: Ctrl-C at a terminal does not reach processes in groups of their own."""
    for group in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(group, SIGKILL)


def run(command: Sequence[str | Path], *, limit: float, folder: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run the command in the folder, at most `limit` seconds. Its standard input is empty."""
    killed = threading.Event()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=messages, cwd=folder, env=environment, start_new_session=True
        )

        def kill() -> None:
            killed.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)

        _running.add(process.pid)
        killer = threading.Timer(limit, kill)
        killer.start()
        try:
            # wait4 gives the resources of this child alone; getrusage(RUSAGE_CHILDREN) only the maximum over all.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            kill()
            process.wait()
            raise
        finally:
            killer.cancel()
            _running.discard(process.pid)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, SIGKILL)  # what it left behind must not slow the next one down
        texts = []
        for file in (output, messages):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    scale = 1 if sys.platform == "darwin" else 1024
    cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 1e6
    return Finished(process.returncode, texts[0], texts[1], wall, cpu, memory, killed.is_set())
