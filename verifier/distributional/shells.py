"""Bounds of phi_i that hold at every rate, from bounds of the loss on few balls around the sample: what large networks start from.

Let u_j bound the loss within b_j of x_i, b_1 < ... < b_J, and u_(J+1) bound it on the region. A point at a distance in [b_(j-1), b_j] is
worth at most u_j - lam b_(j-1)^p, so that

    phi_i(lam) <= max(u_1, max over j > 1 of u_j - lam b_(j-1)^p).

A search on the whole region starts from linear bounds over all of it, which are poor for large networks; the balls see the network as it is
near the sample. Each u_j is one root bound of the search for order inf.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from problems.maps import Array
from problems.rounding import UNIT
from verifier.bounds.rounding import down, up
from verifier.distributional import inner
from verifier.distributional.inner import Inner, Setting, Task

# From this many neurons on, shells are worth their time.
FROM_NEURONS = 100
COUNT = 40


@dataclass(frozen=True, eq=False)
class Shells:
    """radii (J,) rising, values (J,): bounds of the loss within each; `ceiling`: on the region; order: 1 or 2."""

    radii: Array
    values: Array
    ceiling: float
    order: float

    def at(self, rates: Array) -> Array:
        """(R,) proven upper bounds of phi at rates (R,) >= 0."""
        within = np.append(np.minimum(self.values, self.ceiling), self.ceiling)
        near = np.append(0.0, self.radii)
        prices = near if self.order == 1 else down(near * near) * (near > 0)
        cost = np.asarray(rates)[:, None] * prices
        worth = np.where(cost > 0, up(within - cost * (1 - 4 * UNIT)), within)
        return np.asarray(worth.max(axis=1))


def radii_of(epsilon: list[float], reach: float) -> tuple[float, ...]:
    """From far below the smallest eps to the farthest point of the region, largest first."""
    low = 0.1 * min((e for e in epsilon if e > 0), default=reach)
    return tuple(float(r) for r in np.geomspace(reach, min(low, 0.5 * reach), COUNT))


def bound(setting: Setting, task: Task, interrupt: Any = None) -> Inner:
    """One bound of the loss within each of the task's radii, and what points its search met: `inner.maximise` of order inf, content with
    any gap."""
    return inner.maximise(replace(setting, order=inf), replace(task, tolerances=(1e300,) * len(task.rates)), interrupt)
