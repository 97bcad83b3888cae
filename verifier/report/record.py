"""The record of an audit: everything that the report shows, as frozen dataclasses that go to JSON and back without loss.

The JSON (docs/results.md) is strict: numbers in full precision, infinities as the strings "inf" and "-inf", no NaN.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from problems.errors import InputError

FORMAT = "tightcert-audit"
VERSION = 1

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
            return cls(
                network=raw["network"],
                data=raw["data"],
                options=_options(raw["options"]),
                samples=tuple(AuditedSample(**(s | {"image": _floats(s["image"])})) for s in raw["samples"]),
                norms=tuple(_norm(norm) for norm in raw["norms"]),
                sessions=tuple((float(seconds), int(count)) for seconds, count in raw["sessions"]),
                date=raw["date"],
                machine=raw["machine"],
                versions=raw["versions"],
                complete=raw["complete"],
                notes=tuple(raw["notes"]),
                cells=_cells(raw.get("cells")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(place, f"lacks or distorts a field ({error}).", "Run the audit again.") from None


def encode(value: Any) -> Any:
    """Dataclasses, tuples, numbers to JSON values; infinities become strings. Errors: ValueError for NaN, which is never a result."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: encode(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("NaN is not a result")
        return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    return value


def median(values: Iterable[float]) -> float:
    """The median; infinities allowed; nan of nothing. Between two middle values: their mean, inf if one is infinite."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)  # float() reads "inf" too


def _norm(raw: dict[str, Any]) -> NormAudit:
    curves = tuple(Curve(float(c["order"]), *(_floats(c[end]) for end in ("epsilon", "attack", "lower", "upper"))) for c in raw["curves"])
    return NormAudit(raw["norm"], tuple(radius_from_json(r) for r in raw["radii"]), curves, float(raw["seconds"]))


def radius_from_json(raw: dict[str, Any]) -> SampleRadius:
    """The record of one sample, from `encode` of it."""
    ends = {end: float(raw[end]) for end in ("lower", "upper", "attack", "seconds")}
    witness = None if raw["witness"] is None else _floats(raw["witness"])
    timeout = None if raw["timeout"] is None else float(raw["timeout"])
    return SampleRadius(**(raw | ends | {"witness": witness, "timeout": timeout, "notes": tuple(raw["notes"])}))


def _cells(raw: dict[str, Any] | None) -> CellPicture | None:
    if raw is None:
        return None
    polygons = tuple(tuple(_floats(vertex) for vertex in polygon) for polygon in raw["polygons"])
    pairs = {name: tuple(_floats(pair) for pair in raw[name]) for name in ("directions", "points")}
    lists = {
        "window": _floats(raw["window"]),
        "slopes": _floats(raw["slopes"]),
        "tight": tuple(raw["tight"]),
        "labels": tuple(raw["labels"]),
    }
    return CellPicture(**(raw | pairs | lists | {"polygons": polygons}))


def _options(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {"orders": [float(order) for order in raw["orders"]]}
