"""Tables and a plot of what `benchmarks.attacks` measured."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.attacks import Row

MARKS = {"pgd": "x", "apgd": "+", "wda": "s", "wda++": "o", "w-pgd": "^"}


def report(rows: "Sequence[Row]", output: Path) -> None:
    """Writes tables (.md) and, if there are exact values, a plot (.png) beside the CSV file `output`."""
    known = [row for row in rows if not isnan(row.exact_lower)]
    if known:
        draw(known, output.with_suffix(".png"))
    stamps = sorted({line[2:12] for line in output.read_text(encoding="utf-8").splitlines() if line.startswith("# 20")})
    machine = next((line[2:] for line in output.read_text(encoding="utf-8").splitlines() if "cores" in line and line.startswith("#")), "")
    text = [
        "# Attacks, each in its own threat model",
        f"Made by `python -m benchmarks.attacks` on {', '.join(stamps)}; {machine}; shared with other work: CPU seconds count.",
        "Point-wise means that every sample moves by at most epsilon, Omega_p that the data move by at most epsilon in p-Wasserstein",
        "distance: figures of different models cannot be compared. Accuracies are upper bounds of the worst case, those of mixtures the",
        "share of mass classified rightly; every success, cost and distance is proved.\n",
        *section(copies(rows)),
        *section(allocation(rows)),
        *section(exact(known)),
        *section(mnist(rows)),
    ]
    output.with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")


def section(lines: Iterable[str]) -> list[str]:
    """The lines, or nothing at all where only the heading is there."""
    found = list(lines)
    return [*found, ""] if len(found) > 3 else []


def copies(rows: "Sequence[Row]") -> Iterator[str]:
    """k copies against the point-wise attack."""
    yield "## WDA(k): 1/k of every sample's mass moves by k epsilon at most (order 1)\n"
    yield "| network | samples | norm | epsilon | loss | clean | point-wise apgd | k = 1 | k = 2 | k = 4 |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    chosen = sorted((row for row in rows if row.experiment == "copies"), key=_place)
    for (name, norm, epsilon, loss), group in groupby(chosen, key=_place):
        found = {"1" if row.method == "apgd" else row.setting.split()[0]: row for row in group}
        point_wise = found["1"]
        cells = [percent(found[key].accuracy) if (key := f"copies={k}") in found else "-" for k in (1, 2, 4)]
        place = f"{name} | {point_wise.samples} | {norm:g} | {epsilon:g} | {loss}"
        yield f"| {place} | {percent(point_wise.clean)} | {percent(point_wise.accuracy)} | {' | '.join(cells)} |"


def allocation(rows: "Sequence[Row]") -> Iterator[str]:
    """Greedy against random."""
    yield "## WDA++: the budget goes to the cheapest flips, or to any (order 1; random: mean of the seeds, smallest to largest)\n"
    yield "| network | samples | norm | epsilon | clean | greedy | random | budget used by random |"
    yield "|---|---|---|---|---|---|---|---|"
    chosen = sorted((row for row in rows if row.experiment == "allocation"), key=_place)
    for (name, norm, epsilon, _), members in groupby(chosen, key=_place):
        group = list(members)
        greedy = next(row for row in group if "random" not in row.setting)
        random = [row.accuracy for row in group if "random" in row.setting]
        if random:
            used = np.mean([row.budget_used for row in group if "random" in row.setting])
            spread = f"{percent(np.mean(random))} ({percent(min(random))} to {percent(max(random))})"
            place = f"{name} | {greedy.samples} | {norm:g} | {epsilon:g}"
            yield f"| {place} | {percent(greedy.clean)} | {percent(greedy.accuracy)} | {spread} | {used:.4g} |"


def exact(rows: "Sequence[Row]") -> Iterator[str]:
    """Attack against exact value; the last column is what nobody could measure."""
    yield "## Against the exact worst case: errors in per cent, and (exact - E) / (attack - E), E the error without attack\n"
    yield "| network | samples | norm | model | epsilon | attack | E | error found | worst error, exact | exact over attack |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        low, high, found, clean = 1 - row.exact_upper, 1 - row.exact_lower, 1 - row.accuracy, 1 - row.clean
        bracket = percent(low) if high - low < 5e-5 else f"{percent(low)} to {percent(high)}"
        ratio = "-" if found <= clean else f"{(low - clean) / (found - clean):.3f}"
        if found > clean and high - low >= 5e-5:
            ratio += f" to {(high - clean) / (found - clean):.3f}"
        name = " ".join([row.method, *(part for part in row.setting.split() if not part.startswith("order"))])
        place = f"{row.network} | {row.samples} | {row.norm:g} | {row.threat if 'Omega' in row.threat else 'Omega_inf, point-wise'}"
        yield f"| {place} | {row.epsilon:g} | {name} | {percent(clean)} | {percent(found)} | {bracket} | {ratio} |"


def mnist(rows: "Sequence[Row]") -> Iterator[str]:
    """Speed at scale."""
    yield "## 1,000 MNIST images\n"
    yield "| network | norm | model | epsilon | attack | clean | accuracy | budget used | CPU s | wall s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        if row.experiment == "mnist":
            place = f"{row.network} | {row.norm:g} | {row.threat} | {row.epsilon:g} | {row.method} {row.setting}"
            yield f"| {place} | {percent(row.clean)} | {percent(row.accuracy)} | {row.budget_used:.4g} | {row.cpu:.1f} | {row.wall:.1f} |"


def _place(row: "Row") -> tuple[str, float, float, str]:
    """Network, norm, epsilon and loss: what the attacks of one line have in common."""
    return row.network, row.norm, row.epsilon, row.setting.partition("loss=")[2].split(" ")[0]


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def draw(rows: "Sequence[Row]", path: Path) -> None:
    """Worst-case accuracy found by each attack against the exact one: a row per network and norm, a column per order."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from verifier.report import style

    lines = sorted({(row.network, row.norm) for row in rows})
    orders = ("Omega_1", "Omega_2", "Omega_inf")
    with rc_context(style.settings()):
        figure = Figure(figsize=(11, 2.7 * len(lines)))
        axes = figure.subplots(len(lines), len(orders), squeeze=False)
        for panels, (network, norm) in zip(axes, lines, strict=True):
            for panel, order in zip(panels, orders, strict=True):
                panel.set_title(f"{network}, ℓ{'∞' if norm == inf else int(norm)}, W{'∞' if order.endswith('inf') else order[-1]}")
                chosen = [row for row in rows if (row.network, row.norm) == (network, norm) and _model(row) == order]
                _panel(panel, chosen, style.PROVED)
        for panel in axes[0]:
            if panel.get_legend_handles_labels()[0]:
                panel.legend()
        for panel in axes[-1]:
            panel.set_xlabel("ε")
        for panels in axes:
            panels[0].set_ylabel("accuracy")
        figure.savefig(path, dpi=130)


def _model(row: "Row") -> str:
    """The point-wise model is that of order infinity."""
    return row.threat if "Omega" in row.threat else "Omega_inf"


def _panel(panel, rows: "Sequence[Row]", proved: str) -> None:  # type: ignore[no-untyped-def]
    exact_ends = sorted({(row.epsilon, row.exact_lower, row.exact_upper) for row in rows})
    if not exact_ends:
        return
    sizes, low, high = zip(*exact_ends, strict=True)
    panel.fill_between(sizes, low, high, color=proved, alpha=0.2, linewidth=0)
    panel.plot(sizes, high, color=proved, label="exact")
    names = dict.fromkeys((row.method, " ".join(p for p in row.setting.split() if not p.startswith("order"))) for row in rows)
    for method, setting in names:
        mine = sorted(
            (r.epsilon, r.accuracy)
            for r in rows
            if r.method == method and setting in r.setting and ("random" in r.setting) == ("random" in setting)
        )
        panel.plot(
            *zip(*mine, strict=True), MARKS[method], markersize=5, linestyle="none", fillstyle="none", label=f"{method} {setting}".strip()
        )
    panel.set_xscale("log")
    panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
    panel.set_xticks([], minor=True)
