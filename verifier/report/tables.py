"""Tables of an audit as HTML, and numbers as text.

A number that is a proved or witnessed end is rounded outward when it is shortened: what is printed is as true as what was computed.
"""

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from html import escape

from verifier.report.record import NORM_SIGNS, Audit, Curve, NormAudit

_ROUNDING = {"down": ROUND_FLOOR, "up": ROUND_CEILING, "near": ROUND_HALF_EVEN}
ORDER_SIGNS = {1.0: "W₁", 2.0: "W₂", math.inf: "W∞"}


def number(value: float, digits: int = 4, rounding: str = "near") -> str:
    """`value` with so many significant digits, rounded "down", "up" or "near"; infinity as ∞."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    exact = Decimal(value)
    if not exact:
        return "0"
    unit = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return f"{exact.quantize(unit, _ROUNDING[rounding]).normalize():f}".replace("-", "−")


def percent(value: float, rounding: str = "near", decimals: int = 1) -> str:
    """A share as a percentage, rounded "down", "up" or "near"; one within 1e-9 of the nearest is shown as the nearest.

    Shares are counts over counts: 15 of 100 is 15.0 %, whichever side of it its float lies on. The page says so.
    """
    unit = Decimal(1).scaleb(-decimals)
    nearest = (Decimal(value) * 100).quantize(unit)
    if abs(nearest - Decimal(value) * 100) <= Decimal("1e-7"):
        return f"{nearest:f}%"
    return f"{(Decimal(value) * 100).quantize(unit, _ROUNDING[rounding]):f}%"


def bracket(lower: float, upper: float, digits: int = 4) -> str:
    """One number where both ends agree to so many digits, else both ends, rounded outward."""
    if number(lower, digits) == number(upper, digits):
        return number(upper, digits)
    return f"{number(lower, digits, 'down')} to {number(upper, digits, 'up')}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[int] = (0,), classes: str = "") -> str:
    """A table of cells that are HTML already; a cell "value|text" carries a value to sort by. `left`: columns set to the left."""

    def side(column: int) -> str:
        return ' class="left"' if column in left else ""

    def cell(column: int, text: str) -> str:
        value, bar, shown = text.partition("|")
        return f'<td{side(column)} data-value="{escape(value)}">{shown}</td>' if bar else f"<td{side(column)}>{text}</td>"

    head = "".join(f'<th scope="col"{side(column)}>{text}</th>' for column, text in enumerate(heads))
    body = "\n".join("<tr>" + "".join(cell(column, text) for column, text in enumerate(row)) + "</tr>" for row in rows)
    return f'<table class="{classes}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'


def shown_epsilons(norm: NormAudit, count: int = 4) -> list[int]:
    """Indices into the grid of `norm`'s curves for the first screen: round numbers spread below the median radius."""
    grid = norm.curves[0].epsilon
    middle = norm.median[1]
    reach = middle if math.isfinite(middle) and middle > 0 else grid[-1]
    step = _round_number(reach / count)
    wanted = [step * (i + 1) for i in range(count)]
    return sorted({min(range(len(grid)), key=lambda i: abs(grid[i] - value)) for value in wanted} - {0})


def certified_errors(audit: Audit) -> str:
    """The first screen's table: per norm and order, proved and attacked worst-case error at a few epsilons."""
    parts = []
    for norm in audit.norms:
        if not norm.curves:
            continue
        chosen = shown_epsilons(norm)
        heads = [f"{norm.sign} distance", *(f"ε = {number(norm.curves[0].epsilon[i])}" for i in chosen)]
        rows = [[_order(curve), *(_error(curve, i) for i in chosen)] for curve in norm.curves]
        parts.append(f'<div class="wide">{table(heads, rows)}</div>')
    return "\n".join(parts)


def curve_numbers(norm: NormAudit, count: int = 20) -> str:
    """The curves of one norm in numbers, at about `count` epsilons."""
    grid = norm.curves[0].epsilon
    stride = max(1, round(len(grid) / count))
    heads = ["ε"] + [f"{ORDER_SIGNS.get(c.order, c.order)} {end}" for c in norm.curves for end in ("attacked", "witnessed", "proved")]
    rows = []
    for i in range(0, len(grid), stride):
        cells = [number(grid[i])]
        for curve in norm.curves:
            cells += [
                f'<span class="attacked">{percent(curve.attack[i], "down")}</span>',
                percent(curve.lower[i], "down"),
                f'<span class="proved">{percent(curve.upper[i], "up")}</span>',
            ]
        rows.append(cells)
    return f'<div class="wide">{table(heads, rows)}</div>'


