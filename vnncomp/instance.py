"""One instance of the verification competition: prepare it, or decide it and write the results file.

    instance.py prepare v1 CATEGORY ONNX VNNLIB
    instance.py run v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT

The contract is that of the competition's own scripts (run_single_instance.sh of VNN-COMP 2021 to 2026): the results file's first line is
sat, unsat, timeout, unknown or error; after sat follows the counter-example in the form of the property's version, which is
((X_0 v) ... (Y_0 v) ...) or, in VNN-LIB 2.0, the declared tensors. ONNX is a path, or for properties of VNN-LIB 2.0 a list
"[('f', 'path')]"; a file may be stored with .gz behind its name or without. The category is not looked at: nothing is tuned.

Answers are about real numbers (see README.md), also where a property of VNN-LIB 2.0 declares float32, as the competition scores it: every
counter-example is replayed in float32 first.

The search runs in a process of its own, so that the answer is written in time whatever happens there. Only the standard library is
loaded here.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from problems.network import Network
    from problems.specification import Specification

VERSION = "v1"
WORDS = {"sat": "sat", "unsat": "unsat", "timed-out": "timeout", "unknown": "unknown"}
MARK = "TIGHTCERT_INSTANCE"  # the environment variable by which processes of a session are known
LATE = 0.9  # seconds after the time limit at which the search is ended from outside
SHARE = 0.85  # of the memory that is free at the start


class RefusedError(Exception):
    """The instance cannot be decided; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 if the instance is ready, or if the results file holds an answer."""
    started = time.monotonic()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the rest of the program
    forms = {"prepare": "prepare v1 CATEGORY ONNX VNNLIB", "run": "run v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT"}
    form = forms.get(arguments[0] if arguments else "")
    if form is None or len(arguments) != len(form.split()):
        return complain(f"expected arguments: {form or ' | '.join(forms.values())}")
    if arguments[1] != VERSION:
        return complain(f"the version is {VERSION}, not '{arguments[1]}'.")
    if arguments[0] == "prepare":
        return prepare(*arguments[3:])
    return run(*arguments[3:], started=started)


def complain(text: str) -> int:
    print(f"tightcert: {text}", file=sys.stderr)
    return 1


# --- prepare --------------------------------------------------------------------------------------------------------------------------


def prepare(onnx: str, vnnlib: str) -> int:
    end_leftovers(os.environ.get(MARK, ""))
    try:
        read(onnx, vnnlib)
    except RefusedError as error:
        return complain(str(error))
    return 0


def end_leftovers(session: str) -> None:
    """Kill the processes of the session that an earlier run has left behind. They carry its mark in their environment."""
    wanted = os.fsencode(f"{MARK}={session}")
    for folder in Path("/proc").glob("[0-9]*"):
        number = int(folder.name)
        with suppress(OSError):  # gone in the meantime, or another user's
            marked = wanted in (folder / "environ").read_bytes().split(b"\0")
            if session and marked and number != os.getpid():
                os.kill(number, signal.SIGKILL)
                print(f"tightcert: ended process {number} of an earlier run.", file=sys.stderr)


def read(onnx: str, vnnlib: str) -> "tuple[Network, Specification]":
    """(network, specification) of the two arguments. RefusedError for what cannot be read or does not fit together."""
    from problems import readers
    from problems import vnnlib as properties
    from problems.errors import InputError
    from problems.vnncomp import network_field, stored

    try:
        path = Path(network_field(onnx))
        network = readers.load(stored(path) or path)
        specification = properties.read(stored(Path(vnnlib)) or Path(vnnlib))
        specification.check_network(network)
    except InputError as error:
        raise RefusedError(str(error)) from None
    return network, specification


# --- run ------------------------------------------------------------------------------------------------------------------------------


def run(onnx: str, vnnlib: str, results: str, limit: str, *, started: float) -> int:
    try:
        timeout = float(limit)
    except ValueError:
        timeout = -1.0
    if not (isfinite(timeout) and timeout > 0):
        complain(f"the time limit '{limit}' is not a positive number of seconds.")
        return write(results, "error")
    return write(results, supervised(onnx, vnnlib, started + timeout))


def supervised(onnx: str, vnnlib: str, deadline: float) -> str:
    """The answer of a search in a process of its own that is ended LATE seconds after the deadline (of time.monotonic)."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    search = context.Process(target=work, args=(onnx, vnnlib, sender, deadline))
    search.start()
    answer = "timeout"
    try:
        if wait([receiver, search.sentinel], max(0.0, deadline + LATE - time.monotonic())):
            answer = receiver.recv() if receiver.poll() else "error"
    except EOFError:
        answer = "error"
    except KeyboardInterrupt:
        pass
    # What it still does does not matter any more; without an answer its status does.
    search.join(1.0 if answer == "error" else 0.0)
    if answer == "error" and search.exitcode:
        print(f"tightcert: the search ended with status {search.exitcode} and without an answer.", file=sys.stderr)
    with suppress(ProcessLookupError):
        os.killpg(search.pid or 0, signal.SIGKILL)
    search.kill()  # should it not have a group yet
    search.join()
    return answer


def work(onnx: str, vnnlib: str, sender: "Connection[str, str]", deadline: float) -> None:
    """The search: sends the answer."""
    os.setsid()  # a group of its own, which is killed with all its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        answer = decide(onnx, vnnlib, deadline)
    except RefusedError as error:
        print(f"tightcert: {error}", file=sys.stderr, flush=True)
        answer = "error"
    sender.send(answer)


def decide(onnx: str, vnnlib: str, deadline: float) -> str:
    """The text of the results file."""
    from problems.errors import InputError
    from problems.vnnlib import format_witness
    from solvers.errors import SolverError
    from verifier import verify

    network, specification = read(onnx, vnnlib)
    left = deadline - time.monotonic()
    if left <= 0:
        return "timeout"
    try:
        # A little is kept back: an answer counts if it is written before the limit.
        verdict = verify(network, specification, timeout=left - min(0.3, 0.05 * left), memory=free_memory(), semantics="real")
    except (InputError, SolverError) as error:
        raise RefusedError(str(error)) from None
    answer = WORDS[verdict.verdict]
    if verdict.witness is not None and verdict.witness_output is not None:
        answer += "\n" + format_witness(verdict.witness, verdict.witness_output, verdict.tensors)
    return answer


def free_memory() -> float | None:
    """GB that the search may take; None where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        return SHARE * kibibytes * 1024 / 1e9
    return None


def write(results: str, answer: str) -> int:
    """The exit status: 0 if the answer stands in the results file. Missing folders are made."""
    path = Path(results)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(answer + "\n", encoding="utf-8")
    except OSError as error:
        return complain(f"{results}: {error.strerror or error}. The answer is {answer.splitlines()[0]}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
