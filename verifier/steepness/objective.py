"""What is to be bounded: the slope of an output, of a pair of outputs, of the margin of a label, or of the whole output vector."""

import re
from dataclasses import dataclass
from math import inf

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from problems.regions.ball import exponent
from verifier.bounds.jacobian import Jacobian, jacobian
from verifier.steepness.directions import Directions
from verifier.steepness.norms import gradient_norms, operator_norms


@dataclass(frozen=True, eq=False)
class Objective:
    """The largest over targets of a norm of rows.J. rows (T, S, K): the rows of every target, entries 0, 1 and -1.

    One row per target: its gradient's dual norm; several rows (one target): the operator norm from input_norm to output_norm. label: for
    a margin, the class y; target t then counts only where rivals[t] is a top competitor of y (THEORY.md L1).
    """

    rows: Array
    input_norm: float
    output_norm: float
    directions: Directions
    label: int | None = None
    rivals: tuple[int, ...] = ()

    @property
    def targets(self) -> int:
        return len(self.rows)

    @property
    def is_matrix(self) -> bool:
        """Whether the norm is that of a matrix, not of single gradients."""
        return self.rows.shape[1] > 1

    @property
    def exact_per_cell(self) -> bool:
        """Whether the norm of a cell can be computed exactly, see `norms`; otherwise a bracket may stay open."""
        from verifier.steepness.norms import MOST_SIGNS

        if not self.is_matrix or self.input_norm == 1 or self.output_norm == inf or self.input_norm == self.output_norm == 2:
            return True
        outputs, inputs = self.rows.shape[1], int(self.directions.free.sum())
        return (self.output_norm == 1 and outputs <= MOST_SIGNS) or (self.input_norm == inf and inputs <= MOST_SIGNS)

    def differences(self, target: int) -> Array:
        """(R, K): rows that are all >= 0 where the target's rival is a top competitor; none where that does not matter."""
        classes = self.rows.shape[2]
        if self.label is None:
            return np.zeros((0, classes))
        eye, rival = np.eye(classes), self.rivals[target]
        return np.array([eye[rival] - eye[j] for j in range(classes) if j not in (rival, self.label)]).reshape(-1, classes)

    def jacobian(self, network: Network, low: Array, high: Array) -> Jacobian:
        """Of all targets' rows at once, (B, T S, n)."""
        return jacobian(network, low, high, self.rows.reshape(-1, self.rows.shape[2]))

    def norms(self, rows: Jacobian) -> tuple[Array, Array]:
        """(lower (B, T), upper (B, T)) of the norms, for Jacobians of all targets' rows (B, T S, n)."""
        if not self.is_matrix:
            return gradient_norms(rows.centre, rows.radius, input_norm=self.input_norm, directions=self.directions)
        used = self.directions.free  # the columns of fixed inputs do not count, and need not be signed
        lower, upper = operator_norms(
            rows.centre[:, :, used], rows.radius[:, :, used], input_norm=self.input_norm, output_norm=self.output_norm
        )  # fmt: skip
        return lower[:, None], upper[:, None]

    def interval_norms(self, rows: Jacobian) -> Array:
        """Upper bounds (B, T) for interval Jacobians with wide radii: the least of the norm of the entrywise bound, and of the norm of the
        centre plus the norm of the radius (these norms are monotone in the absolute values of the entries)."""
        nothing = np.zeros_like(rows.centre)
        size = np.nextafter(np.abs(rows.centre) + rows.radius, inf)
        entrywise = self.norms(Jacobian(size, nothing))[1]
        split = self.norms(Jacobian(rows.centre, nothing))[1] + self.norms(Jacobian(rows.radius, nothing))[1]
        return np.fmin(entrywise, np.nextafter(split, inf))


def objective_of(network: Network, of: str, input_norm: object, directions: Directions) -> Objective:
    """The objective that the text describes: output:K, pair:K,Y, margin:Y, vector:1|2|inf. Raises InputError."""
    norm = exponent(input_norm, "input_norm")
    classes = network.output_size
    eye = np.eye(classes)
    match = re.fullmatch(r"(output|pair|margin|vector):(.+)", of) if isinstance(of, str) else None
    if match is None:
        raise InputError("of", f"{of!r} is not known.", "Give output:K, pair:K,Y, margin:Y, vector:1, vector:2 or vector:inf.")
    kind, rest = match[1], match[2]
    if kind == "vector":
        output = exponent(rest, "vector")
        if output == inf or classes == 1:
            return Objective(eye[:, None, :], norm, inf, directions)
        return Objective(eye[None], norm, output, directions)
    indices = _indices(rest, {"output": 1, "pair": 2, "margin": 1}[kind], classes)
    if kind == "output":
        return Objective(eye[indices[0]][None, None], norm, inf, directions)
    if kind == "pair":
        if indices[0] == indices[1]:
            raise InputError("of", f"pair:{rest} is a pair of one output.", "Give two different ones.")
        return Objective((eye[indices[0]] - eye[indices[1]])[None, None], norm, inf, directions)
    label = indices[0]
    rivals = tuple(k for k in range(classes) if k != label)
    if not rivals:
        raise InputError("of", "a network with one output has no margin.", "Give output:0.")
    rows = np.array([[eye[k] - eye[label]] for k in rivals])
    return Objective(rows, norm, inf, directions, label, rivals)


def _indices(text: str, count: int, classes: int) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not all(part.isascii() and part.isdigit() and int(part) < classes for part in parts):
        raise InputError("of", f"{text!r} is not {'an output' if count == 1 else 'a pair of outputs'}.", f"Outputs are 0 to {classes - 1}.")
    return [int(part) for part in parts]
