"""Plays the verification competition: the steps of its run_single_instance.sh and the checks of its scoring scripts (VNN-COMP 2026).

Counter-examples are replayed by onnxruntime in the network's own precision; the solver's outputs must agree with the replay, the replayed
outputs must satisfy the property without tolerance, and inputs may leave their bounds by INPUT_TOLERANCE. Properties of VNN-LIB 2.0 are
read by the standard's reference parser, those of 1.0 by the few lines below: nothing of the reader under test is used.
"""

import ast
import gzip
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import vnnlib

ROOT = Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "vnncomp"
PREPARE_LIMIT = 600.0
INPUT_TOLERANCE = 1e-4
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # agreement of the solver's outputs with the replay
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, ">": lambda a, b: a > b, "==": lambda a, b: a == b
}  # fmt: skip
TREES = {"LessEqual": "<=", "GreaterEqual": ">=", "LessThan": "<", "GreaterThan": ">", "Equal": "=="}


@dataclass(frozen=True)
class Played:
    """What the competition writes down of one instance; `seconds` is the wall time of run_instance.sh."""

    result: str
    counterexample: str
    seconds: float
    messages: str


def environment(session: str, **more: str) -> dict[str, str]:
    return os.environ | {"TIGHTCERT_PYTHON": sys.executable, "TIGHTCERT_SESSION": session} | more


def call(script: str, *arguments: str, folder: Path, limit: float, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of the tool in the folder; TimeoutExpired after `limit` seconds."""
    return subprocess.run(
        [TOOL / script, *arguments], cwd=folder, env=environment(str(folder), **more), capture_output=True, timeout=limit, check=False
    )


def play(onnx: str, specification: str, timeout: float, folder: Path, **more: str) -> Played:
    """One instance, as run_single_instance.sh plays it: prepare, run with a minute of grace, read the results file."""
    instance = ("v1", "test", onnx, specification)
    prepared = call("prepare_instance.sh", *instance, folder=folder, limit=PREPARE_LIMIT, **more)
    if prepared.returncode:
        return Played(f"prepare_instance_error_{prepared.returncode}", "", 0.0, prepared.stderr.decode(errors="replace"))
    results = folder / "out.txt"
    results.write_text("no_result_in_file\n")
    started = time.monotonic()
    done = call("run_instance.sh", *instance, results.name, str(timeout), folder=folder, limit=timeout + 60, **more)
    seconds = time.monotonic() - started
    if done.returncode:
        return Played(f"error_exit_code_{done.returncode}", "", seconds, done.stderr.decode(errors="replace"))
    first, _, rest = results.read_text(encoding="utf-8").partition("\n")
    return Played("".join(first.split()), rest, seconds, done.stderr.decode(errors="replace"))


# --- scoring --------------------------------------------------------------------------------------------------------------------------


def judge(onnx: str | Path, specification: str | Path, counterexample: str) -> str:
    """'correct', or what is wrong with the counter-example."""
    text = unpacked(specification).decode()
    session = onnxruntime.InferenceSession(unpacked(onnx), providers=["CPUExecutionProvider"])
    query = None if "declare-const" in text else vnnlib.parse_query_string(text)
    x, y = flat(counterexample) if query is None else tensors(counterexample, query)
    (wanted,) = session.get_inputs()
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in wanted.shape]
    x = x.astype({"tensor(float)": np.float32, "tensor(double)": np.float64}[wanted.type])
    replayed = session.run(None, {wanted.name: x.reshape(shape)})[0].reshape(y.shape)
    if not np.allclose(y, replayed, rtol=RELATIVE, atol=ABSOLUTE):
        return f"outputs {y} are not those of the replay, {replayed}"
    if query is None:
        names = {f"X_{i}": value for i, value in enumerate(x)} | {f"Y_{i}": value for i, value in enumerate(replayed)}
        failed = [condition for condition in conditions(text) if not holds(condition, names)]
    else:
        (network,) = query.networks
        values = {network.inputs[0].name: x, network.outputs[0].name: replayed}
        failed = [assertion for assertion in query.assertions if not holds(nested(assertion.expr, values), {})]
    return "correct" if not failed else f"{failed} do not hold at {x}, {replayed}"


def unpacked(path: str | Path) -> bytes:
    data = Path(path).read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def flat(counterexample: str) -> tuple[np.ndarray, np.ndarray]:
    """((X_0 v) ... (Y_0 v) ...): one pair of parentheses around pairs in order."""
    content = counterexample.replace("\n", " ").strip()
    assert content[0] == "("
    assert content[-1] == ")"
    found: dict[str, list[float]] = {"X": [], "Y": []}
    for part in filter(None, (part.strip() for part in content[1:-1].split(")"))):
        assert part[0] == "("
        name, value = part[1:].split(" ")
        assert name[1:] == f"_{len(found[name[0]])}"
        found[name[0]].append(float(value))
    return np.array(found["X"]), np.array(found["Y"])


def tensors(counterexample: str, query: Any) -> list[np.ndarray]:
    """'X float32 [1,2]' and a line for each element, in the order and with the types and shapes that the query declares."""
    lines = [line.strip() for line in counterexample.splitlines() if line.strip()]
    result = []
    for definition in (*query.networks[0].inputs, *query.networks[0].outputs):
        match = re.fullmatch(r"(\S+)\s+(\S+)\s+\[([0-9,\s]*)\]", lines.pop(0))
        assert match is not None
        kinds = {"F32": {"float32", "real"}}.get(definition.dtype.name, {"real"})
        assert match[1] == definition.name
        assert match[2].lower() in kinds
        assert ast.literal_eval(f"[{match[3]}]") == list(definition.shape)
        size = math.prod(definition.shape)
        result.append(np.array([float(line) for line in lines[:size]]).reshape(definition.shape))
        del lines[:size]
    assert lines == []
    return result


def conditions(text: str) -> list[Any]:
    """The asserted conditions of a VNN-LIB 1.0 file as nested lists."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            stack[-2].append(stack.pop())
        else:
            stack[-1].append(token)
    return [command[1] for command in stack[0] if command[0] == "assert"]


def nested(expression: Any, values: dict[str, np.ndarray]) -> Any:
    """A condition of the reference parser in the same form, its elements as 'X' and 'Y' with their values."""
    kind = type(expression).__name__
    if kind in ("And", "Or"):
        return [kind.lower(), *(nested(part, values) for part in expression.args)]
    sides = []
    for side in (expression.lhs, expression.rhs):
        element = type(side).__name__ == "Var"
        sides.append((side.name, values[side.name][tuple(side.indices)]) if element else side.lexeme)
    return [TREES[kind], *sides]


def holds(condition: Any, names: dict[str, Any]) -> bool:
    """Whether the condition holds; conditions about inputs alone up to the tolerance."""
    operator, *parts = condition
    if operator in ("and", "or"):
        return (all if operator == "and" else any)(holds(part, names) for part in parts)
    named = [part if isinstance(part, tuple) else (part, names.get(part)) for part in parts]
    values = [float(name) if value is None else float(value) for name, value in named]
    if all(name.startswith("X") for name, value in named if value is not None) and operator != "==":
        slack = INPUT_TOLERANCE if operator in ("<=", "<") else -INPUT_TOLERANCE
        return COMPARE[operator](values[0], values[1] + slack)
    return COMPARE[operator](*values)
