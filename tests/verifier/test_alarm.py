"""The alarm: late work stops in time, imports and work in time are left alone."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from verifier.search.alarm import TimeUp, alarm
from verifier.search.budget import Budget


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_late_work_is_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(TimeUp), alarm(Budget(0.1), grace=0.1):
        spin(10.0)
    assert 0.2 <= time.monotonic() - began < 5.0


def test_again_where_it_was_swallowed() -> None:
    caught = 0
    with alarm(Budget(0.05), grace=0.0):
        while caught < 3:
            try:
                spin(10.0)
            except TimeUp:
                caught += 1
    assert caught == 3


def test_work_in_time_is_left_alone() -> None:
    for _ in range(50):
        with alarm(Budget(0.01), grace=0.0):
            pass
    with alarm(Budget(None)):
        spin(0.05)
    spin(0.1)  # nothing arrives late


def test_an_import_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["import time", "end = time.monotonic() + 0.5", "while time.monotonic() < end: pass", "whole = True"]
    (tmp_path / "slow_to_import.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    stopped = False
    try:
        with alarm(Budget(0.05), grace=0.0):
            import slow_to_import  # type: ignore[import-not-found]

            spin(10.0)
    except TimeUp:
        stopped = True
    assert stopped
    assert sys.modules["slow_to_import"].whole is slow_to_import.whole is True


def test_a_call_within_an_import_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that works while it is imported has its time-outs, too."""
    lines = [
        "from tests.verifier.test_alarm import Budget, TimeUp, alarm, spin",
        "try:",
        "    with alarm(Budget(0.05), grace=0.0):",
        "        spin(10.0)",
        "except TimeUp:",
        "    stopped = True",
    ]
    (tmp_path / "working_import.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    began = time.monotonic()
    import working_import  # type: ignore[import-not-found]

    assert working_import.stopped
    assert time.monotonic() - began < 5.0


def test_threads_have_alarms_of_their_own() -> None:
    stopped: list[int] = []

    def work(number: int) -> None:
        try:
            with alarm(Budget(0.1 if number else None), grace=0.0):
                spin(0.6)
        except TimeUp:
            stopped.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopped == [1]


def test_an_alarm_leaves_the_interpreter_as_it_was() -> None:
    """Profilers work afterwards: an exception that was sent and taken back would leave them in an endless loop."""
    script = (
        "import cProfile\n"
        "from verifier.search.alarm import TimeUp, alarm\n"
        "from verifier.search.budget import Budget\n"
        "with alarm(Budget(60.0)):\n"
        "    pass\n"
        "try:\n"
        "    with alarm(Budget(0.05), grace=0.0):\n"
        "        while True:\n"
        "            pass\n"
        "except TimeUp:\n"
        "    pass\n"
        "def work():\n"
        "    return sum(i for i in range(1000))\n"
        "profile = cProfile.Profile()\n"
        "profile.enable()\n"
        "work()\n"
        "profile.disable()\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr
