"""Other complete verifiers, installed from PyPI, on the same instances in the same run.

    python -m benchmarks.rivals maraboupy neuralsat        # once: a virtual environment for each in build/rivals
    python -m benchmarks.verify FOLDER --rivals maraboupy,neuralsat

Each has an environment of its own, because their requirements clash with each other's and with ours (neuralsat brings its own torch, 6 GB).
They run as their authors ship them: Marabou through its command line with default options (one thread), NeuralSAT through its main.py on
the CPU. Files are unpacked before, which is not counted. The verdict is the word that they print; a process that ends without one has
failed, and is shown so, never as slow.
"""

import gzip
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.accounting import Finished
from benchmarks.results import OURS, Result
from problems.errors import InputError
from problems.vnncomp import Instance

HOME = Path(__file__).resolve().parent.parent / "build" / "rivals"


@dataclass(frozen=True)
class Rival:
    """A distribution on PyPI. `arguments` follow the interpreter of its environment; {site} is that environment's site-packages."""

    name: str
    version: str
    arguments: tuple[str, ...]

    @property
    def python(self) -> Path:
        return HOME / self.name / "bin" / "python"

    def command(self, network: Path, specification: Path, timeout: float) -> list[str]:
        """What to run; InputError where it is not installed."""
        if not self.python.exists():
            raise InputError(self.name, f"is not installed in {HOME}.", f"Run: python -m benchmarks.rivals {self.name}")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        words = {"site": HOME / self.name / "lib" / version / "site-packages", "network": network, "specification": specification}
        return [str(self.python), *(word.format(**words, timeout=ceil(timeout)) for word in self.arguments)]


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("maraboupy", "2.0.0", ("-m", "maraboupy", "{network}", "{specification}", "--timeout", "{timeout}", "--verbosity", "0")),
        Rival(
            "neuralsat",
            "0.2.17",
            ("{site}/src/main.py", "--net", "{network}", "--spec", "{specification}", "--timeout", "{timeout}", "--device", "cpu",
             "--verbosity", "0"),
        ),
    )
}  # fmt: skip

# The last line that says one of these decides: "sat", "Timeout", "unsat,6.84".
_WORD = re.compile(r"^\s*(sat|unsat|timeout|unknown)\s*(?:,[0-9.]+)?\s*$", re.IGNORECASE | re.MULTILINE)


def chosen(text: str) -> list[Rival]:
    """The rivals in a comma-separated list."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in RIVALS:
            raise InputError("--rivals", f"{name!r} is not known.", f"Known are {', '.join(RIVALS)}.")
    return [RIVALS[name] for name in dict.fromkeys(names)]


@contextmanager
def unpacked(instance: Instance) -> Iterator[tuple[Path, Path, Path]]:
    """(network, specification, empty folder): the files as every tool reads them, without compression."""
    with TemporaryDirectory(prefix="rivals-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "here").mkdir()
        paths = []
        for path in (instance.network, instance.specification):
            if path.suffix == ".gz":
                plain = folder / path.stem
                plain.write_bytes(gzip.decompress(path.read_bytes()))
                path = plain
            paths.append(path.resolve())
        yield paths[0], paths[1], folder / "here"


def verdict_of(finished: Finished, grace: float) -> tuple[str, str]:
    """(verdict, note) of a rival's process: sat, unsat, unknown, timed-out, killed, or error with what it said last."""
    if finished.killed:
        return "killed", f"did not stop {grace:.0f} s after its time limit"
    words = _WORD.findall(finished.output)
    if finished.code == 0 and words:
        word = words[-1].lower()
        return ("timed-out", "") if word == "timeout" else (word, "")
    said = (finished.messages.strip() or finished.output.strip()).splitlines()[-1:] or ["nothing printed"]
    cause = f"signal {-finished.code}" if finished.code < 0 else f"exit status {finished.code}"
    return "error", f"{cause}: {said[0].strip()[:160]}"


# --- comparison -----------------------------------------------------------------------------------------------------------------------


def compare(results: Sequence[Result], rival: Rival) -> str:
    """Who solved what, and how their times compare where both did: ratios are the rival's time over ours."""
    ours = {result.instance: result for result in results if result.tool == OURS}
    theirs = {result.instance: result for result in results if result.tool == rival.name}
    pairs = [(ours[instance], theirs[instance]) for instance in ours if instance in theirs]
    solved = {
        (mine, other): sum((a.solved and not a.wrong, b.solved and not b.wrong) == (mine, other) for a, b in pairs)
        for mine in (True, False)
        for other in (True, False)
    }
    failed = sum(b.verdict == "error" for _, b in pairs)
    late = sum(b.verdict in ("timed-out", "killed") for _, b in pairs)
    wrong = sum(b.wrong for _, b in pairs)
    lines = [
        f"against {rival.name} {rival.version} on {len(pairs)} instances: both solved {solved[True, True]}, "
        f"only {OURS} {solved[True, False]}, only {rival.name} {solved[False, True]}, neither {solved[False, False]}; "
        f"{rival.name} ran out of time on {late}, failed on {failed} and was wrong on {wrong}"
    ]
    both = [(a, b) for a, b in pairs if a.solved and b.solved and not a.wrong and not b.wrong]
    for what in ("cpu", "wall") if both else ():
        mine, other = ([getattr(pair[side], what) for pair in both] for side in (0, 1))
        lines.append(
            f"  {what} where both solved: medians {median(mine):.2f} s and {median(other):.2f} s, "
            f"ratio {_ratio(median(other), median(mine))}; sums {sum(mine):.1f} s and {sum(other):.1f} s, "
            f"ratio {_ratio(sum(other), sum(mine))}"
        )
    return "\n".join(lines)


def _ratio(numerator: float, denominator: float) -> str:
    return f"{numerator / denominator:.2f}" if denominator > 0 else "-"


# --- installation ---------------------------------------------------------------------------------------------------------------------


def install(rival: Rival) -> None:
    """Make the rival's environment, from the package index that pip is set to."""
    folder = HOME / rival.name
    print(f"{rival.name} {rival.version} -> {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([rival.python, "-m", "pip", "install", "--quiet", f"{rival.name}=={rival.version}"], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    names = list(sys.argv[1:] if arguments is None else arguments)
    if not names or not set(names) <= set(RIVALS):
        print(f"usage: python -m benchmarks.rivals {' '.join(f'[{name}]' for name in RIVALS)}", file=sys.stderr)
        return 2
    for name in names:
        try:
            install(RIVALS[name])
        except subprocess.CalledProcessError as error:
            print(f"benchmarks.rivals: {name} could not be installed (exit status {error.returncode}).", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
