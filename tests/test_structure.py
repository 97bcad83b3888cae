"""The shape of the project: who imports whom, how long files are, what importing costs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("problems", "solvers", "verifier")
SOURCES = sorted(file for folder in (*PACKAGES, "tests", "benchmarks", "vnncomp") for file in (ROOT / folder).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """The dotted names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}, line {node.lineno}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize(("package", "forbidden"), [("problems", {"verifier", "solvers"}), ("solvers", {"verifier", "problems"})])
def test_arrows_point_one_way(package: str, forbidden: set[str]) -> None:
    files = [file for file in SOURCES if file.is_relative_to(ROOT / package)]
    assert files
    wrong = [(str(file), name) for file in files for name in imported(file) if name.partition(".")[0] in forbidden]
    assert wrong == []


def test_all_imports_are_absolute() -> None:
    assert sum(len(list(imported(file))) for file in SOURCES) > 0


def test_files_do_one_thing() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in SOURCES}
    assert {file: lines for file, lines in lengths.items() if lines > 400} == {}


def test_no_paths_of_the_machine_it_was_written_on() -> None:
    pattern = re.compile("/(tmp|work|root|farm)" + "/")
    ours = [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", ".ci/run")]
    files = ours + SOURCES + sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "benchmarks").rglob("*.md"))
    found = [str(file.relative_to(ROOT)) for file in files if pattern.search(file.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("module", ["verifier", "verifier.cli", "problems.data", "problems.bundled"])
def test_importing_is_cheap(module: str) -> None:
    heavy = ["torch", "highspy", "gurobipy", "cvxpy", "numba", "onnx", "onnxruntime", "sklearn", "matplotlib", "ot"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
