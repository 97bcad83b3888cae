"""The command `supports`."""

from argparse import Namespace

from verifier.cli.output import Output


def run(options: Namespace, output: Output) -> None:
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
