"""The command line, thin: it parses, calls the functions of `verifier`, and prints what they return.

Exit status: 0 answered (unknown, timed-out and a bracket with a gap included), 1 a failed check, 2 bad input, 3 nothing to report.
"""

import os
import re
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import solvers
import verifier
from problems.data import load
from problems.errors import InputError
from solvers.errors import SolverError
from verifier.bracket import Status
from verifier.cli_output import Output, at_least, at_most, interval, plain
from verifier.cli_parser import UsageError, build
from verifier.cli_progress import count_up, counting, narrowing, waiting
from verifier.cli_region import region_of
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
            COMMANDS[options.command](options, output)
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


def _verify(options: Namespace, output: Output) -> None:
    with narrowing() as progress:
        verdict = verifier.verify(
            _network(options.network), Path(options.specification), method=options.method, progress=progress, resume=options.resume,
            executor=options.executor, **_everywhere(options),
        )  # fmt: skip
    bracket, witness = verdict.bracket, verdict.witness
    record = {
        "verdict": verdict.verdict,
        "lower": bracket.lower,
        "upper": bracket.upper,
        "seconds": verdict.seconds,
        "witness": witness,
        "witness_output": verdict.witness_output,
        "status": bracket.status,
        "reason": verdict.reason,
        "semantics": bracket.semantics,
        "pieces": bracket.stats.get("bounded", 0),
    }
    text = verdict.verdict
    if witness is not None and verdict.witness_output is not None:
        from problems.vnnlib import format_witness

        text += "\n" + format_witness(witness, verdict.witness_output, verdict.tensors)
    output.answer(record, text)
    if options.semantics == "real" and any(tensor.element_type != "real" for tensor in verdict.tensors):
        output.message(
            "The property declares float32. The answer is about real numbers, its witness replayed in float32 (see --semantics)."
        )
    if verdict.verdict not in ("sat", "unsat"):
        output.message(f"{verdict.reason} The largest violation lies in [{at_least(bracket.lower)}, {at_most(bracket.upper)}].")


def _radius(options: Namespace, output: Output) -> None:
    data = load(options.data).select(options.samples)
    region = region_of(options, data.x.shape[1], data)
    places = {"resume": options.resume, "executor": options.executor}
    records = verifier.radius(_network(options.network), data, norm=options.norm, region=region, **places, **_everywhere(options))
    finished = 0
    for record in count_up(records, len(data), "radii"):
        bracket = record.bracket
        answer = {
            "sample": record.sample,
            "label": record.label,
            "lower": bracket.lower,
            "upper": bracket.upper,
            "status": bracket.status,
            "seconds": bracket.seconds,
            "witness": bracket.witness,
            "semantics": bracket.semantics,
        }
        text = f"sample {record.sample}, label {record.label}: {interval(bracket, 'radius')} ({bracket.seconds:.2f} s)"
        output.answer(answer, text if bracket.status.finished else f"{text}. {bracket.status}")
        finished += bracket.status.finished
        if bracket.status is Status.INTERRUPTED:
            break
    output.message(f"{finished} of {len(data)} radii are exact to the tolerance.")


def _dro(options: Namespace, output: Output) -> None:
    if options.loss != "zero-one":
        raise UsageError("--loss", f"{options.loss} is not available yet.", "The worst-case error, --loss zero-one, is.")
    data = load(options.data).select(options.samples)
    with waiting("refining radii"):
        records = verifier.dro(
            _network(options.network),
            data,
            loss=options.loss,
            norm=options.norm,
            order=options.order,
            epsilon=options.epsilon,
            region=region_of(options, data.x.shape[1], data),
            label_cost=options.label_cost,
            resume=options.resume,
            executor=options.executor,
            **_everywhere(options),
        )
    names = ("epsilon", "attack", "lower", "upper", "lipschitz_bound", "slope_bounds", "seconds", "status")
    for record in records:
        ends = f"{at_least(record.lower)} <= worst-case error <= {at_most(record.upper)}"
        text = f"epsilon {record.epsilon!r}: {ends}, attack {at_least(record.attack)} ({record.seconds:.2f} s)"
        output.answer({name: getattr(record, name) for name in names}, text if record.status.finished else f"{text}. {record.status}")


