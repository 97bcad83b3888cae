"""What the page says of tightness: how often the published bound is attained, and why not here."""

from html import escape

from verifier.report import tables
from verifier.report.record import Audit, TightShare
from verifier.report.tables import bracket, percent


def share(audit: Audit) -> str:
    """The slopes and the share of cells where the steepest one goes on for ever."""
    bounded = next((part.reason for part in audit.tightness if part.reason), None)
    here = (
        f"<p><b>On {escape(audit.data['domain'])} never.</b> {_greek(bounded)} The published bound can at best be met for small ε, "
        "where the curve follows λ₀.</p>"
        if bounded
        else ""
    )
    heads = ["over all of ℝⁿ", *(part.sign for part in audit.tightness)]
    rows = [
        ["L: steepest slope of a margin", *(_slope(*part.lipschitz) for part in audit.tightness)],
        ["ℓ: steepest slope that goes on for ever at full strength", *(_slope(*part.tight_slope) for part in audit.tightness)],
        ["κ*: steepest slope at infinity", *(_slope(*part.slope_at_infinity) for part in audit.tightness)],
        ["λ₀: steepest line from a sample", *("–" if part.lambda_0 is None else _slope(*part.lambda_0) for part in audit.tightness)],
        ["samples whose own cell is tight", *(percent(part.samples) for part in audit.tightness)],
        ["tight cells in the plane through three samples", *(f"{part.plane_tight} of {part.plane_cells}" for part in audit.tightness)],
        ["tight cells of the network", *(_cells(part) for part in audit.tightness)],
    ]
    return f"""<p>When is the published bound E + L ε the truth for every ε? Where the loss can be climbed at its steepest slope L
<b>for ever</b>: the direction of steepest ascent of a cell has to stay inside that cell out to infinity (a “tight” cell).</p>
{here}
<p>Were inputs allowed to be anything in ℝⁿ:</p>
<div class="wide">{tables.table(heads, rows)}</div>
<p class="note">Each slope is a bracket: witnessed to proved. Where a bracket is wide or cells were not counted, the network has too many
activation cells (up to 2<sup>{audit.network["neurons"]}</sup>) to go through all of them in the few seconds of this part;
the samples' own cells and the plane are exact.</p>"""


def _greek(text: str) -> str:
    return escape(text).replace("kappa*", "κ*").replace("l =", "ℓ =")


def _slope(lower: float, upper: float) -> str:
    return bracket(lower, upper, 4)


def _cells(part: TightShare) -> str:
    if part.exhaustive:
        return f"{part.tight} of {part.cells}"
    return f"{part.tight} of the {part.cells} seen" if part.cells else "not counted"
