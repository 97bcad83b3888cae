"""What the page says of other certificates: one plot and one table per norm."""

import math
from html import escape

from verifier.report import plots, plots_certified, tables
from verifier.report.plots_certified import exact_radii, share_above
from verifier.report.record import Audit, Certified, median
from verifier.report.tables import duration, number, percent, shown_epsilons


def accuracy(audit: Audit) -> str:
    """Certified accuracy by every certificate, exactly, and under attack."""
    norms = {norm.norm: norm for norm in audit.norms}
    parts = [
        f"""<p>How many of the {len(audit.samples)} inputs stay right when <b>every</b> input may move by up to ε? Each certificate proves
less than the truth, each in its way. The blue line is the truth: the search has a proof for every input that counts, and a
misclassified one within ε for all others. The attack (orange) can only say how many have not been broken yet.</p>
<figure><img alt="Certified accuracy against epsilon, per norm" src="{plots.data_address(plots_certified.accuracy, audit)}">
<figcaption>All curves are about the same inputs, the same region {escape(audit.data["domain"])} and the same exact weights. What lies
between a certificate's curve and the blue one is true, and out of its reach.</figcaption></figure>"""
    ]
    for certified in audit.certified:
        norm = norms[certified.norm]
        chosen = [norm.curves[0].epsilon[i] for i in shown_epsilons(norm, 6)] if norm.curves else []
        parts.append(f"<h3>{certified.sign}: samples proved right within ε</h3>{_table(audit, certified, chosen)}")
    return "\n".join(parts)


def _table(audit: Audit, certified: Certified, epsilons: list[float]) -> str:
    norm = next(norm for norm in audit.norms if norm.norm == certified.norm)
    lower, attack = exact_radii(audit, norm)
    right = [radius for radius in lower if 0.0 < radius < math.inf]
    heads = ["", *(f"ε = {number(epsilon)}" for epsilon in epsilons), "median radius", "of the exact radius", "time"]
    rows = []
    for method in certified.methods:
        shares = [radius / true for radius, true in zip(method.radii, lower, strict=True) if 0.0 < true < math.inf]
        name = f'<span title="{escape(method.meaning)}">{escape(method.title)}</span>'
        name += (
            ""
            if method.complete == len(audit.samples)
            else f' <span class="muted">({method.complete} of {len(audit.samples)} finished)</span>'
        )
        rows.append(
            [
                name,
                *(percent(share_above(method.radii, epsilon), "down") for epsilon in epsilons),
                number(median(method.radii), 3, "down"),
                percent(median(shares), "near", 0) if right else "–",
                duration(method.seconds),
            ]
        )
    exact = [f'<span class="proved">{percent(share_above(lower, epsilon), "down")}</span>' for epsilon in epsilons]
    rows.append(['<b class="proved">exact</b>', *exact, number(median(lower), 3, "down"), "100%", duration(norm.seconds)])
    broken = [f'<span class="attacked">≤ {percent(share_above(attack, epsilon), "up")}</span>' for epsilon in epsilons]
    rows.append(['<span class="attacked">attack (no proof)</span>', *broken, f"≤ {number(median(attack), 3, 'up')}", "–", "–"])
    note = (
        '<p class="note">Times are summed over the samples, but for the exact search, which is wall-clock. Median over all samples; '
        "the share of the exact radius is the median over the samples that are right.</p>"
    )
    return f'<div class="wide">{tables.table(heads, rows)}</div>{note}'
