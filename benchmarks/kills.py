"""Kill a search at random moments, again and again, and see that it ends with the same verdict: `python -m benchmarks.kills --help`.

Every instance is run once undisturbed. Then the same command with --resume is killed with SIGKILL after a random time, given again, and so
on until it ends by itself; every run has a little longer than the one before, so that it ends at last. The table compares verdicts, and
says how many pieces were bounded in all, those of lost work included.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from problems.errors import InputError
from problems.vnncomp import Instance, read_instances
from verifier.search.executors import default_workers

# Of the verification competition: searches of a few seconds, proofs and counter-examples, by both ways of splitting.
INSTANCES = (
    ("acasxu", "3_3_batch_2000, prop_2"),
    ("acasxu", "4_2_batch_2000, prop_2"),
    ("acasxu", "1_1_batch_2000, prop_6"),
    ("acasxu", "1_9_batch_2000, prop_7"),
    ("mnist_fc", "256x2, prop_6_0.05"),
    ("mnist_fc", "256x4, prop_5_0.03"),
)
HEADING = f"{'instance':<46} {'verdict':<9} {'kills':>5} {'verdict':<9} {'pieces':>8} {'pieces':>8} {'more':>6}   {'file MB':>7}"
UNDER = f"{'':<46} {'alone':<9} {'':>5} {'resumed':<9} {'alone':>8} {'resumed':>8}"


@dataclass(frozen=True)
class Run:
    """How a process ended: its answer, or None if it was killed; the pieces that it bounded itself."""

    answer: dict[str, Any] | None
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of folders in the form of the competition, each with instances.csv")
    parser.add_argument("--kills", type=int, default=10, metavar="K", help="per instance, at most (default 10)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="of every run (default 60)")
    parser.add_argument("--workers", type=int, default=default_workers(), metavar="N", help="as for tightcert verify")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--only", default="", metavar="TEXT", help="instances whose name contains the text")
    options = parser.parse_args(arguments)
    generator = random.Random(options.seed)
    print(HEADING, UNDER, sep="\n")
    kills = differ = 0
    for benchmark, text in INSTANCES:
        if options.only not in f"{benchmark} {text}":
            continue
        instance = _instance(options.folder / benchmark, text)
        count, same = measure(instance, generator, options)
        kills, differ = kills + count, differ + (not same)
    print(f"{kills} kills, {differ} verdicts differ.")
    return 1 if differ else 0


def _instance(folder: Path, text: str) -> Instance:
    for instance in read_instances(folder):
        if all(part in instance.name for part in text.split(", ")):
            return instance
    raise InputError(str(folder), f"has no instance {text!r}.", "Give the folder of the competition's benchmarks.")


def measure(instance: Instance, generator: random.Random, options: argparse.Namespace) -> tuple[int, bool]:
    """(kills, whether the verdict is the same) of one instance; prints its line."""
    with tempfile.TemporaryDirectory() as folder:
        alone = _run(instance, Path(folder) / "alone.sqlite", None, options)
        assert alone.answer is not None
        file, kills = Path(folder) / "resumed.sqlite", 0
        while True:
            limit = None if kills >= options.kills else generator.uniform(0.0, 1.0) * max(alone.seconds, 3.0)
            run = _run(instance, file, limit, options)
            if run.answer is not None:
                break
            kills += 1
        again = _run(instance, file, None, options)  # finished: answered from the file
        size = sum(part.stat().st_size for part in Path(folder).glob("resumed.sqlite*"))
    assert again.answer is not None
    pieces, whole = (int(answer["pieces"]) for answer in (alone.answer, run.answer))
    same = alone.answer["verdict"] == run.answer["verdict"] == again.answer["verdict"]
    print(
        f"{instance.name[:46]:<46} {alone.answer['verdict']:<9} {kills:>5} {run.answer['verdict']:<9} {pieces:>8} {whole:>8} "
        f"{whole / max(pieces, 1) - 1:>6.0%}   {size / 1e6:>7.1f}{'' if same else '  DIFFERS'}",
        flush=True,
    )
    return kills, same


def _run(instance: Instance, file: Path, limit: float | None, options: argparse.Namespace) -> Run:
    """The command, killed after `limit` seconds if it has not ended."""
    command = [
        sys.executable, "-m", "verifier", "verify", str(instance.specification), "--network", str(instance.network), "--json",
        "--timeout", str(options.timeout), "--workers", str(options.workers), "--resume", str(file),
    ]  # fmt: skip
    began = time.monotonic()
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            output, messages = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            return Run(None, time.monotonic() - began)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{messages}")
    return Run(json.loads(output), time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
