"""What the page says of radii: worst-case error curves, the radii themselves, the closest misclassified images, cells, every sample."""

from collections.abc import Iterable
from html import escape

from verifier.report import plots, tables
from verifier.report.record import NORM_SIGNS, Audit, NormAudit
from verifier.report.sections.images import card
from verifier.report.tables import bracket

_GALLERY = 8


def curves(audit: Audit) -> str:
    numbers = "".join(
        f"<details><summary>{norm.sign} in numbers</summary>{tables.curve_numbers(norm)}</details>" for norm in audit.norms if norm.curves
    )
    errors = (
        f"{tables.certified_errors(audit)}"
        '<p class="note"><span class="proved">≤ proved</span>: no distribution in the Wasserstein ball does worse. '
        '<span class="attacked">≥ attacked</span>: a distribution in the ball, found by the attack alone, does at least this.</p>'
    )
    return f"""<p>The error of the worst distribution within Wasserstein distance ε of the {len(audit.samples)} samples.
The order of the distance says how the budget may be spent: W₁ bounds the mean distance moved, so that it pays to leave most inputs
alone and to move the cheapest past the boundary; W∞ bounds every single move, which is the usual robust error. Labels stay as they are.</p>
<figure><img alt="Worst-case error against epsilon, per norm and order" src="{plots.data_address(plots.curves, audit)}">
<figcaption>Blue: proved, nothing in the ball does worse. Orange: reached by the attack alone. The gap between them, shaded and drawn
again below in percentage points, is what the attack alone leaves unknown; a pale blue part, where there is one, is what the search
itself has left open.</figcaption></figure>
{errors}
{numbers}"""


def radii(audit: Audit) -> str:
    picture = plots.data_address(plots.radii, audit)
    return f"""<p>The radius of an input is the distance to the nearest misclassified input in {escape(audit.data["domain"])}. A tie
of two classes counts as misclassified; an input that is wrong already has radius 0. On the right: how much farther than the truth
the attack ended.</p>
<figure><img alt="Histogram of radii and the attack's distance over the exact radius" src="{picture}"></figure>"""


def images(audit: Audit) -> str:
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
        turned = f'Sample {radius.sample}: {sample.label} → <b class="wrong">{radius.witness_label}</b>'
        text = f"{turned}<br>radius {bracket(radius.lower, radius.upper, 5)}"
        yield card(sample.image, radius.witness or (), shape, f"seen as {sample.predicted}", f"seen as {radius.witness_label}", text)


def cells(audit: Audit) -> str:
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


def samples(audit: Audit) -> str:
    return f"""<p>Click a heading to sort. Proved ends are rounded down and found ones up; results.json has them in full with the
witnesses.</p>
{tables.samples(audit)}"""
