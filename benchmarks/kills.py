"""Kill a search at random moments, again and again, and see that it ends with the same verdict: `python -m benchmarks.kills --help`.

Every instance is run once undisturbed. Then the same call with `resume` is killed with SIGKILL after a random time and given again, and so
on; after the last kill it may end by itself. The table compares the verdicts, and says how many pieces were bounded: in the run that
counts, and in work that was lost, as far as the process that was killed had them back from its workers.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.workers import find
from problems.vnncomp import Instance
from verifier.search.executors import default_workers

# Of the verification competition: searches of a few seconds, proofs and counter-examples, by both ways of splitting.
INSTANCES = (
    ("acasxu", "3_3_batch_2000, prop_2"),
    ("acasxu", "4_2_batch_2000, prop_2"),
    ("acasxu", "1_1_batch_2000, prop_6"),
    ("acasxu", "1_9_batch_2000, prop_7"),
    ("mnist_fc", "256x4, prop_8_0.03"),
    ("oval21", "base_kw, cifar_base_kw-img2578"),
)
COLUMNS = "{:<46} {:>5}   {:<9} {:<9}   {:>8} {:>8} {:>8} {:>9}   {:>7}"
HEADING = (
    COLUMNS.format("instance", "kills", "verdict", "verdict", "pieces", "pieces", "lost", "most lost", "file"),
    COLUMNS.format("", "", "alone", "resumed", "alone", "resumed", "in all", "by a kill", "MB"),
)


@dataclass(frozen=True)
class Run:
    """How a process ended: its answer, or None if it was killed. began and ended: pieces bounded at the start, and when it ended."""

    answer: dict[str, Any] | None
    seconds: float
    began: int
    ended: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of folders in the form of the competition, each with instances.csv")
    parser.add_argument("--kills", type=int, default=10, metavar="K", help="per instance, at most (default 10)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="of every run (default 60)")
    parser.add_argument("--workers", type=int, default=default_workers(), metavar="N", help="as for tightcert verify")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--only", default="", metavar="TEXT", help="instances whose 'benchmark network, property' contains the text")
    # What the processes to be killed are started with: where to count, network, specification, and the arguments of `verify` as JSON.
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return run_here(*options.child)
    generator = random.Random(options.seed)
    print(*HEADING, sep="\n")
    kills = differ = 0
    for benchmark, text in INSTANCES:
        if options.only in f"{benchmark} {text}":
            count, same = measure(find(options.folder / benchmark, text), generator, options)
            kills, differ = kills + count, differ + (not same)
    print(f"{kills} kills, {differ} verdicts differ.")
    return 1 if differ else 0


def measure(instance: Instance, generator: random.Random, options: argparse.Namespace) -> tuple[int, bool]:
    """(kills, whether the verdict is the same) of one instance; prints its line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = _run(instance, folder, None, None, options)
        assert alone.answer is not None
        runs: list[Run] = []
        while not runs or runs[-1].answer is None:
            # Early kills hit the start; later ones have longer, so that the search gets on.
            limit = generator.uniform(0.5, 1.0 + 0.5 * alone.seconds) if len(runs) < options.kills else None
            runs.append(_run(instance, folder, folder / "run.sqlite", limit, options))
        again = _run(instance, folder, folder / "run.sqlite", None, options)  # finished: answered from the file
        size = sum(part.stat().st_size for part in folder.glob("run.sqlite*"))
    answers = [alone.answer, runs[-1].answer, again.answer]
    verdicts = [answer["verdict"] for answer in answers if answer is not None]
    counted = [run for run in runs if run.ended]  # the others were killed before there was anything to count
    lost = [max(before.ended - after.began, 0) for before, after in pairwise(counted)]
    same = len(set(verdicts)) == 1 and len(verdicts) == 3
    numbers = (alone.ended, runs[-1].ended, sum(lost), max(lost, default=0), f"{size / 1e6:.1f}")
    print(COLUMNS.format(instance.name[:46], len(runs) - 1, *verdicts[:2], *numbers), "" if same else "DIFFERS", flush=True)
    return len(runs) - 1, same


def _run(instance: Instance, folder: Path, store: Path | None, limit: float | None, options: argparse.Namespace) -> Run:
    """A process that answers, killed after `limit` seconds if it has not ended."""
    counted = folder / "counted"
    counted.write_text("0 0")
    question = {"timeout": options.timeout, "workers": options.workers, "resume": None if store is None else str(store)}
    command = [
        sys.executable, "-m", "benchmarks.kills", str(folder), "--child", str(counted), str(instance.network), str(instance.specification),
        json.dumps(question),
    ]  # fmt: skip
    start = time.monotonic()
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            output, messages = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            output, messages = process.communicate()
    seconds = time.monotonic() - start
    began, ended = (int(number) for number in counted.read_text().split())
    if process.returncode < 0:
        return Run(None, seconds, began, ended)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{messages}")
    answer = json.loads(output)
    return Run(answer, seconds, began, answer["pieces"])


def run_here(counted: str, network: str, specification: str, question: str) -> int:
    """The body of such a process. It keeps in the file how many pieces were bounded when it began, and how many are now."""
    from verifier import verify

    file, began = os.open(counted, os.O_WRONLY), None

    def count(search: Any) -> None:
        nonlocal began
        began = search.bounded if began is None else began
        os.pwrite(file, f"{began:>12} {search.bounded:>12}".encode(), 0)

    verdict = verify(network, specification, progress=count, **json.loads(question))
    print(json.dumps({"verdict": verdict.verdict, "pieces": verdict.bracket.stats["bounded"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
