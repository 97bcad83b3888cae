"""What a second worker brings: `python -m benchmarks.workers FOLDER`, FOLDER a folder of folders in the form of the competition.

Every instance is run with one worker and with two, in turns, in fresh processes; the table has the medians over the rounds. Wall seconds
count everything that a user waits for. Pieces per second are those bounded in all, over the seconds of the call: with input or neuron
splits alike they measure the search, where the wall time also depends on what is found when.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from time import monotonic

from problems.errors import InputError
from problems.vnncomp import Instance, read_instances
from verifier.report.machine import machine, versions

# Of the verification competition: those whose search takes seconds, by input splits and by neuron splits.
INSTANCES = (
    ("acasxu", "3_3_batch_2000, prop_2"),
    ("acasxu", "4_2_batch_2000, prop_2"),
    ("acasxu", "1_1_batch_2000, prop_6"),
    ("mnist_fc", "256x2, prop_6_0.05"),
    ("mnist_fc", "256x4, prop_8_0.03"),
    ("mnist_fc", "256x4, prop_1_0.05"),
    ("oval21", "base_kw, cifar_base_kw-img2578"),
)
HEADING = (
    f"{'instance':<44} {'verdict':<10} {'wall 1':>8} {'wall 2':>8} {'ratio':>6}   {'pieces/s 1':>10} {'pieces/s 2':>10} {'ratio':>6}   "
    f"{'cpu 1':>7} {'cpu 2':>7}"
)


@dataclass(frozen=True)
class Run:
    """verdict, wall and cpu (children included) in seconds, pieces bounded per second of the call."""

    verdict: str
    wall: float
    cpu: float
    rate: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of folders in the form of the competition, each with instances.csv")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each (default 3)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="of every run (default 60)")
    parser.add_argument("--only", default="", metavar="TEXT", help="instances whose 'benchmark network, property' contains the text")
    options = parser.parse_args(arguments)
    here, made = machine("cpu"), versions()
    print(f"# {datetime.now().astimezone().isoformat(timespec='seconds')}, {here['processor']}, {here['cores']} cores, {here['system']}")
    print("# " + ", ".join(f"{name} {version}" for name, version in made.items()))
    print(
        f"# load of the machine at the start: {os.getloadavg()[0]:.1f}; median of {options.rounds} rounds, time-out {options.timeout:g} s"
    )
    print(HEADING)
    different = 0
    for benchmark, text in INSTANCES:
        if options.only not in f"{benchmark} {text}":
            continue
        instance = find(options.folder / benchmark, text)
        runs: dict[int, list[Run]] = {1: [], 2: []}
        for _ in range(options.rounds):
            for workers, done in runs.items():
                done.append(measure(instance, workers, options.timeout))
        print(line(instance, runs), flush=True)
        verdicts = {run.verdict for done in runs.values() for run in done} - {"timed-out", "unknown"}
        different += len(verdicts) > 1
    return 1 if different else 0


def find(folder: Path, text: str) -> Instance:
    """The first instance of the folder whose name contains every part of the text, parts being separated by commas."""
    for instance in read_instances(folder):
        if all(part in instance.name for part in text.split(", ")):
            return instance
    raise InputError(str(folder), f"has no instance {text!r}.", "Give the folder of the competition's benchmarks.")


def measure(instance: Instance, workers: int, timeout: float) -> Run:
    """One run of the command in a fresh process."""
    command = [
        sys.executable, "-m", "verifier", "verify", str(instance.specification), "--network", str(instance.network), "--json",
        "--workers", str(workers), "--timeout", str(timeout),
    ]  # fmt: skip
    before, began = os.times(), monotonic()
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent)
    wall, after = monotonic() - began, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    answer = json.loads(done.stdout)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(answer["verdict"], wall, cpu, answer["pieces"] / max(answer["seconds"], 1e-3))


def line(instance: Instance, runs: dict[int, list[Run]]) -> str:
    wall, cpu, rate = ({n: median(getattr(run, name) for run in done) for n, done in runs.items()} for name in ("wall", "cpu", "rate"))
    verdicts = "/".join(sorted({run.verdict for done in runs.values() for run in done}))
    return (
        f"{instance.name[:44]:<44} {verdicts:<10} {wall[1]:>8.2f} {wall[2]:>8.2f} {wall[1] / wall[2]:>6.2f}   "
        f"{rate[1]:>10.0f} {rate[2]:>10.0f} {rate[2] / max(rate[1], 1e-9):>6.2f}   {cpu[1]:>7.1f} {cpu[2]:>7.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
