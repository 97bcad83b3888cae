"""Folders in the form of the verification competition (VNN-COMP): which network, which property, how many seconds.

`instances.csv` has one line per instance: network, property, time limit; paths are relative to the folder, and the files may be
stored with .gz behind the listed name. `truth.csv`, where present, is ours: a table with columns onnx, vnnlib, truth (sat, unsat or
unknown), by file names.
"""

import ast
import csv
import os
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from problems.errors import SpecificationError

TRUTHS = ("sat", "unsat", "unknown")


@dataclass(frozen=True)
class Instance:
    """One question. `timeout` in seconds; `truth` is sat, unsat, unknown (published, but open) or None (not in the table)."""

    network: Path
    specification: Path
    timeout: float
    truth: str | None = None

    @property
    def name(self) -> str:
        """'network, property' by file names without their endings."""
        return f"{_plain(self.network.name).removesuffix('.onnx')}, {_plain(self.specification.name).removesuffix('.vnnlib')}"


def read_instances(folder: str | Path) -> tuple[Instance, ...]:
    """The instances of a folder in the order of its instances.csv; SpecificationError with file and line for what cannot be read."""
    folder = Path(folder)
    table = folder / "instances.csv"
    truths = _read_truths(folder / "truth.csv") if (folder / "truth.csv").exists() else {}
    instances = []
    for line, cells in _lines(table):
        place = f"{table}, line {line}"
        if len(cells) != 3:
            raise SpecificationError(place, f"has {len(cells)} columns.", "Give network, property and time limit in seconds.")
        try:
            timeout = float(cells[2])
        except ValueError:
            timeout = -1.0
        if not (isfinite(timeout) and timeout > 0):
            raise SpecificationError(place, f"the time limit '{cells[2]}' is not a positive number.", "Give seconds.")
        network, specification = (_existing(folder, cell, place) for cell in (network_field(cells[0]), cells[1]))
        truth = truths.get((_plain(network.name), _plain(specification.name)))
        instances.append(Instance(network, specification, timeout, truth))
    if not instances:
        raise SpecificationError(str(table), "lists no instances.", "Give lines of network, property, time limit.")
    return tuple(instances)


def network_field(text: str) -> str:
    """The path in the field of a network, which is a path or, for properties of VNN-LIB 2.0, a list "[('f', 'path')]" of one network.

    SpecificationError for several networks.
    """
    if not text.lstrip().startswith("["):
        return text
    try:
        # As bytes, one character each: names need not be of the locale's encoding.
        entries = ast.literal_eval(os.fsencode(text.strip()).decode("latin-1"))
        paths = [os.fsdecode(path.encode("latin-1")) for _, path in entries]
    except (SyntaxError, ValueError, TypeError, AttributeError, MemoryError, RecursionError):
        return text  # a name that begins with a bracket
    if len(paths) != 1:
        raise SpecificationError(text, f"names {len(paths)} networks.", "Properties that relate several networks are not supported.")
    return paths[0]


def stored(path: Path) -> Path | None:
    """The file at the path, with .gz behind its name, or without; None where there is neither."""
    for name in (path.name, path.name + ".gz", _plain(path.name)):
        if name and path.with_name(name).is_file():
            return path.with_name(name)
    return None


def _read_truths(table: Path) -> dict[tuple[str, str], str]:
    lines = _lines(table)
    header = lines[0][1] if lines else []
    missing = [column for column in ("onnx", "vnnlib", "truth") if column not in header]
    if missing:
        raise SpecificationError(f"{table}, line 1", f"has no column '{missing[0]}'.", "The first line names columns onnx, vnnlib, truth.")
    onnx, vnnlib, truth = (header.index(column) for column in ("onnx", "vnnlib", "truth"))
    truths: dict[tuple[str, str], str] = {}
    for line, cells in lines[1:]:
        place = f"{table}, line {line}"
        if len(cells) != len(header):
            raise SpecificationError(place, f"has {len(cells)} columns, the first line {len(header)}.")
        if cells[truth] not in TRUTHS:
            raise SpecificationError(place, f"truth is '{cells[truth]}'.", f"It is one of {', '.join(TRUTHS)}.")
        key = _plain(Path(cells[onnx]).name), _plain(Path(cells[vnnlib]).name)
        if truths.setdefault(key, cells[truth]) != cells[truth]:
            raise SpecificationError(place, f"contradicts an earlier line about {key[0]}, {key[1]}.")
    return truths


def _lines(table: Path) -> list[tuple[int, list[str]]]:
    """(line number, stripped cells) of the lines that are not blank."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cell.strip() for cell in cells)]
    except FileNotFoundError:
        raise SpecificationError(
            str(table), "does not exist.", "Give a folder in the form of the competition, with an instances.csv."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecificationError(str(table), f"cannot be read: {error}.") from None


def _existing(folder: Path, name: str, place: str) -> Path:
    path = stored(folder / name) if name else None
    if path is not None:
        return path
    raise SpecificationError(place, f"'{name}' does not exist in the folder.", "Paths are relative to the folder of instances.csv.")


def _plain(name: str) -> str:
    return name.removesuffix(".gz")
