"""The first screen: what was asked, what is proved, and how large the gap is."""

import math
from html import escape

from verifier.report import tables
from verifier.report.plots_certified import exact_radii, share_above
from verifier.report.plots_losses import LOSS_NAMES, rise_ratios
from verifier.report.record import NORM_SIGNS, Audit, LossCurve, NormAudit
from verifier.report.tables import bracket, duration, number, percent

# How the budget of a Wasserstein ball of this order is spent.
_MEANS = {1.0: "on average", 2.0: "in root mean square", math.inf: "each"}


def summary(audit: Audit) -> str:
    norms = " and ".join(NORM_SIGNS[name] for name in audit.options["norms"])
    asked = (
        f'<p class="lead">What can happen to {escape(audit.network["name"])} when {len(audit.samples)} inputs move a little, in {norms}, '
        f"inside {escape(audit.data['domain'])}? Every answer has two ends: one is <b>proved</b> (nothing is worse), the other is an "
        "<b>example</b> (something is that bad). Where they meet, the answer is exact.</p>"
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
    return f'{asked}\n{_claims(audit)}\n<div class="tiles">{boxes}</div>'


def _claims(audit: Audit) -> str:
    """One row per question: what is proved, what an example shows, the gap, and what is usually known."""
    rows = []
    for norm in audit.norms:
        if norm.curves:
            rows += [_accuracy(audit, norm), _error(norm)]
        rows += [_loss(curve, _middle(curve)) for curve in audit.losses if curve.norm == norm.norm]
    if not rows:
        return ""
    heads = ["when the inputs move", "", "proved", "an example", "gap", "attack alone", "usual certificate"]
    return f"""<h3>What is proved, and how large the gap is</h3>
<div class="wide claims">{tables.table(heads, rows, left=(0, 1))}</div>
<p class="note"><span class="proved">Proved</span>: nothing within ε is worse. An example: something within ε is that bad, checked in exact
arithmetic. The truth lies between them: the gap is all that is not known. To the right, what is known without the search: an
<span class="attacked">attack</span> proves nothing, and a certificate may be far from the truth. Numbers are rounded outward, but for
differences below 1e−9.</p>"""


def _accuracy(audit: Audit, norm: NormAudit) -> list[str]:
    epsilon = norm.curves[0].epsilon[_shown(norm)]
    lower, attack = exact_radii(audit, norm)
    done = {radius.sample: radius.upper for radius in norm.radii}
    found = [done.get(sample.sample, float("inf")) for sample in audit.samples]
    proved, shown, broken = (share_above(radii, epsilon) for radii in (lower, found, attack))
    usual = "–"
    for certified in audit.certified:
        if certified.norm == norm.norm:
            best = max(certified.methods, key=lambda method: share_above(method.radii, epsilon))
            usual = f"≥ {percent(share_above(best.radii, epsilon), 'down')} <small>{escape(best.title)}</small>"
    return [
        f"{norm.sign}: each by at most {number(epsilon)}",
        "accuracy",
        f'<span class="proved">≥ {percent(proved, "down")}</span>',
        f"≤ {percent(shown, 'up')}",
        _gap(shown - proved, _points(shown - proved)),
        f'<span class="attacked">≤ {percent(broken, "up")}</span>',
        usual,
    ]


def _error(norm: NormAudit) -> list[str]:
    curve, i = norm.curves[0], _shown(norm)
    return [
        f"{norm.sign}: {_MEANS.get(curve.order, '')} by {number(curve.epsilon[i])}",
        "error",
        f'<span class="proved">≤ {percent(curve.upper[i], "up", 2)}</span>',
        f"≥ {percent(curve.lower[i], 'down', 2)}",
        _gap(curve.upper[i] - curve.lower[i], _points(curve.upper[i] - curve.lower[i])),
        f'<span class="attacked">≥ {percent(curve.attack[i], "down", 2)}</span>',
        "–",
    ]


def _loss(curve: LossCurve, i: int) -> list[str]:
    published, attacked = rise_ratios(curve, i)
    most = "up to " if curve.gap(i) > 0.05 else ""
    times = f" <small>{most}{number(published, 3)} × the rise</small>" if not math.isnan(published) else ""
    part = f" <small>{percent(attacked, 'down', 0)} of it</small>" if not math.isnan(attacked) else ""
    return [
        f"{curve.sign}: {_MEANS.get(curve.order, '')} by {number(curve.epsilon[i])}",
        LOSS_NAMES[curve.loss],
        f'<span class="proved">≤ {number(curve.upper[i], 4, "up")}</span>',
        f"≥ {number(curve.lower[i], 4, 'down')}",
        f"{_gap(curve.gap(i), percent(curve.gap(i), 'up'))} <small>of the rise</small>",
        f'<span class="attacked">≥ {number(curve.attack[i], 4, "down")}</span>{part}',
        f"≤ {number(curve.published[i], 4, 'up')}{times}",
    ]


def _shown(norm: NormAudit) -> int:
    """The epsilon of the first screen: about half the median radius."""
    chosen = tables.shown_epsilons(norm)
    return chosen[min(1, len(chosen) - 1)]


def _middle(curve: LossCurve) -> int:
    return len(curve.epsilon) // 2


def _gap(share: float, text: str) -> str:
    """The gap, green where it is at most a hundredth."""
    return f'<b class="{"closed" if share <= 0.01 else "open"}">{text}</b>'


def _points(share: float) -> str:
    return f"{number(100 * share, 2, 'up') if share > 1e-9 else '0'} points"


def _long(value: str) -> str:
    return ' class="long"' if len(value) > 11 else ""
