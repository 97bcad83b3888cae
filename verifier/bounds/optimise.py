"""Optimised lower slopes (alpha) and split multipliers (beta) of the backward bound.

Xu et al. 2021 (alpha-CROWN) and Wang et al. 2021 (beta-CROWN) differentiate the bound automatically. Here the gradient is read
off in closed form: by the envelope theorem the bound's derivative with respect to the coefficient of a pre-activation z is the
value of z when the maximiser x* is pushed forward through the chosen lines. So a gradient costs one relaxed forward pass.
"""

from collections.abc import Callable, Iterator

import numpy as np

from problems.maps import Array
from problems.network import Affine, Relu
from verifier.bounds.crown import backward
from verifier.bounds.linear import Concretise, Linear, Optimised
from verifier.bounds.propagation import Layout, Propagation

# (value (B, S), point (B, S, n), what node `start` is there (B, S, m)) -> the rows (B, S, m) of the next iterate.
Steer = Callable[[Array, Array, Array], Array]


def replay(
    pieces: Propagation, linear: Linear, slopes: dict[int, Array], x: Array, end: int | None = None
) -> tuple[dict[int, Array], Array | None]:
    """The pre-activations (B, S, m) of each ReLU node, and the value of node `end`, when x (B, S, n) runs through the lines that `linear`
    chose."""
    network = pieces.network
    last = max(linear.relu, default=0) if end is None else end
    values: list[Array | None] = [x]
    activation: dict[int, Array] = {}
    for index, node in enumerate(network.nodes[1 : last + 1], start=1):
        if isinstance(node, Affine):
            total = np.broadcast_to(node.bias, (*x.shape[:2], node.size)).copy()
            for parent, linear_map in zip(node.parents, node.maps, strict=True):
                total += linear_map.forward(values[parent])  # type: ignore[arg-type]
            values.append(total)
        else:
            assert isinstance(node, Relu)
            z = values[node.parent]
            assert z is not None
            activation[index] = z
            lines = pieces.lines[index]
            chosen = linear.relu.get(index)
            slope = slopes[index]
            if chosen is None:  # this branch of the graph does not reach the functional
                values.append(z * slope)
                continue
            upper = lines.upper_slope[:, None, :] * z + lines.intercept[:, None, :]
            values.append(np.where(chosen > 0, upper, slope * z))
    return activation, None if end is None else values[end]


def optimise(
    pieces: Propagation,
    start: int,
    rows: Array,
    concretise: Concretise,
    *,
    signs: Array | None = None,
    slopes: Array | None = None,
    multipliers: Array | None = None,
    iterations: int = 20,
    rate: float = 0.25,
    stop: Callable[[Array], bool] | None = None,
    steer: Steer | None = None,
) -> Optimised:
    """Minimise concretise(backward(rows)) over slopes in [0, 1] and multipliers >= 0 by Adam; iterations = 1 only evaluates.

    rows (B, S, m); signs (B, h) in {-1, 0, 1}: decided neurons; slopes and multipliers (B, S, h): where to start (from a parent).
    stop(best value (B, S)) ends early. steer: the functional itself is one of several that serve, and chosen anew for every iterate;
    `concretise` then knows which. Every iterate is sound, the best one per row is kept.
    """
    layout = Layout.of(pieces.network, pieces.lines)
    shape = (*rows.shape[:2], layout.neurons)
    default = np.concatenate([pieces.lines[i].slope for i in layout.relus], axis=1) if layout.relus else np.zeros((len(rows), 0))
    free = np.concatenate([pieces.lines[i].unstable for i in layout.relus], axis=1) if layout.relus else np.zeros((len(rows), 0), bool)
    alpha = np.broadcast_to(default[:, None], shape).copy()
    if slopes is not None:
        np.copyto(alpha, slopes, where=np.broadcast_to(free[:, None], shape))
    split = signs is not None and bool(signs.any())
    sign = signs.astype(float)[:, None, :] if signs is not None and split else None
    beta = np.zeros(shape if split else (*shape[:2], 0))
    if multipliers is not None and sign is not None:
        beta[...] = multipliers * np.abs(sign)
    adam = [_Adam(alpha.shape), _Adam(beta.shape)]
    best: Optimised | None = None
    for step in range(iterations):
        by_layer = {i: alpha[:, :, s] for i, s in zip(layout.relus, layout.slices, strict=True)}
        pushes = {i: (beta * sign)[:, :, s] for i, s in zip(layout.relus, layout.slices, strict=True)} if sign is not None else None
        linear = backward(pieces, start, rows, slopes=by_layer, pushes=pushes, keep=True)
        value, point = concretise(pieces, linear)
        last = step == iterations - 1
        best = _better(best, Optimised(value, point, linear, alpha.copy(), beta.copy()))
        if last or (stop is not None and stop(best.value)):
            break
        activation, outputs = replay(pieces, linear, by_layer, point, start if steer is not None else None)
        if steer is not None:
            assert outputs is not None
            rows = steer(value, point, outputs)
        scale = rate * 0.97**step
        steepness = np.zeros(shape)
        for i, s in zip(layout.relus, layout.slices, strict=True):
            if i in activation and i in linear.relu:
                steepness[:, :, s] = np.minimum(linear.relu[i], 0.0) * activation[i]
        alpha = np.clip(alpha - scale * adam[0].direction(steepness), 0.0, 1.0)
        alpha = np.where(free[:, None], alpha, default[:, None])
        if sign is not None:
            flat = np.zeros(shape)
            for i, s in zip(layout.relus, layout.slices, strict=True):
                if i in activation:
                    flat[:, :, s] = activation[i]
            beta = np.maximum(beta - scale * _beta_scale(linear) * adam[1].direction(flat * sign), 0.0)
    assert best is not None
    return best


def _beta_scale(linear: Linear) -> Array:
    """Multipliers have the unit of the coefficients they meet: steps are taken relative to the largest of those, (B, S, 1)."""
    largest = [np.abs(a).max(axis=2, initial=0.0) for a in linear.relu.values()]
    return np.maximum(np.max(largest, axis=0), 1e-12)[:, :, None] if largest else np.ones((*linear.constant.shape, 1))


def _better(best: Optimised | None, new: Optimised) -> Optimised:
    """For each row the better of the two, written over `best`."""
    if best is None:
        return new
    wins = new.value < best.value
    if wins.all():
        return new
    if not wins.any():
        return best
    for old, fresh in _arrays(best, new):
        np.copyto(old, fresh, where=wins if old.ndim == 2 else wins[:, :, None])
    return best


def _arrays(one: Optimised, other: Optimised) -> Iterator[tuple[Array, Array]]:
    """The arrays of two results side by side."""
    for name in ("value", "point", "slopes", "multipliers"):
        yield getattr(one, name), getattr(other, name)
    for name in ("coefficients", "constant", "error"):
        yield getattr(one.linear, name), getattr(other.linear, name)
    for index, a in other.linear.relu.items():
        yield one.linear.relu[index], a


class _Adam:
    """The step direction of Adam (Kingma and Ba 2015) with the usual constants."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.first = np.zeros(shape)
        self.second = np.zeros(shape)
        self.steps = 0

    def direction(self, gradient: Array) -> Array:
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        with np.errstate(over="ignore", invalid="ignore"):  # a direction that overflows gives a useless iterate, never a wrong bound
            self.second = 0.999 * self.second + 0.001 * gradient**2
            first = self.first / (1 - 0.9**self.steps)
            second = self.second / (1 - 0.999**self.steps)
            return np.nan_to_num(first / (np.sqrt(second) + 1e-12))
