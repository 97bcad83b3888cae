"""How long every part took, what the claims mean, what is trusted, and how to run it again."""

import math
from collections.abc import Iterable
from html import escape

from verifier.report import tables
from verifier.report.record import Audit
from verifier.report.tables import duration


def times(audit: Audit) -> str:
    runs = len(audit.sessions)
    resumed = (
        f" in {runs} runs, the last of which computed {audit.sessions[-1][1]} answers in {duration(audit.sessions[-1][0])}"
        if runs > 1
        else ""
    )
    return f"""<p>{duration(audit.seconds)}{resumed}, {_workers(audit)}.</p>
<div class="columns"><div><h3>By question</h3>{tables.times(audit)}</div>
<div><h3>Slowest samples</h3>{tables.slowest(audit)}</div></div>"""


def _workers(audit: Audit) -> str:
    workers = audit.options["workers"]
    return f"with {workers} workers" if workers != 1 else "with one worker"


def trust(audit: Audit) -> str:
    checks = [radius.checked for norm in audit.norms for radius in norm.radii if radius.checked is not None]
    roundings = audit.network["roundings"]
    listed = "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in roundings) + "</ul>" if roundings else ""
    rounded = (
        "Reading the network had to round once, here:"
        if roundings
        else "Reading the network rounded nothing: every stored weight is taken as it is."
    )
    return f"""<div class="columns"><div>
<h3>What the claims mean</h3>
<ul>
<li>Semantics <b>{escape(audit.options["semantics"])}</b>: the network is the function given by its stored weights as exact numbers,
evaluated without rounding. {rounded}{listed}</li>
<li><b>Proved end of a radius</b>: no misclassified input in {escape(audit.data["domain"])} is nearer. The proof covers the whole
ball: bound propagation whose rounding errors are added outward, and programs over pieces of the ball whose dual solutions are turned
into safe bounds.</li>
<li><b>Found end of a radius</b>: a point of the region whose margin is ≥ 0 in exact rational arithmetic, and whose distance,
rounded up, is the number given. This audit has checked every witness once more:
{sum(checks)} of {len(checks)} passed.</li>
<li><b>Worst-case error</b>: by duality a fractional knapsack over the radii (cheapest inputs first; the last in part). Proved
radii give the proved end, witnesses the other. It is about the {len(audit.samples)} samples here, not about the population that
they come from.</li>
<li><b>Worst expected loss</b>: by duality, one price λ per unit of distance and a proved upper bound, for each sample, of its loss minus
that price. The example is a distribution whose cost and loss were added up in exact arithmetic. It is about the network as exact numbers
(“real”), whatever the semantics above; cross-entropy by bounds of exp and log that trust no library.</li>
<li><b>Other certificates</b>: the same network, region and outward rounding; programs count through safe dual bounds only, local Lipschitz
constants by their proved ends.</li>
</ul></div><div>
<h3>Trusted</h3>
<ul>
<li>the Python code of this program and the mathematics behind it</li>
<li>IEEE 754 double arithmetic of the processor, and the error model of matrix products: any order of summation, nothing
less accurate than that</li>
<li>the integers of Python, for everything called exact</li>
<li>the store of earlier results next to this report, where a run was resumed (entries carry checksums)</li>
</ul>
<h3>Not trusted</h3>
<ul>
<li>the solver of linear and quadratic programs ({escape(str(audit.options["solver"]))}): its word is never passed on, only bounds
recomputed from its dual solution</li>
<li>attacks and their device ({escape(str(audit.options["device"]))}): what they find counts after the exact check only</li>
</ul></div></div>"""


def again(audit: Audit) -> str:
    options = {key: value for key, value in audit.options.items() if value is not None}
    shape = " × ".join(str(size) for size in audit.network["input_shape"])
    facts = [
        ("Network", f"{audit.network['name']} ({audit.network['source'] or 'given in memory'}), {audit.network['architecture']}"),
        ("Input, output", f"{shape} → {audit.network['output_size']} classes; weights stored as {audit.network['precision']}"),
        ("Network fingerprint", audit.network["fingerprint"]),
        (
            "Data",
            f"{audit.data['name']}, first {len(audit.samples)} of {audit.data['available']} samples, inputs in {audit.data['domain']}",
        ),
        ("Data fingerprint", audit.data["fingerprint"]),
        ("Options", ", ".join(f"{key} {_option(value)}" for key, value in options.items())),
        ("Machine", ", ".join(_option(value) for value in _machine(audit))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in audit.versions.items())),
        ("Date", audit.date),
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f"<dl>{rows}</dl>"


def _machine(audit: Audit) -> Iterable[str]:
    machine = audit.machine
    yield str(machine.get("processor", "unknown processor"))
    yield f"{machine.get('cores', '?')} cores"
    if machine.get("memory_gib"):
        yield f"{machine['memory_gib']:.0f} GiB of memory"
    yield str(machine.get("system", ""))


def _option(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_option(item) for item in value)
    if isinstance(value, float):
        return "inf" if math.isinf(value) else f"{value:g}"
    return str(value)
