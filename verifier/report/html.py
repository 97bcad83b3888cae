"""The report as one HTML file that opens offline: pictures and script are inside, nothing is fetched."""

import math
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np

from problems.errors import InputError
from verifier.report import plots, style, tables
from verifier.report.record import NORM_SIGNS, Audit, NormAudit
from verifier.report.tables import bracket, duration, number, percent

_GALLERY = 8


def write(audit: Audit, folder: str | Path) -> Path:
    """Write index.html and results.json into `folder`, each replaced at once, and return the path of the page.

    Errors: InputError where the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "results.json", audit.to_json())
        _replace(folder / "index.html", page(audit))
    except OSError as error:
        raise InputError(str(folder), f"cannot be written ({error.strerror}).", "Name another folder with --output.") from None
    return folder / "index.html"


def page(audit: Audit) -> str:
    """The whole page."""
    done = any(norm.radii for norm in audit.norms)
    sections = [("summary", "Summary", _summary(audit))]
    if done:
        if any(norm.curves for norm in audit.norms):
            sections.append(("curves", "Worst-case error", _curves(audit)))
        sections.append(("radii", "Radii", _radii(audit)))
        sections.append(("images", "Closest images", _images(audit)))
        if audit.cells is not None:
            sections.append(("cells", "Cells", _cells(audit)))
        sections.append(("samples", "Every sample", _samples(audit)))
        sections.append(("time", "Time", _time(audit)))
    sections.append(("trust", "Proved and trusted", _trust(audit)))
    sections.append(("again", "Run it again", _again(audit)))
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "\n".join(f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{text}\n</section>' for name, title, text in sections)
    title = f"Audit of {escape(audit.network['name'])}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style.CSS}</style>
</head>
<body>
{_header(audit, title)}
<nav><div>{links}</div></nav>
<main>
{_banners(audit)}
{body}
<footer>tightcert {escape(audit.versions.get("tightcert", ""))} · {escape(audit.date)} · in full precision: results.json</footer>
</main>
<script>{style.SCRIPT}</script>
</body>
</html>
"""


def _header(audit: Audit, title: str) -> str:
    network = audit.network
    right = percent(1 - audit.clean_error)
    return f"""<header><div>
<h1>{title}</h1>
<p>{escape(network["architecture"])} · {network["neurons"]} ReLU neurons · accuracy {right} on {len(audit.samples)} samples of
{escape(audit.data["name"])} · fingerprint <code title="{escape(network["fingerprint"])}">{escape(network["fingerprint"][:12])}</code></p>
</div></header>"""


def _banners(audit: Audit) -> str:
    parts = []
    if not audit.complete:
        parts.append(
            f'<div class="banner"><b>Incomplete.</b> {audit.radii_done} of {audit.radii_wanted} radii were computed before the audit was '
            "stopped. All that is shown holds: a sample not yet computed counts as “radius anywhere from 0 to ∞”, which widens "
            "the curves' gap. Run the same command again to resume.</div>"
        )
    parts += [f'<div class="banner bad">{escape(note)}</div>' for note in audit.notes]
    return "\n".join(parts)


def _summary(audit: Audit) -> str:
    norms = " and ".join(NORM_SIGNS[name] for name in audit.options["norms"])
    asked = (
        f'<p class="lead">How far is each of {len(audit.samples)} inputs from the nearest input that {escape(audit.network["name"])} '
        f"misclassifies, in {norms}, inside {escape(audit.data['domain'])}? And how wrong can the network get when the data move by ε in "
        "Wasserstein distance? Every answer is a bracket: one end is proved, the other is an input that shows it.</p>"
    )
    tiles = [(percent(audit.clean_error), "clean error: wrong without any shift")]
    for norm in audit.norms:
        if norm.radii:
            part = "" if len(norm.radii) == len(audit.samples) else f" of the {len(norm.radii)} done"
            tiles.append((bracket(*norm.median), f"median {norm.sign} radius{part}"))
    tiles.append(
        (f"{audit.radii_closed} of {audit.radii_wanted}", f"radii closed to {audit.options['tolerance']:.0e} relative".replace("e-0", "e−"))
    )
    tiles.append((duration(audit.seconds), f"on {audit.machine.get('cores', '?')} cores"))
    boxes = "".join(f'<div class="tile"><b{_long(value)}>{value}</b><span>{escape(text)}</span></div>' for value, text in tiles)
    errors = tables.certified_errors(audit)
    if errors:
        errors = (
            "<h3>Worst-case error over all distributions within ε of the data</h3>"
            f"{errors}"
            '<p class="note"><span class="proved">≤ proved</span>: no distribution in the Wasserstein ball does worse. '
            '<span class="attacked">≥ attacked</span>: a distribution in the ball, found by the attack alone, does at least this. '
            "Percentages are rounded outward, but for differences below 1e−9.</p>"
        )
    return f'{asked}\n<div class="tiles">{boxes}</div>\n{errors}'


def _long(value: str) -> str:
    return ' class="long"' if len(value) > 11 else ""


