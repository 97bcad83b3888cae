"""The record of an audit: all that the report shows, as frozen dataclasses that go to JSON and back without loss (docs/results.md)."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from problems.errors import InputError
from verifier.report.coding import decode, encode
from verifier.report.record_transport import TransportRadii

FORMAT = "tightcert-audit"
VERSION = 2

# What a norm is called in text; keys are the names used on the command line and in JSON.
NORM_SIGNS = {"1": "ℓ1", "2": "ℓ2", "inf": "ℓ∞"}


@dataclass(frozen=True)
class SampleRadius:
    """The radius of one sample in one norm: a bracket, its witness, and the attack's word before the search.

    lower is proved; upper is the distance, rounded up, of `witness`, which is misclassified in exact arithmetic. attack is the upper
    end that the attack alone had found. status is the name of the bracket's status, sentence says it in words; closed says that lower
    and upper agree within the tolerance. witness_label is the class that wins at the witness. checked says that the audit has checked
    the witness again: in the region, within `upper`, misclassified, all in exact arithmetic; False: it failed and was dropped.
    """

    sample: int
    lower: float
    upper: float
    attack: float
    status: str
    sentence: str
    closed: bool
    seconds: float
    witness: tuple[float, ...] | None = None
    witness_label: int | None = None
    checked: bool | None = None
    timeout: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """The worst-case error over a Wasserstein ball of order 1, 2 or inf, for each epsilon: attack <= lower <= truth <= upper.

    upper is proved (from the proved lower radii), lower is witnessed (from the upper radii that the search ended with), attack is the same
    from the radii of the attack alone.
    """

    order: float
    epsilon: tuple[float, ...]
    attack: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]


@dataclass(frozen=True)
class NormAudit:
    """All about one norm: radii of the samples done (ordered by sample), curves over all samples, wall-clock seconds."""

    norm: str
    radii: tuple[SampleRadius, ...]
    curves: tuple[Curve, ...]
    seconds: float

    @property
    def sign(self) -> str:
        """The norm as it is shown: ℓ1, ℓ2 or ℓ∞."""
        return NORM_SIGNS[self.norm]

    @cached_property
    def median(self) -> tuple[float, float]:
        """(lower, upper) on the median radius of the samples done; zeros of misclassified samples count. (nan, nan) without samples."""
        return median(r.lower for r in self.radii), median(r.upper for r in self.radii)


@dataclass(frozen=True)
class AuditedSample:
    """One sample as the network sees it: image (n,) flattened, predicted class in float64, and whether it is wrong in exact arithmetic."""

    sample: int
    label: int
    predicted: int
    wrong: bool
    image: tuple[float, ...]


@dataclass(frozen=True)
class CellPicture:
    """The cells of the network in a window of a plane: of its input space where that has two dimensions, else through three samples.

    norm: of the inputs. window: xmin, xmax, ymin, ymax in the plane. polygons: the cells there, by their vertices. slopes: for each, the
    steepest gradient of a margin in the dual norm. tight: whether a direction of steepest ascent stays in the cell for ever, within the
    region. directions: of steepest ascent, along the plane. points: samples in the plane, with their labels. slice: whether it is one.
    """

    norm: str
    window: tuple[float, ...]
    polygons: tuple[tuple[tuple[float, ...], ...], ...]
    slopes: tuple[float, ...]
    tight: tuple[bool, ...]
    directions: tuple[tuple[float, ...], ...]
    points: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    slice: bool


@dataclass(frozen=True)
class Move:
    """An atom of a worst-case distribution that has left its sample, with this share of the sample's mass (1/N).

    distance: how far it moved, rounded up; before, after: lower bounds of the loss at the sample and at the atom; gain: what the move adds
    to the expected loss. point: where to, kept for the distributions that are drawn.
    """

    sample: int
    share: float
    distance: float
    before: float
    after: float
    gain: float
    point: tuple[float, ...] | None = None


@dataclass(frozen=True)
class WorstDistribution:
    """The distribution that witnesses the lower end at epsilon: its expected loss, its cost, and its moves by falling gain."""

    epsilon: float
    expected: float
    cost: float
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class LossCurve:
    """The worst expected loss over a Wasserstein ball, for each epsilon: attack <= lower <= truth <= upper.

    clean: bracket of the expected loss E of the samples themselves. Lines, with infinity (minus infinity for kappa) where none was found
    in time: published, E + L epsilon with the Lipschitz constant L; steepest, E + lambda_0 epsilon; flattest, E + kappa* epsilon. status:
    names, one per epsilon. worst: the distributions at some epsilons. timeout: the seconds that were meant for it; seconds: taken.
    """

    loss: str
    norm: str
    order: float
    clean: tuple[float, float]
    epsilon: tuple[float, ...]
    attack: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    published: tuple[float, ...]
    steepest: tuple[float, ...]
    flattest: tuple[float, ...]
    status: tuple[str, ...]
    worst: tuple[WorstDistribution, ...]
    seconds: float
    timeout: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        """The norm as it is shown."""
        return NORM_SIGNS[self.norm]

    @property
    def complete(self) -> bool:
        """Whether it was not interrupted."""
        return "INTERRUPTED" not in self.status

    def gap(self, i: int) -> float:
        """(upper - lower) / (upper - E) at the i-th epsilon: the share of the rise that is not settled."""
        rise = self.upper[i] - self.clean[0]
        return (self.upper[i] - self.lower[i]) / rise if rise > 0 else 0.0


@dataclass(frozen=True)
class CertifiedMethod:
    """One certificate: its name, what it is, and the radii it proves, one per sample of the audit (0 where it was not asked).

    done: how many samples it was asked about; complete: for how many of them time did not cut it short; seconds: summed over samples.
    """

    name: str
    title: str
    meaning: str
    radii: tuple[float, ...]
    done: int
    complete: int
    seconds: float


@dataclass(frozen=True)
class Certified:
    """What the certificates of the literature prove, in one norm; seconds: wall clock."""

    norm: str
    methods: tuple[CertifiedMethod, ...]
    seconds: float
    timeout: float | None = None
    complete: bool = True

    @property
    def sign(self) -> str:
        return NORM_SIGNS[self.norm]


@dataclass(frozen=True)
class TightShare:
    """How often the slope of the published bound goes on for ever, in all of R^n: the condition under which that bound is attained.

    lipschitz, tight_slope, slope_at_infinity: brackets of L, l, kappa* over R^n, for the labels present. samples: the share of samples
    whose own cell is tight for some rival. cells: how many were seen in R^n, of which `tight`; all if `exhaustive`. plane_cells: how
    many meet the plane of the picture, of which `plane_tight`. reason: what the audit's own region says; status: how the work ended.
    lambda_0: the steepest line from a sample to any point of R^n, None if there was no time for it.
    """

    norm: str
    lipschitz: tuple[float, float]
    tight_slope: tuple[float, float]
    slope_at_infinity: tuple[float, float]
    samples: float
    cells: int
    tight: int
    exhaustive: bool
    plane_cells: int
    plane_tight: int
    reason: str | None
    status: str
    seconds: float
    timeout: float | None = None
    lambda_0: tuple[float, float] | None = None

    @property
    def sign(self) -> str:
        return NORM_SIGNS[self.norm]

    @property
    def complete(self) -> bool:
        return self.status != "INTERRUPTED"


@dataclass(frozen=True)
class Audit:
    """The whole audit. `sessions` holds (seconds, radii computed) of every run that has worked on it: the last one is this run.

    network, data, options, machine and versions are dictionaries of plain values, described in docs/results.md.
    """

    network: dict[str, Any]
    data: dict[str, Any]
    options: dict[str, Any]
    samples: tuple[AuditedSample, ...]
    norms: tuple[NormAudit, ...]
    sessions: tuple[tuple[float, int], ...]
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    complete: bool
    notes: tuple[str, ...] = ()
    cells: CellPicture | None = None
    losses: tuple[LossCurve, ...] = ()
    certified: tuple[Certified, ...] = ()
    tightness: tuple[TightShare, ...] = ()
    moved: tuple[TransportRadii, ...] = ()
    version: int = field(default=VERSION)

    @property
    def clean_error(self) -> float:
        """The share of samples that are wrong as they are (a tie is wrong), decided in exact arithmetic."""
        return sum(s.wrong for s in self.samples) / len(self.samples)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all sessions together."""
        return sum(seconds for seconds, _ in self.sessions)

    @property
    def radii_wanted(self) -> int:
        """How many radii were asked for."""
        return len(self.samples) * len(self.options["norms"])

    @property
    def radii_done(self) -> int:
        """How many are known, as brackets."""
        return sum(len(norm.radii) for norm in self.norms)

    @property
    def radii_closed(self) -> int:
        """How many are exact to the tolerance."""
        return sum(r.closed for norm in self.norms for r in norm.radii)

    def to_json(self) -> str:
        """The text of results.json."""
        return json.dumps({"format": FORMAT} | encode(self), indent=1, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, place: str = "results.json") -> "Audit":
        """Read what `to_json` wrote. Errors: InputError."""
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(place, f"is not JSON ({error}).", "Run the audit again.") from None
        if not isinstance(raw, dict) or raw.get("format") != FORMAT or raw.get("version") != VERSION:
            raise InputError(place, f"is not a {FORMAT} file of version {VERSION}.", "Run the audit again.")
        try:
            audit = decode(cls, {name: value for name, value in raw.items() if name != "format"})
            return replace(audit, options=audit.options | {"orders": [float(order) for order in audit.options["orders"]]})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(place, f"lacks or distorts a field ({error}).", "Run the audit again.") from None


def median(values: Iterable[float]) -> float:
    """The median; infinities allowed; nan of nothing. Between two middle values: their mean, inf if one is infinite."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
