"""Results of the benchmark: one line of a CSV file each, and what is printed of them."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from problems.errors import InputError
from verifier.report.machine import machine, versions

OURS = "tightcert"


@dataclass(frozen=True)
class Result:
    """One line of the CSV. wall, cpu and timeout in seconds; memory is the peak resident set in MB; `tool` is ours or a rival."""

    benchmark: str
    network: str
    specification: str
    timeout: float
    truth: str
    verdict: str
    wall: float
    cpu: float
    memory: float
    note: str
    tool: str = OURS

    @property
    def instance(self) -> tuple[str, str, str]:
        return self.benchmark, self.network, self.specification

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.instance, self.tool)

    @property
    def solved(self) -> bool:
        return self.verdict in ("sat", "unsat")

    @property
    def wrong(self) -> bool:
        """Whether the verdict contradicts a known truth."""
        return self.solved and self.truth in ("sat", "unsat") and self.verdict != self.truth


HEADING = (
    f"{'tool':<10} {'benchmark':<14} {'network':<28} {'property':<34} {'truth':<7} {'verdict':<10} {'wall s':>8} {'cpu s':>8} {'MB':>7}"
)


def line_of(result: Result) -> str:
    network, specification = result.network.removesuffix(".onnx"), result.specification.removesuffix(".vnnlib")
    remark = "  WRONG" if result.wrong else f"  {result.note}" if result.note else ""
    what = f"{result.tool:<10} {result.benchmark:<14} {network:<28} {specification:<34} {result.truth or '-':<7} {result.verdict:<10}"
    return f"{what} {result.wall:8.2f} {result.cpu:8.2f} {result.memory:7.0f}{remark}"


def summary(results: Sequence[Result], wanted: int) -> str:
    """Solved, wrong and unsolved instances of each tool, per benchmark and in all; `wanted` results were asked for."""
    lines = [""]
    for tool in dict.fromkeys([OURS, *(result.tool for result in results)]):
        mine = [result for result in results if result.tool == tool]
        names = sorted({result.benchmark for result in mine})
        for name in [*names, *(["all"] if len(names) > 1 else [])]:
            lines.append(f"{tool}, {name}: {_totals([result for result in mine if name in ('all', result.benchmark)])}")
    if len(results) < wanted:
        lines.append(f"{wanted - len(results)} runs were not made.")
    return "\n".join(lines)


def _totals(part: Sequence[Result]) -> str:
    solved = sum(result.solved for result in part)
    proved = sum(result.verdict == "unsat" for result in part)
    wrong = sum(result.wrong for result in part)
    errors, killed = (sum(result.verdict == verdict for result in part) for verdict in ("error", "killed"))
    cpu, wall = sum(result.cpu for result in part), sum(result.wall for result in part)
    peak = max((result.memory for result in part), default=0.0)
    return (
        f"solved {solved} of {len(part)} ({proved} unsat, {solved - proved} sat), wrong {wrong}, errors {errors}, killed {killed}; "
        f"wall {wall:.1f} s, cpu {cpu:.1f} s, peak memory {peak:.0f} MB"
    )


# --- the CSV file ---------------------------------------------------------------------------------------------------------------------


def begin(path: Path, columns: Sequence[str] = ()) -> None:
    """Comment lines that say when and where the lines below them were measured; column names (default those of Result) in a new file."""
    new = not path.exists() or not path.stat().st_size
    here, made = machine("cpu"), versions()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(f"# {datetime.now().astimezone().isoformat(timespec='seconds')}\n")
        file.write(f"# {here['processor']}, {here['cores']} cores, {here['memory_gib'] or 0:.0f} GiB, {here['system']}\n")
        file.write("# " + ", ".join(f"{name} {version}" for name, version in made.items()) + "\n")
        if new:
            csv.writer(file).writerow(columns or [field.name for field in fields(Result)])


def append(path: Path, result: Result) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(asdict(result).values())


def read_results(path: Path) -> list[Result]:
    """The results in a CSV file that this program wrote; none if there is no file. Lines without a tool are ours."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(line for line in file if not line.startswith("#")))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), f"cannot be read: {error}.", "Give another --output.") from None
    names = [field.name for field in fields(Result)]
    if rows and rows[0] not in (names, names[:-1]):
        raise InputError(str(path), "is not a file of results.", "Give another --output.")
    results = []
    for row in rows[1:]:
        try:
            values = dict(zip(names, [*row, OURS] if len(row) == len(names) - 1 else row, strict=True))
            numbers = {name: float(values[name]) for name in ("timeout", "wall", "cpu", "memory")}
        except ValueError:
            raise InputError(str(path), f"holds a line that is no result: {','.join(row)}", "Remove it, and run again.") from None
        results.append(Result(**(values | numbers)))  # type: ignore[arg-type]
    return results