def _attack(options: Namespace, output: Output) -> None:
    if options.method != "pgd":
        raise UsageError("--method", f"{options.method} is not available.", "The attack that is: pgd.")
    data = load(options.data).select(options.samples)
    with waiting("attacking"):
        report = verifier.attack(
            _network(options.network),
            data,
            method=options.method,
            norm=options.norm,
            epsilon=options.epsilon,
            region=region_of(options, data.x.shape[1], data),
            steps=options.steps,
            restarts=options.restarts,
            seed=options.seed,
            device=options.device,
            timeout=options.timeout,
        )
    names = ("sample", "label", "success", "distance", "margin")
    for row in report.rows:
        found = f"misclassified at distance {at_most(row.distance)}" if row.success else "no misclassified input found"
        text = f"sample {row.sample}, label {row.label}: {found} (margin {plain(row.margin)!r})"
        output.answer({name: getattr(row, name) for name in names}, text)
    summary = {"accuracy": report.accuracy, "budget_used": report.budget_used, "threat_model": report.threat_model}
    output.answer(summary, f"accuracy {report.accuracy!r} at most, budget used {report.budget_used!r}; threat model: {report.threat_model}")


def _lipschitz(options: Namespace, output: Output) -> None:
    from verifier import cli_lipschitz

    cli_lipschitz.run(options, output, _network(options.network), _everywhere(options))


def _tightness(options: Namespace, output: Output) -> None:
    from verifier.cli_tightness import answer

    answer(options, output, _network(options.network), _everywhere(options))


def _audit(options: Namespace, output: Output) -> None:
    with counting("radii") as progress:
        audit = verifier.audit(
            _network(options.network),
            options.data,
            samples=options.samples,
            output=options.output,
            progress=progress,
            executor=options.executor,
            **_everywhere(options),
        )
    report, results = Path(options.output) / "index.html", Path(options.output) / "results.json"
    done = {"radii_closed": audit.radii_closed, "radii_done": audit.radii_done, "radii_wanted": audit.radii_wanted}
    record = {"report": str(report), "results": str(results), "complete": audit.complete} | done | {"seconds": audit.seconds}
    output.answer(record, f"{report}: {audit.radii_closed} of {audit.radii_wanted} radii are exact ({audit.seconds:.0f} s)")
    if not audit.complete:
        output.message("Interrupted: the report shows what is done. Run the same command again to go on.")


def _cells(options: Namespace, output: Output) -> None:
    from verifier import cli_cells

    cli_cells.run(options, output, _network(options.network), _everywhere(options))


def _supports(options: Namespace, output: Output) -> None:
    asked = options.capabilities or []
    known = _capabilities()
    if output.as_json:
        output.answer({name: known[name] for name in asked or known}, "")
        return
    for name in asked or known:
        values = known[name]
        lines = [str(values).lower()] if isinstance(values, bool) else list(values)
        output.answer({}, "\n".join(lines) if asked else f"{name}: {' '.join(lines)}")


def _capabilities() -> dict[str, bool | tuple[str, ...]]:
    """What VNN-LIB 2.0 (chapter on the command line of solvers) asks a solver to say about itself."""
    from problems.readers.onnx import HANDLERS, OLDEST_OPSET

    return {
        "onnx-opset-versions": (str(OLDEST_OPSET), "21"),
        # "real": proved is what the stored weights do as exact numbers.
        "onnx-element-types": ("real",),
        "onnx-operators": tuple(sorted(HANDLERS)),
        "onnx-operators-unsat-proofs": (),
        "vnnlib-versions": ("1.0", "2.0"),
        "hidden-node-theories": ("NH",),
        "multiple-input-output-theories": ("SIO",),
        "multiple-network-theories": ("SNET",),
        "multiple-node-comparison-theories": ("MNC",),
        "arithmetic-complexity-theories": ("BND", "COUT", "LIN"),
        "optimised-disjunctive-reasoning": False,
        "serialise-assignments": False,
        "unsat-proofs": False,
    }


def _network(text: str) -> str:
    """NETWORK, or the file in VNN-LIB's name=NETWORK."""
    named = re.fullmatch(r"[A-Za-z_]\w*=(.+)", text)
    return text if named is None or Path(text).exists() else named[1]


def _everywhere(options: Namespace) -> dict[str, Any]:
    """The options that every question has."""
    known = ("auto", *solvers.names())
    if options.solver not in known:
        raise UsageError("--solver", f"{options.solver!r} is not a solver.", f"Choose one of {', '.join(known)}.")
    names: Iterable[str] = ("timeout", "memory", "workers", "device", "solver", "tolerance", "seed", "semantics")
    return {name: getattr(options, name) for name in names}


COMMANDS: dict[str, Callable[[Namespace, Output], None]] = {
    "verify": _verify,
    "radius": _radius,
    "dro": _dro,
    "attack": _attack,
    "cells": _cells,
    "lipschitz": _lipschitz,
    "tightness": _tightness,
    "audit": _audit,
    "supports": _supports,
}