def samples(audit: Audit) -> str:
    """One row per sample and norm, to be sorted in the page."""
    heads = ["sample", "label", "seen as", "norm", "radius ≥", "radius ≤", "attack ÷ exact", "turns into", "result", "seconds"]
    by_sample = {sample.sample: sample for sample in audit.samples}
    rows = []
    for norm in audit.norms:
        for radius in norm.radii:
            sample = by_sample[radius.sample]
            predicted = f'<span class="wrong">{sample.predicted}</span>' if sample.wrong else str(sample.predicted)
            ratio = radius.attack / radius.upper if radius.closed and 0 < radius.upper < math.inf else math.nan
            becomes = "–" if radius.witness_label is None else str(radius.witness_label)
            result = "wrong already" if sample.wrong else radius.status.lower().replace("_", " ")
            rows.append(
                [
                    str(radius.sample),
                    str(sample.label),
                    f"{sample.predicted}|{predicted}",
                    f"{norm.norm}|{NORM_SIGNS[norm.norm]}",
                    f"{radius.lower!r}|{number(radius.lower, 7, 'down')}",
                    f"{radius.upper!r}|{number(radius.upper, 7, 'up')}",
                    f"{-1 if math.isnan(ratio) else ratio!r}|{'–' if math.isnan(ratio) else f'{ratio:.4f}'}",
                    f"{'-1' if radius.witness_label is None else becomes}|{becomes}",
                    f'<span title="{escape(radius.sentence)}">{escape(result)}</span>',
                    f"{radius.seconds!r}|{radius.seconds:.3f}",
                ]
            )
    return f'<div class="scroll">{table(heads, rows, left=(8,), classes="sortable")}</div>'


def slowest(audit: Audit, count: int = 6) -> str:
    """The samples that took longest."""
    every = sorted(((radius, norm) for norm in audit.norms for radius in norm.radii), key=lambda pair: -pair[0].seconds)
    rows = [
        [str(radius.sample), norm.sign, bracket(radius.lower, radius.upper), duration(radius.seconds)] for radius, norm in every[:count]
    ]
    return f'<div class="wide">{table(["sample", "norm", "radius", "time"], rows)}</div>'


def times(audit: Audit) -> str:
    """Per part: what is done and closed, wall-clock time, time of the median sample."""
    rows = []
    for norm in audit.norms:
        spent = sorted(radius.seconds for radius in norm.radii)
        rows.append(
            [
                f"radii, {norm.sign}",
                f"{len(norm.radii)} of {len(audit.samples)}",
                str(sum(radius.closed for radius in norm.radii)),
                duration(norm.seconds),
                duration(spent[len(spent) // 2]) if spent else "–",
            ]
        )
    for part, seconds, done, closed in parts(audit):
        rows.append([part, done, closed, duration(seconds), "–"])
    heads = ["", "done", "closed", "wall clock", "median sample"]
    return f'<div class="wide">{table(heads, rows)}</div>'


def parts(audit: Audit) -> Iterable[tuple[str, float, str, str]]:
    """(what, wall-clock seconds, how much is done, how much of that is settled) of all that comes after the radii."""
    for certified in audit.certified:
        done, complete = (sum(getattr(method, name) for method in certified.methods) for name in ("done", "complete"))
        wanted = len(certified.methods) * len(audit.samples)
        yield f"certificates, {certified.sign}", certified.seconds, f"{done} of {wanted}", str(complete)
    for tight in audit.tightness:
        yield f"tightness, {tight.sign}", tight.seconds, "all cells" if tight.exhaustive else "not all cells", "–"
    for part in audit.moved:
        closed = sum(image.lower >= image.upper * (1 - 1e-4) for image in part.images)
        yield "moved mass", part.seconds, f"{len(part.images)} of {part.wanted}", str(closed)
    for curve in audit.losses:
        closed = sum(status == "CLOSED" for status in curve.status)
        yield f"worst expected {curve.loss}, {curve.sign}", curve.seconds, f"{len(curve.epsilon)} ε", str(closed)


def _order(curve: Curve) -> str:
    words = {1.0: "mean shift at most ε", 2.0: "root mean square at most ε", math.inf: "every input moves at most ε"}
    sign = ORDER_SIGNS.get(curve.order, f"order {curve.order:g}")
    return f'<b>{sign}</b> <span class="muted">{words.get(curve.order, "")}</span>'


def _error(curve: Curve, i: int) -> str:
    proved = percent(curve.upper[i], "up")
    return f'<span class="proved">≤ {proved}</span> <span class="attacked">≥ {percent(curve.attack[i], "down")}</span>'


def _round_number(value: float) -> float:
    """The largest of 1, 2, 3, 4, 5 times a power of ten that is at most `value` > 0: grids of round steps contain it."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(m * power for m in (1.0, 2.0, 3.0, 4.0, 5.0) if m * power <= value * (1 + 1e-12))
