"""Complete verification of a folder of the verification competition: verdict, truth, seconds and memory of every instance.

    python -m benchmarks.verify FOLDER [--timeout CAP] [--list NAME] [--only TEXT] [--every K] [--limit N] [--jobs J] [--output results.csv]
                                [--rivals maraboupy,neuralsat]

FOLDER holds an instances.csv, or folders that do. Every instance runs in a fresh process, so that the wall time counts everything a user
waits for (start-up, reading, loading libraries), and cpu seconds and peak resident memory are those of this instance alone, as the
operating system accounts for them. With --output one line per instance is appended to a CSV file as soon as it is known; instances that
the file already holds are not run again. --list NAME takes the instances named in benchmarks/lists/NAME.txt (or in a file of your own):
`--list rivals` is the published comparison. --rivals runs other verifiers on each instance right after ours, with the same time limit, and
prints ratios (see benchmarks/rivals.py). Exit status 1 if a verdict of ours contradicts the truth (those read from the file included).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks import accounting
from benchmarks.results import HEADING, OURS, Result, append, begin, line_of, read_results, summary
from benchmarks.rivals import Rival, chosen, compare, unpacked, verdict_of
from problems.errors import InputError
from problems.vnncomp import Instance, read_instances
from verifier.cli.parser import count, positive
from verifier.search.executors import default_workers

LISTS = Path(__file__).resolve().parent / "lists"
ROOT = Path(__file__).resolve().parent.parent
# What a process may overrun its time limit by (loading, the last step) before it is killed.
GRACE = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.instance:
        return run_here(*options.instance)
    try:
        return run_all(options)
    except InputError as error:
        print(f"benchmarks.verify: {error}", file=sys.stderr)
    except OSError as error:
        print(f"benchmarks.verify: {error.filename or 'output'}: {error.strerror or error}.", file=sys.stderr)
    return 2


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=(__doc__ or "").partition("\n")[0])
    described.add_argument("folder", nargs="?", type=Path, help="a folder with an instances.csv, or a folder of such folders")
    described.add_argument("--timeout", type=positive, metavar="SECONDS", help="cap on the time limits of the instances")
    described.add_argument("--memory", type=positive, metavar="GB", help="memory limit of each instance")
    described.add_argument("--list", metavar="NAME", help="the instances in benchmarks/lists/NAME.txt or in a file")
    described.add_argument("--only", metavar="TEXT", default="", help="instances whose 'benchmark, network, property' contains the text")
    described.add_argument("--every", type=count, metavar="K", default=1, help="every K-th of these")
    described.add_argument("--limit", type=count, metavar="N", help="at most N of these")
    described.add_argument("--jobs", type=count, metavar="J", default=1, help="instances at a time; they share the cores (default 1)")
    described.add_argument("--output", type=Path, metavar="CSV", help="append results here, and skip what is already there")
    described.add_argument("--method", default="auto", help="as for tightcert verify")
    described.add_argument("--rivals", metavar="NAMES", default="", help="other verifiers to run beside, separated by commas")
    # What the fresh processes are started with: network, specification, and the other arguments of `verify` as JSON.
    described.add_argument("--instance", nargs=3, help=argparse.SUPPRESS)
    return described


def run_all(options: argparse.Namespace) -> int:
    if options.folder is None:
        raise InputError("arguments", "need a folder.", "See --help.")
    rivals = chosen(options.rivals)
    for rival in rivals:
        rival.command(Path(), Path(), 1.0)  # is it installed?
    instances = choose(options)
    wanted = [(name, instance, rival) for name, instance in instances for rival in (None, *rivals)]
    earlier = {result.key: result for result in read_results(options.output)} if options.output else {}
    waiting = [run for run in wanted if key_of(*run) not in earlier]
    results = [earlier[key_of(*run)] for run in wanted if key_of(*run) in earlier]
    if results:
        print(f"{len(results)} of {len(wanted)} results are in {options.output} already.")
    cores = default_workers()
    settings = {"memory": options.memory, "method": options.method, "workers": max(1, cores // options.jobs)}
    if waiting and options.output:
        begin(options.output)
    print(HEADING)
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            futures = [pool.submit(measure, *run, options.timeout, settings) for run in waiting]
            try:
                for future in as_completed(futures):
                    results.append(future.result())
                    print(line_of(results[-1]), flush=True)
                    if options.output:
                        append(options.output, results[-1])
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                accounting.stop()
                raise
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on." if options.output else "\nInterrupted.")
    print(summary(results, len(wanted)))
    for rival in rivals:
        print(compare(results, rival))
    return 1 if any(result.wrong and result.tool == OURS for result in results) else 0


def choose(options: argparse.Namespace) -> list[tuple[str, Instance]]:
    """The instances that the options ask for, in the order of the folder or of the list."""
    instances = list(find_instances(options.folder))
    if options.list:
        named = {f"{name}, {instance.name}": (name, instance) for name, instance in instances}
        instances = [named[line] for line in read_list(options.list, set(named))]
    instances = [(name, instance) for name, instance in instances if options.only in f"{name}, {instance.name}"]
    return instances[:: options.every][: options.limit]


def read_list(name: str, known: set[str]) -> list[str]:
    """The lines 'benchmark, network, property' of a list. InputError for one that the folder does not hold."""
    path = Path(name) if Path(name).is_file() else LISTS / f"{name}.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        lists = ", ".join(sorted(file.stem for file in LISTS.glob("*.txt")))
        raise InputError("--list", f"{name!r} cannot be read: {error}.", f"Give a file, or one of {lists}.") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        if line not in known:
            raise InputError(str(path), f"the folder holds no instance {line!r}.", "Give the folder that the list was made for.")
    return lines


def find_instances(folder: Path) -> Iterator[tuple[str, Instance]]:
    """(name of the benchmark, instance) of the folder, or of the folders in it."""
    folders = [folder] if (folder / "instances.csv").is_file() else sorted(table.parent for table in folder.glob("*/instances.csv"))
    if not folders:
        raise InputError(str(folder), "holds no instances.csv, nor do its folders.", "Give a folder in the form of the competition.")
    for part in folders:
        for instance in read_instances(part):
            yield part.resolve().name, instance


def key_of(benchmark: str, instance: Instance, rival: Rival | None) -> tuple[str, ...]:
    network, specification = (path.name.removesuffix(".gz") for path in (instance.network, instance.specification))
    return benchmark, network, specification, OURS if rival is None else rival.name


def measure(benchmark: str, instance: Instance, rival: Rival | None, cap: float | None, settings: dict) -> Result:
    """Run the instance in a process of its own and account for it; by the rival, if there is one."""
    limit = instance.timeout if cap is None else min(cap, instance.timeout)
    if rival is None:
        question = [str(instance.network), str(instance.specification), json.dumps(settings | {"timeout": limit})]
        command = [sys.executable, "-m", "benchmarks.verify", "--instance", *question]
        finished = accounting.run(command, limit=limit + GRACE, folder=ROOT)
        verdict, note = _answer(finished)
    else:
        with unpacked(instance) as (network, specification, folder):
            finished = accounting.run(rival.command(network, specification, limit), limit=limit + GRACE, folder=folder)
        verdict, note = verdict_of(finished, GRACE)
    if verdict in ("sat", "unsat") and finished.wall > limit + 1.0:
        note = "after its time limit"
    name, network_name, specification_name, tool = key_of(benchmark, instance, rival)
    return Result(
        name,
        network_name,
        specification_name,
        timeout=limit,
        truth=instance.truth or "",
        verdict=verdict,
        wall=round(finished.wall, 2),
        cpu=round(finished.cpu, 2),
        memory=round(finished.memory, 1),
        note=note,
        tool=tool,
    )


def _answer(finished: accounting.Finished) -> tuple[str, str]:
    """(verdict, note) of a finished process of ours."""
    if finished.killed:
        return "killed", f"did not stop {GRACE:.0f} s after its time limit"
    if finished.code == 0 and finished.output.strip():
        answer = json.loads(finished.output.strip().splitlines()[-1])
        return str(answer["verdict"]), "" if answer["verdict"] in ("sat", "unsat") else str(answer["note"])
    last = finished.messages.strip().splitlines()[-1:] or [""]
    return "error", f"exit status {finished.code}: {last[0]}"


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


if __name__ == "__main__":
    sys.exit(main())
