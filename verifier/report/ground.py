"""What an audit stands on: the network, the data, the options, and what is told of them in the record."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import inf
from typing import Any, TypeVar

import numpy as np

from problems.data import Dataset
from problems.errors import InputError
from problems.maps import Conv
from problems.network import Affine, Network
from problems.regions import Box
from verifier.report.record import AuditedSample
from verifier.search.store import run_fingerprint
from verifier.witness import enclose, exact_logits

Number = TypeVar("Number", int, float)
NORMS = {"1": 1.0, "2": 2.0, "inf": inf}


@dataclass(frozen=True)
class Options:
    """What the audit was asked. timeout: seconds per radius; budget: seconds for all that comes after the radii."""

    norms: tuple[str, ...]
    orders: tuple[str, ...]
    points: int
    timeout: float | None
    budget: float
    memory: float | None
    workers: int
    device: str
    solver: str
    tolerance: float
    seed: int
    semantics: str
    executor: Executor | str | None

    def record(self, count: int) -> dict[str, Any]:
        names = ("timeout", "budget", "memory", "workers", "device", "solver", "tolerance", "seed", "semantics")
        fields = {name: getattr(self, name) for name in names}
        return {"count": count, "norms": list(self.norms), "orders": [NORMS[order] for order in self.orders], **fields}


@dataclass(frozen=True, eq=False)
class Ground:
    """The network, the samples that the audit is about, the fingerprint of the data set they come from, and the options."""

    network: Network
    dataset: Dataset
    data: str
    options: Options

    @property
    def rows(self) -> dict[int, int]:
        """{number of the sample in its data set: row here}."""
        return {int(sample): row for row, sample in enumerate(self.dataset.numbers)}

    def run(self, question: str, **more: object) -> str:
        """Names the run of a question in the store. What cannot change a result stays out."""
        from verifier import __version__

        options = self.options
        return run_fingerprint(
            self.network.fingerprint, question, data=self.data, tolerance=options.tolerance, seed=options.seed,
            semantics=options.semantics, solver=options.solver, device=options.device, version=__version__, **more,
        )  # fmt: skip


def examine(ground: Ground) -> Iterator[AuditedSample]:
    """What the network says about every sample: decided by enclosures, in exact arithmetic where these overlap."""
    network, dataset = ground.network, ground.dataset
    lower, upper = enclose(network, dataset.x)
    predicted = network.forward(dataset.x).argmax(axis=1)
    for sample, row in ground.rows.items():
        label = int(dataset.y[row])
        others = [k for k in range(network.output_size) if k != label]
        if lower[row, others].max() >= upper[row, label]:
            wrong = True
        elif upper[row, others].max() < lower[row, label]:
            wrong = False
        else:
            logits = exact_logits(network, dataset.x[row])
            wrong = max(logits[k] for k in others) >= logits[label]
        yield AuditedSample(sample, label, int(predicted[row]), wrong, tuple(dataset.x[row].tolist()))


def _data_fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the samples, their labels and the region they live in."""
    digest = sha256(repr((dataset.name, dataset.x.shape, None if dataset.domain is None else type(dataset.domain).__name__)).encode())
    for part in (dataset.x, dataset.y, *(dataset.domain.bounding_box() if dataset.domain is not None else ())):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def about_network(network: Network) -> dict[str, Any]:
    sizes = [network.input_size, *(network.nodes[index].size for index in network.relus), network.output_size]
    affine = [node for node in network.nodes if isinstance(node, Affine)]
    kinds = [
        "convolutional " if any(isinstance(linear, Conv) for node in affine for linear in node.maps) else "",
        "with joins " if any(len(node.parents) > 1 for node in affine) else "",
    ]
    return {
        "name": network.name,
        "source": network.source.name if network.source is not None else None,
        "fingerprint": network.fingerprint,
        "architecture": "".join(kinds) + "-".join(str(size) for size in sizes),
        "input_shape": list(network.input_shape),
        "output_size": network.output_size,
        "neurons": network.neurons,
        "precision": network.precision,
        "roundings": list(network.roundings),
    }


def about_data(dataset: Dataset) -> dict[str, Any]:
    n = dataset.x.shape[1]
    power = str(n).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    domain = f"ℝ{power}"
    if dataset.domain is not None:
        sides = dataset.domain.bounding_box()
        same = isinstance(dataset.domain, Box) and all(a == b for side in sides for a, b in pairwise(side))
        domain = f"[{sides[0][0]:g}, {sides[1][0]:g}]{power}" if same else f"a region of ℝ{power}"
    return {
        "name": dataset.name,
        "fingerprint": _data_fingerprint(dataset),
        "available": len(dataset),
        "domain": domain,
        "image_shape": None if dataset.image_shape is None else list(dataset.image_shape),
    }


def choices(name: str, values: Sequence[str | float]) -> tuple[str, ...]:
    """The norms or orders by their names "1", "2", "inf", each once."""
    names = [next((name for name, number in NORMS.items() if value in (name, number)), None) for value in values]
    if not names or None in names or len(set(names)) != len(names):
        raise InputError(name, f"{', '.join(map(str, values)) or 'none'} given.", "Give one or more of 1, 2, inf, each once.")
    return tuple(str(name) for name in names)


def at_least(name: str, value: Number, least: Number) -> Number:
    if not least <= value < inf:
        raise InputError(name, f"is {value}.", f"Give a finite number, at least {least}.")
    return value
