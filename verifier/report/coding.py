"""Frozen dataclasses to strict JSON and back without loss: full precision, infinities as the strings "inf" and "-inf", no NaN."""

import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


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


def decode(kind: type[Record], raw: dict[str, Any]) -> Record:
    """The dataclass that `encode` made `raw` of, by its annotations; what is unknown or missing is an error (TypeError, ValueError)."""
    hints = _hints(kind)
    if not isinstance(raw, dict) or raw.keys() - hints.keys():
        raise TypeError(f"{kind.__name__} does not have the fields {sorted(raw)}")
    return kind(**{name: _value(hints[name], part) for name, part in raw.items()})


_known: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    if kind not in _known:
        _known[kind] = get_type_hints(kind)
    return _known[kind]


def _value(hint: Any, raw: Any) -> Any:
    if hint is float:
        return float(raw)  # reads "inf" too
    origin = get_origin(hint)
    if origin is UnionType:
        return None if raw is None else _value(next(part for part in get_args(hint) if part is not NoneType), raw)
    if origin is tuple:
        parts = get_args(hint)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_value(parts[0], part) for part in raw)
        return tuple(_value(part, item) for part, item in zip(parts, raw, strict=True))
    if is_dataclass(hint):
        return decode(hint, raw)  # type: ignore[arg-type]
    return raw
