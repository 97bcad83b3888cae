"""The command line, thin: it parses, calls the functions of `verifier`, and prints what they return. A command is a module beside this one.

Exit status: 0 answered (unknown, timed-out and a bracket with a gap included), 1 a failed check, 2 bad input, 3 nothing to report.
"""

import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

from problems.errors import InputError
from solvers.errors import SolverError
from verifier.cli.output import Output
from verifier.cli.parser import UsageError, build
from verifier.search.alarm import importing

ANSWERED, BAD_INPUT, NOTHING = 0, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` without the program's name. Returns the exit status, and raises nothing for bad input."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for name in ("stdout", "stderr"):  # closed by whoever called
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    output = Output("--json" in arguments)
    try:
        options = build().parse_args(arguments)
    except UsageError as error:
        output.error(str(error))
        return BAD_INPUT
    try:
        with output.guarded():
            return _run(options, output)
    except BrokenPipeError:
        # Whoever read the answers has stopped reading; nothing must be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ANSWERED
    except OSError as error:
        # The answers cannot be written (a full disk): say so where it can still be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: standard output: {error.strerror or error}. Free some space, or write elsewhere.", file=sys.stderr)
        return BAD_INPUT


def _run(options: Namespace, output: Output) -> int:
    try:
        with _terminable():
            import_module(f"verifier.cli.{options.command.replace('-', '_')}").run(options, output)
    except KeyboardInterrupt:
        output.message("Interrupted." if output.answers else "Interrupted before there was anything to report.")
    except BrokenPipeError:
        raise
    except (InputError, SolverError) as error:
        output.error(str(error))
        return BAD_INPUT
    except OSError as error:
        output.error(f"{error.filename or 'system'}: {error.strerror or error}.")
        return BAD_INPUT
    return ANSWERED if output.answers else NOTHING


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM acts like Ctrl-C: the work stops and what it has reached is printed. Both wait for the end of an import.

    Half a module would be left behind, and an interrupt that passes through an `exec` in it decides the exit status, whoever catches it.
    """

    caller = sys._getframe(2)  # of the generator that this is, by way of contextlib

    def interrupt(number: int, frame: FrameType | None) -> None:
        if importing(frame, caller):
            again = threading.Timer(0.05, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        else:
            raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            if number == signal.SIGTERM or signal.getsignal(number) is signal.default_int_handler:  # else the caller has a mind of its own
                before[number] = signal.signal(number, interrupt)
    except ValueError:  # not in the main thread: the caller has the signals
        yield
        return
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, before[number])
