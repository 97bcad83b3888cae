"""The command `optimal-risk`."""

from argparse import Namespace
from typing import Any

import verifier
from problems.data import load
from verifier.cli.output import Output, at_least, at_most
from verifier.cli.progress import waiting
from verifier.optimality.risk import OptimalRisk


def run(options: Namespace, output: Output) -> None:
    data = load(options.data).select(options.samples)
    names = ("classes", "norm", "epsilon", "priors", "timeout", "memory")
    with waiting("matching"):
        found = verifier.optimal_risk(data, **{name: getattr(options, name) for name in names})
    for risk in found:
        output.answer(record(risk), text(risk))


def record(risk: OptimalRisk) -> dict[str, Any]:
    """The JSON record: numbers first, then what proves them."""
    names = ("epsilon", "lower", "upper", "matching", "conflicts", "open_pairs", "seconds", "status", "pairs", "weights", "errors")
    return {name: getattr(risk, name) for name in names}


def text(risk: OptimalRisk) -> str:
    """The record for people."""
    ends = f"{at_least(risk.lower)} <= optimal risk <= {at_most(risk.upper)}"
    if risk.exact_lower == risk.exact_upper:
        ends = f"optimal risk = {risk.exact_lower} ({float(risk.exact_lower):.6g})"
    counts = f"{risk.matching} pairs matched of {risk.conflicts} in conflict" + (
        f", {risk.open_pairs} not decided" if risk.open_pairs else ""
    )
    line = f"epsilon {risk.epsilon!r}: {ends}; {counts} ({risk.seconds:.2f} s)"
    return line if risk.status.finished else f"{line}. {risk.status}"
