"""The lower end: points whose gradients are candidates, and the exact check that makes one a witness."""

from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.bounds.propagation import Layout
from verifier.search.question import Witness
from verifier.steepness.exact_cell import exact_rows, is_constant, locate
from verifier.steepness.objective import Objective

# Exact checks per call: candidates are taken in order of their float norms, and nearly always the first one stands.
MOST_CHECKS = 8


@dataclass(eq=False)
class Judge:
    """Candidates for the largest norm of an objective over a region. found: witnesses not yet taken by the search."""

    network: Network
    region: Region
    objective: Objective
    found: list[Witness] = field(default_factory=list)

    def of_target(self, target: int) -> Objective:
        """The objective with one target only."""
        objective = self.objective
        rivals = objective.rivals[target : target + 1]
        return replace(objective, rows=objective.rows[target : target + 1], rivals=rivals) if objective.targets > 1 else objective

    def patterns(self, points: Array) -> tuple[Array, Array]:
        """(active (B, h) bool, logits (B, K)) at the points (B, n), in float64."""
        values = self.network.values(points)
        relus = Layout.of(self.network).relus
        parts = [values[self.network.nodes[index].parent] > 0 for index in relus]  # type: ignore[union-attr]
        active = np.concatenate(parts, axis=1) if parts else np.zeros((len(points), 0), dtype=bool)
        return active, values[-1]

    def norms_at(self, points: Array) -> Array:
        """(B,): lower bounds of the norms at the points (B, n), as their float patterns have it; not checked, for ascent."""
        active, logits = self.patterns(points)
        # One Jacobian per pattern; packed patterns sort faster.
        codes = np.packbits(active, axis=1) if len(points) > 1 else np.zeros((len(points), 0), np.uint8)
        first, which = _classes(codes)
        distinct = active[first]
        lower = self.objective.norms(self.objective.jacobian(self.network, distinct, distinct))[0][which]
        if self.objective.label is None:
            return lower.max(axis=1)
        top = logits[:, list(self.objective.rivals)].argmax(axis=1)
        return lower[np.arange(len(points)), top]

    def best(self, points: Array, above: float) -> Witness | None:
        """The best verified witness among points (B, n) of the region, if its norm is larger than `above`."""
        values = self.norms_at(points)
        best: Witness | None = None
        for i in np.argsort(-values, kind="stable")[:MOST_CHECKS]:
            if values[i] <= max(above, -inf if best is None else best.value):
                break
            witness = self.check(points[i])
            if witness is not None and (best is None or witness.value > best.value):
                best = witness
        return best

    def check(self, point: Array) -> Witness | None:
        """The point (n,) as a witness if it lies, exactly, in the region and inside a full cell; its value is the norm there."""
        located = locate(self.network, self.region, point, self.objective.directions)
        if located is None:
            return None
        active = (located.pattern > 0)[None]
        lower = self.objective.norms(self.objective.jacobian(self.network, active, active))[0][0]
        value = float(lower.max()) if self.objective.label is None else self._margin(located.pattern, located.logits, lower)
        return None if value == -inf else Witness(value, point)

    def _margin(self, pattern: Array, logits: list, lower: Array) -> float:
        """The norm of the one top competitor at the point; competitors that tie with it everywhere in the cell have the same gradient."""
        rivals = self.objective.rivals
        highest = max(logits[k] for k in rivals)
        top = [t for t, k in enumerate(rivals) if logits[k] == highest]
        if len(top) > 1:
            rows = exact_rows(self.network, pattern)[1]
            first = np.eye(len(logits))[rivals[top[0]]]
            for t in top[1:]:
                if not is_constant(rows, first - np.eye(len(logits))[rivals[t]], self.objective.directions):
                    return -inf
        return float(lower[top[0]])


def _classes(codes: Array) -> tuple[Array, Array]:
    """(first (C,), which (B,)): one representative of every distinct row, and which of them each row equals."""
    if len(codes) == 1 or codes.shape[1] == 0:
        return np.zeros(1, dtype=int), np.zeros(len(codes), dtype=int)
    order = np.lexsort(codes.T)
    new = np.concatenate([[True], (codes[order[1:]] != codes[order[:-1]]).any(axis=1)])
    which = np.empty(len(codes), dtype=int)
    which[order] = np.cumsum(new) - 1
    return order[new], which
