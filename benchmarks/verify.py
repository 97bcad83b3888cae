"""Complete verification of a folder of the verification competition: verdict, truth, seconds and memory of every instance.

    python -m benchmarks.verify FOLDER [--timeout CAP] [--only TEXT] [--every K] [--limit N] [--jobs J] [--output results.csv]

FOLDER holds an instances.csv, or folders that do. Every instance runs in a fresh process, so that the wall time counts everything a user
waits for (start-up, reading, loading libraries), and cpu seconds and peak resident memory are those of this instance alone, as the
operating system accounts for them. With --output one line per instance is appended to a CSV file as soon as it is known; instances that
the file already holds are not run again. Exit status 1 if any verdict contradicts the truth (those read from the file included).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from problems.errors import InputError
from problems.vnncomp import Instance, read_instances
from verifier.report.machine import machine, versions
from verifier.search.executors import default_workers

# What a process may overrun its time limit by (loading, the last step) before it is killed.
GRACE = 20.0


@dataclass(frozen=True)
class Result:
    """One line of the CSV. wall, cpu and timeout in seconds; memory is the peak resident set in MB."""

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

    @property
    def key(self) -> tuple[str, str, str]:
        return self.benchmark, self.network, self.specification

    @property
    def solved(self) -> bool:
        return self.verdict in ("sat", "unsat")

    @property
    def wrong(self) -> bool:
        """Whether the verdict contradicts a known truth."""
        return self.solved and self.truth in ("sat", "unsat") and self.verdict != self.truth


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.instance:
        return run_here(*options.instance)
    try:
        return run_all(options)
    except InputError as error:
        print(f"benchmarks.verify: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=(__doc__ or "").partition("\n")[0])
    described.add_argument("folder", nargs="?", type=Path, help="a folder with an instances.csv, or a folder of such folders")
    described.add_argument("--timeout", type=float, metavar="SECONDS", help="cap on the time limits of the instances")
    described.add_argument("--memory", type=float, metavar="GB", help="memory limit of each instance")
    described.add_argument("--only", metavar="TEXT", default="", help="instances whose 'benchmark, network, property' contains the text")
    described.add_argument("--every", type=int, metavar="K", default=1, help="every K-th of these")
    described.add_argument("--limit", type=int, metavar="N", help="at most N of these")
    described.add_argument("--jobs", type=int, metavar="J", default=1, help="instances at a time; they share the cores (default 1)")
    described.add_argument("--output", type=Path, metavar="CSV", help="append results here, and skip what is already there")
    described.add_argument("--method", default="auto", help="as for tightcert verify")
    # What the fresh processes are started with: network, specification, and the other arguments of `verify` as JSON.
    described.add_argument("--instance", nargs=3, help=argparse.SUPPRESS)
    return described


def run_all(options: argparse.Namespace) -> int:
    if options.folder is None or options.every < 1 or options.jobs < 1:
        raise InputError("arguments", "need a folder, and --every and --jobs of at least 1.", "See --help.")
    chosen = list(find_instances(options.folder))
    chosen = [(name, instance) for name, instance in chosen if options.only in f"{name}, {instance.name}"]
    chosen = chosen[:: options.every][: options.limit]
    earlier = {result.key: result for result in read_results(options.output)} if options.output else {}
    waiting = [(name, instance) for name, instance in chosen if key_of(name, instance) not in earlier]
    results = [earlier[key_of(name, instance)] for name, instance in chosen if key_of(name, instance) in earlier]
    if results:
        print(f"{len(results)} of {len(chosen)} instances are in {options.output} already.")
    cores = default_workers()
    settings = {"memory": options.memory, "method": options.method, "workers": max(1, cores // options.jobs)}
    if waiting and options.output:
        begin(options.output)
    print(HEADING)
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            futures = [pool.submit(measure, name, instance, options.timeout, settings) for name, instance in waiting]
            try:
                for future in as_completed(futures):
                    results.append(future.result())
                    print(line_of(results[-1]), flush=True)
                    if options.output:
                        append(options.output, results[-1])
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on." if options.output else "\nInterrupted.")
    print(summary(results, len(chosen)))
    return 1 if any(result.wrong for result in results) else 0


def find_instances(folder: Path) -> Iterator[tuple[str, Instance]]:
    """(name of the benchmark, instance) of the folder, or of the folders in it."""
    folders = [folder] if (folder / "instances.csv").is_file() else sorted(table.parent for table in folder.glob("*/instances.csv"))
    if not folders:
        raise InputError(str(folder), "holds no instances.csv, nor do its folders.", "Give a folder in the form of the competition.")
    for part in folders:
        for instance in read_instances(part):
            yield part.resolve().name, instance


def key_of(benchmark: str, instance: Instance) -> tuple[str, str, str]:
    network, specification = (path.name.removesuffix(".gz") for path in (instance.network, instance.specification))
    return benchmark, network, specification


def measure(benchmark: str, instance: Instance, cap: float | None, settings: dict) -> Result:
    """Run the instance in a process of its own and account for it."""
    limit = instance.timeout if cap is None else min(cap, instance.timeout)
    question = [str(instance.network), str(instance.specification), json.dumps(settings | {"timeout": limit})]
    command = [sys.executable, "-m", "benchmarks.verify", "--instance", *question]
    started = time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=output, stderr=messages, cwd=Path(__file__).resolve().parent.parent)
        killer = threading.Timer(limit + GRACE, process.kill)
        killer.start()
        # wait4 gives the resources of this child alone; getrusage(RUSAGE_CHILDREN) only the maximum over all.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        messages.seek(0)
        answer = _answer(output.read().decode(), messages.read().decode(), process.returncode, wall > limit + GRACE)
    scale = 1 if sys.platform == "darwin" else 1024
    return Result(
        *key_of(benchmark, instance),
        timeout=limit,
        truth=instance.truth or "",
        verdict=answer[0],
        wall=round(wall, 2),
        cpu=round(usage.ru_utime + usage.ru_stime, 2),
        memory=round(usage.ru_maxrss * scale / 1e6, 1),
        note=answer[1],
    )


def _answer(output: str, messages: str, code: int, killed: bool) -> tuple[str, str]:
    """(verdict, note) of a finished process."""
    if killed:
        return "killed", f"did not stop {GRACE:.0f} s after its time limit"
    if code == 0 and output.strip():
        answer = json.loads(output.strip().splitlines()[-1])
        return str(answer["verdict"]), "" if answer["verdict"] in ("sat", "unsat") else str(answer["note"])
    last = messages.strip().splitlines()[-1:] or [""]
    return "error", f"exit status {code}: {last[0]}"


def run_here(network: str, specification: str, settings: str) -> int:
    """The body of the fresh process: one JSON line."""
    from verifier import verify

    try:
        answer = verify(network, specification, **json.loads(settings))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    bracket = answer.bracket
    ends = f"[{bracket.lower:.6g}, {bracket.upper:.6g}]"
    print(json.dumps({"verdict": answer.verdict, "note": f"{ends} {answer.reason}"}))
    return 0


# --- results --------------------------------------------------------------------------------------------------------------------------


HEADING = f"{'benchmark':<14} {'network':<34} {'property':<40} {'truth':<8} {'verdict':<10} {'wall s':>8} {'cpu s':>8} {'MB':>7}"


def line_of(result: Result) -> str:
    network, specification = result.network.removesuffix(".onnx"), result.specification.removesuffix(".vnnlib")
    remark = "  WRONG" if result.wrong else f"  {result.note}" if result.note else ""
    numbers = f"{result.wall:8.2f} {result.cpu:8.2f} {result.memory:7.0f}"
    return f"{result.benchmark:<14} {network:<34} {specification:<40} {result.truth or '-':<8} {result.verdict:<10} {numbers}{remark}"


def summary(results: Sequence[Result], wanted: int) -> str:
    """Solved, wrong and unsolved instances, per benchmark and in all."""
    lines = [""]
    names = sorted({result.benchmark for result in results})
    for name in [*names, *(["all"] if len(names) != 1 else [])]:
        part = [result for result in results if name in ("all", result.benchmark)]
        solved = sum(result.solved for result in part)
        proved = sum(result.verdict == "unsat" for result in part)
        wrong = sum(result.wrong for result in part)
        errors = sum(result.verdict in ("error", "killed") for result in part)
        cpu, wall = sum(result.cpu for result in part), sum(result.wall for result in part)
        peak = max((result.memory for result in part), default=0.0)
        lines.append(
            f"{name}: solved {solved} of {len(part)} ({proved} unsat, {solved - proved} sat), wrong {wrong}, errors {errors}; "
            f"wall {wall:.0f} s, cpu {cpu:.0f} s, peak memory {peak:.0f} MB"
        )
    if len(results) < wanted:
        lines.append(f"{wanted - len(results)} instances were not run.")
    return "\n".join(lines)


def begin(path: Path) -> None:
    """Comment lines that say when and where the lines below them were measured; column names in a new file."""
    new = not path.exists() or not path.stat().st_size
    here, made = machine("cpu"), versions()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(f"# {datetime.now().astimezone().isoformat(timespec='seconds')}\n")
        file.write(f"# {here['processor']}, {here['cores']} cores, {here['memory_gib'] or 0:.0f} GiB, {here['system']}\n")
        file.write("# " + ", ".join(f"{name} {version}" for name, version in made.items()) + "\n")
        if new:
            csv.writer(file).writerow([field.name for field in fields(Result)])


def append(path: Path, result: Result) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(asdict(result).values())


def read_results(path: Path) -> list[Result]:
    """The results in a CSV file that this program wrote; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    names = [field.name for field in fields(Result)]
    if rows and rows[0] != names:
        raise InputError(str(path), "is not a file of results.", "Give another --output.")
    results = []
    for row in rows[1:]:
        try:
            values = dict(zip(names, row, strict=True))
            numbers = {name: float(values[name]) for name in ("timeout", "wall", "cpu", "memory")}
        except ValueError:
            raise InputError(str(path), f"holds a line that is no result: {','.join(row)}", "Remove it, and run again.") from None
        results.append(Result(**(values | numbers)))  # type: ignore[arg-type]
    return results


if __name__ == "__main__":
    sys.exit(main())
