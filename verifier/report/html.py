"""The report as one HTML file that opens offline: pictures and script are inside, nothing is fetched."""

import os
from collections.abc import Callable
from html import escape
from pathlib import Path

from problems.errors import InputError
from verifier.report import plots_losses, style
from verifier.report.record import Audit
from verifier.report.sections import certified, losses, moved, radii, tightness, trust
from verifier.report.sections.summary import summary
from verifier.report.tables import percent

Wanted = Callable[[Audit], bool]


def _done(audit: Audit) -> bool:
    return any(norm.radii for norm in audit.norms)


# (name, title, whether there is anything to say, what is said), in the order of the page.
_SECTIONS: tuple[tuple[str, str, Wanted, Callable[[Audit], str]], ...] = (
    ("summary", "Summary", lambda audit: True, summary),
    ("curves", "Worst-case error", lambda audit: any(norm.curves for norm in audit.norms), radii.curves),
    ("losses", "Worst expected loss", lambda audit: bool(audit.losses), losses.curves),
    ("certified", "Other certificates", lambda audit: bool(audit.certified), certified.accuracy),
    ("moved", "Who is moved", lambda audit: any(plots_losses.drawn_of(curve) for curve in audit.losses), losses.moved),
    ("mass", "Moved mass", lambda audit: bool(audit.moved and audit.moved[0].images), lambda audit: moved.mass(audit.moved[0])),
    ("tightness", "Tightness", lambda audit: bool(audit.tightness), tightness.share),
    ("radii", "Radii", _done, radii.radii),
    ("images", "Closest images", _done, radii.images),
    ("cells", "Cells", lambda audit: audit.cells is not None, radii.cells),
    ("samples", "Every sample", _done, radii.samples),
    ("time", "Time", _done, trust.times),
    ("trust", "Proved and trusted", lambda audit: True, trust.trust),
    ("again", "Run it again", lambda audit: True, trust.again),
)


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
    sections = [(name, title, draw(audit)) for name, title, wanted, draw in _SECTIONS if wanted(audit)]
    links = "".join(f'<a href="#{name}">{escape(name.capitalize())}</a>' for name, _, _ in sections)
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
    if not audit.complete and audit.radii_done == audit.radii_wanted:
        parts.append(
            '<div class="banner"><b>Incomplete.</b> The audit was stopped before all its parts were done. All that is shown holds. '
            "Run the same command again to resume.</div>"
        )
    elif not audit.complete:
        parts.append(
            f'<div class="banner"><b>Incomplete.</b> {audit.radii_done} of {audit.radii_wanted} radii were computed before the audit was '
            "stopped. All that is shown holds: a sample not yet computed counts as “radius anywhere from 0 to ∞”, which widens "
            "the curves' gap. Run the same command again to resume.</div>"
        )
    parts += [f'<div class="banner bad">{escape(note)}</div>' for note in audit.notes]
    return "\n".join(parts)


def _replace(path: Path, text: str) -> None:
    # A reader never sees half a file, and an interrupted write leaves the last report.
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
