"""An answer in time: whatever a call is doing when its time is up, it stops."""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from types import FrameType

from verifier.search.budget import Budget

# Seconds after the deadline: a search looks at the clock itself, between two steps, and seldom needs to be told.
GRACE = 0.3
AGAIN = 0.1


class TimeUp(KeyboardInterrupt):
    """Raised by `alarm`, between any two instructions of Python. What survives Ctrl-C survives this."""


@contextmanager
def alarm(budget: Budget, grace: float = GRACE) -> Iterator[None]:
    """Raise TimeUp in this thread `grace` seconds after the end of the budget, and again until the block is left.

    Work in compiled code is not cut short, nor is an import, which would leave half a module behind.
    """
    if not isfinite(budget.end):
        yield
        return
    caller = sys._getframe(2)  # of the generator that this is, by way of contextlib
    left, sent, lock, thread = threading.Event(), threading.Event(), threading.Lock(), threading.get_ident()

    def watch() -> None:
        wait = budget.remaining + grace
        while not left.wait(max(wait, 0.0)):
            wait = AGAIN
            with lock:
                frame = sys._current_frames().get(thread)
                if left.is_set() or not inside(frame, caller):
                    return
                if not importing(frame, caller):
                    sent.set()
                    _raise(thread, TimeUp)

    watcher = threading.Thread(target=watch, name="alarm", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        while watcher.is_alive():
            with suppress(TimeUp):
                _leave(left, sent, lock, thread)
                # A thread that outlives the call may be the one that collects garbage while the interpreter ends: torch aborts then.
                watcher.join()


def _leave(left: threading.Event, sent: threading.Event, lock: threading.Lock, thread: int) -> None:
    while not left.is_set():
        with suppress(TimeUp), lock:
            left.set()
    if sent.is_set():
        # The last one sent may not have arrived. Taking it back would leave the interpreter looking for it for ever (its flag stays
        # set, at a cost, and profilers hang): so another is sent, in its place, and waited for.
        with suppress(TimeUp):
            _raise(thread, TimeUp)
            while True:
                pass


def _raise(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def inside(frame: FrameType | None, since: FrameType) -> bool:
    """Whether the frame `since` has not ended."""
    while frame is not None and frame is not since:
        frame = frame.f_back
    return frame is since


def importing(frame: FrameType | None, since: FrameType) -> bool:
    """Whether an import that began within the frame `since` is running in `frame`."""
    while frame is not None and frame is not since:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False