def _curves(audit: Audit) -> str:
    numbers = "".join(
        f"<details><summary>{norm.sign} in numbers</summary>{tables.curve_numbers(norm)}</details>" for norm in audit.norms if norm.curves
    )
    return f"""<p>The error of the worst distribution within Wasserstein distance ε of the {len(audit.samples)} samples.
The order of the distance says how the budget may be spent: W₁ bounds the mean distance moved, so that it pays to leave most inputs
alone and to move the cheapest past the boundary; W∞ bounds every single move, which is the usual robust error. Labels stay as they are.</p>
<figure><img alt="Worst-case error against epsilon, per norm and order" src="{plots.data_address(plots.curves, audit)}">
<figcaption>Blue: proved, nothing in the ball does worse. Orange: reached by the attack alone. The gap between them, shaded and drawn
again below in percentage points, is what the attack alone leaves unknown; a pale blue part, where there is one, is what the search
itself has left open.</figcaption></figure>
{numbers}"""


def _radii(audit: Audit) -> str:
    picture = plots.data_address(plots.radii, audit)
    return f"""<p>The radius of an input is the distance to the nearest misclassified input in {escape(audit.data["domain"])}. A tie
of two classes counts as misclassified; an input that is wrong already has radius 0. On the right: how much farther than the truth
the attack ended.</p>
<figure><img alt="Histogram of radii and the attack's distance over the exact radius" src="{picture}"></figure>"""


def _images(audit: Audit) -> str:
    shape = plots.image_shape(audit)
    if shape is None:
        return '<p class="muted">The inputs are not images in [0, 1], so none are drawn. The witnesses are in results.json.</p>'
    parts = [
        "<p>The inputs that are nearest to being misclassified, each beside the nearest misclassified input found. The difference is "
        "orange where a pixel grew, blue where it fell, full colour at the largest change.</p>"
    ]
    for norm in audit.norms:
        cards = list(_cards(audit, norm, shape))
        if cards:
            parts.append(f'<h3>{norm.sign}</h3><div class="gallery">{"".join(cards)}</div>')
    return "\n".join(parts)


def _cards(audit: Audit, norm: NormAudit, shape: tuple[int, ...]) -> Iterable[str]:
    by_sample = {sample.sample: sample for sample in audit.samples}
    for radius in plots.closest(norm, _GALLERY):
        sample = by_sample[radius.sample]
        before, after = plots.as_image(sample.image, shape), plots.as_image(radius.witness or (), shape)
        difference = after - before
        largest = float(np.abs(difference).max())
        pictures = [
            (plots.pixels_address(before), f"seen as {sample.predicted}"),
            (plots.pixels_address(after), f"seen as {radius.witness_label}"),
            (plots.pixels_address(difference, limit=largest), f"± {number(largest, 3)}"),
        ]
        row = "".join(f'<div><img alt="{escape(text)}" src="{address}"><small>{escape(text)}</small></div>' for address, text in pictures)
        yield (
            f'<div class="card"><div class="row">{row}</div><p>Sample {radius.sample}: {sample.label} → '
            f'<b class="wrong">{radius.witness_label}</b><br>radius {bracket(radius.lower, radius.upper, 5)}</p></div>'
        )


def _cells(audit: Audit) -> str:
    from verifier.report import cells

    assert audit.cells is not None
    where = "the plane through the first samples of three classes" if audit.cells.slice else "its input space"
    tight = sum(audit.cells.tight)
    seen = f"{len(audit.cells.slopes)} cells meet this window" + (f", {tight} of them tight" if tight else "")
    return f"""<p>The network is affine on each of its activation cells. This is {where}; the colour of a cell is the steepest slope of
any margin there, in {NORM_SIGNS[audit.cells.norm]}.</p>
<figure><img alt="Activation cells, coloured by slope" style="max-width: 720px"
src="{plots.data_address(cells.picture, audit)}">
<figcaption>{seen}. Framed: the steepest of them, and its direction. Where a cell is tight, the loss can grow at that slope for ever;
in a bounded region no cell is.</figcaption></figure>"""


def _samples(audit: Audit) -> str:
    return f"""<p>Click a heading to sort. Proved ends are rounded down and found ones up; results.json has them in full with the
witnesses.</p>
{tables.samples(audit)}"""


def _time(audit: Audit) -> str:
    runs = len(audit.sessions)
    resumed = (
        f" in {runs} runs, the last of which computed {audit.sessions[-1][1]} radii in {duration(audit.sessions[-1][0])}"
        if runs > 1
        else ""
    )
    return f"""<p>{duration(audit.seconds)}{resumed}, {_workers(audit)}.</p>
<div class="columns"><div><h3>By question</h3>{tables.times(audit)}</div>
<div><h3>Slowest samples</h3>{tables.slowest(audit)}</div></div>"""


def _workers(audit: Audit) -> str:
    workers = audit.options["workers"]
    return f"with {workers} workers" if workers != 1 else "with one worker"


def _trust(audit: Audit) -> str:
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


def _again(audit: Audit) -> str:
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


def _replace(path: Path, text: str) -> None:
    # A reader never sees half a file, and an interrupted write leaves the last report.
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
