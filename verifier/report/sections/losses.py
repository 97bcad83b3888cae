"""What the page says of worst expected losses: the curves, how far bound and attack are off, and whom the worst distribution moves."""

import math
from html import escape

from verifier.report import plots, plots_losses, tables
from verifier.report.plots_losses import LOSS_NAMES, drawn_of, material
from verifier.report.record import Audit, LossCurve, WorstDistribution
from verifier.report.sections.images import card
from verifier.report.tables import bracket, number, percent

_CARDS = 6


def curves(audit: Audit) -> str:
    """The curves V(epsilon), and the table of where certificate and attack disagree."""
    tables_of = "".join(
        f"<details{' open' if place == 0 else ''}><summary>{LOSS_NAMES[curve.loss]}, {curve.sign}: where the bounds disagree</summary>"
        f"{_numbers(curve)}{_notes(curve)}</details>"
        for place, curve in enumerate(audit.losses)
    )
    ratios = plots.data_address(plots_losses.ratios, audit)
    return f"""<p>How large can the <b>expected loss</b> get when the {len(audit.samples)} inputs move by ε <b>on average</b> (W₁), labels
staying as they are? Blue is proved: no way of moving them does worse. Pale blue below it, where there is any, is what the search left
open in its time; pale orange is what the attack alone did not see. The dotted line is the bound that is published for such networks:
the expected loss of the inputs as they are, plus ε times the steepest slope L of the loss. It holds, and may be far too high.</p>
<figure><img alt="Worst expected loss against epsilon, per loss and norm" src="{plots.data_address(plots_losses.curves, audit)}">
<figcaption>Below each curve: the gap between proof and attack (orange), of which the pale blue part is open even to the search, in percent
of the rise of the loss above E. λ₀ is the steepest line from any sample to any point of the region: the curve starts along it, and stays
below it. In a bounded region the loss saturates: its slope at infinity κ* is 0.</figcaption></figure>
<figure><img alt="Rise of the published bound and of the attack, in multiples of the exact rise" src="{ratios}">
<figcaption>How far off the usual answers are: 1 is the rise of the loss that the search found. The published bound (violet) says it is so
many times larger; the attack (orange) reaches only so much of it.</figcaption></figure>
{tables_of}"""


def _numbers(curve: LossCurve) -> str:
    heads = ["ε", "attack ≥", "witnessed ≥", "proved ≤", "open", "E + L ε", "bound ÷ exact rise", "exact ÷ attack rise", "result"]
    rows = []
    for i, epsilon in enumerate(curve.epsilon):
        published, attacked = _ratios(curve, i)
        rows.append(
            [
                number(epsilon),
                f'<span class="attacked">{number(curve.attack[i], 5, "down")}</span>',
                number(curve.lower[i], 5, "down"),
                f'<span class="proved">{number(curve.upper[i], 5, "up")}</span>',
                percent(curve.gap(i), "up", 2),
                number(curve.published[i], 5, "up"),
                published,
                attacked,
                escape(curve.status[i].lower().replace("_", " ")),
            ]
        )
    return f'<div class="wide">{tables.table(heads, rows, left=(8,))}</div>'


def _ratios(curve: LossCurve, i: int) -> tuple[str, str]:
    """(published bound - E) / (exact - E) and (exact - E) / (attack - E) as text, both as brackets where the exact value is one."""
    clean = curve.clean[1]
    low, high, attack, published = (ends[i] - clean for ends in (curve.lower, curve.upper, curve.attack, curve.published))
    if not low > 0:
        return "–", "–"
    first = f"{bracket(published / high, published / low, 3)} ×" if math.isfinite(published) else "–"
    return first, f"{bracket(low / attack, high / attack, 3)} ×" if attack > 0 else "–"


def _notes(curve: LossCurve) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in curve.notes)


def moved(audit: Audit) -> str:
    """Whom the worst distribution moves, how far, and what that brings; with pictures where the inputs are images."""
    shown = [(curve, worst) for curve in audit.losses if (worst := drawn_of(curve)) is not None]
    parts = [
        "<p>The witnessed end of a curve is an example that one can look at: a distribution that leaves inputs where they are or moves "
        "them, one of them perhaps only in part. The average distance is within ε, and the loss of every point was evaluated anew.</p>",
        f'<figure><img alt="How far samples move and what each adds" src="{plots.data_address(plots_losses.contributions, audit)}">'
        "<figcaption>Left: every input that moved, by how far it went and by how much its own loss rose; a small dot is one that moved in "
        "part only. Right: the share of the whole rise that the leading inputs make.</figcaption></figure>",
    ]
    shape = plots.image_shape(audit)
    by_sample = {sample.sample: sample for sample in audit.samples}
    for curve, worst in shown:
        if curve.loss != shown[0][0].loss:
            continue
        total = sum(move.gain for move in worst.moves)
        cards = []
        for move in material(worst)[:_CARDS]:
            if move.point is None or shape is None:
                continue
            sample = by_sample[move.sample]
            mass = "" if move.share >= 1.0 - 1e-9 else f", {percent(move.share)} of its mass"
            gain = percent(move.gain / total) if total > 0 else "–"
            text = f"Sample {move.sample}{mass}<br>{gain} of the rise, loss {number(move.before, 3)} → <b>{number(move.after, 3)}</b>"
            cards.append(card(sample.image, move.point, shape, f"label {sample.label}", f"moved {number(move.distance, 3)}", text))
        parts.append(f"<h3>{LOSS_NAMES[curve.loss]}, {curve.sign}, ε = {number(worst.epsilon)}: the inputs that bring most</h3>")
        if cards:
            parts.append(f'<div class="gallery">{"".join(cards)}</div>')
        parts.append(f"<details><summary>Every move</summary>{_moves(worst)}</details>")
    return "\n".join(parts)


def _moves(worst: WorstDistribution) -> str:
    """All moves of a distribution, by falling gain."""
    total = sum(move.gain for move in worst.moves)
    heads = ["sample", "of its mass", "distance", "loss before", "loss after", "share of the rise"]
    rows = [
        [
            str(move.sample),
            f"{move.share!r}|{percent(move.share)}",
            f"{move.distance!r}|{number(move.distance, 4, 'up')}",
            f"{move.before!r}|{number(move.before, 4, 'down')}",
            f"{move.after!r}|{number(move.after, 4, 'down')}",
            f"{move.gain!r}|{percent(move.gain / total, decimals=2) if total > 0 else '–'}",
        ]
        for move in worst.moves
    ]
    return f'<div class="scroll">{tables.table(heads, rows, classes="sortable")}</div>'
