"""The command `verify`."""

from argparse import Namespace
from pathlib import Path

import verifier
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, at_least, at_most
from verifier.cli.progress import narrowing


def run(options: Namespace, output: Output) -> None:
    with narrowing() as progress:
        verdict = verifier.verify(
            network_of(options), Path(options.specification), method=options.method, progress=progress, resume=options.resume,
            executor=options.executor, **everywhere(options),
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
