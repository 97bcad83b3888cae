"""Checking of points: enclosures in float64, decisions in exact arithmetic, replay in float32."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from problems import exact
from problems.maps import Array
from problems.network import Affine, Network, Relu
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.bounds.interval import affine_interval


def enclose(network: Network, x: Array) -> tuple[Array, Array]:
    """(lower (B, K), upper (B, K)): rigorous bounds of the logits at the points x (B, n), by interval arithmetic on points."""
    lowers, uppers = [x], [x]
    for node in network.nodes[1:]:
        if isinstance(node, Affine):
            lower, upper, _ = affine_interval(node, [lowers[p] for p in node.parents], [uppers[p] for p in node.parents])
        else:
            assert isinstance(node, Relu)
            lower, upper = np.maximum(lowers[node.parent], 0.0), np.maximum(uppers[node.parent], 0.0)
        lowers.append(lower)
        uppers.append(upper)
    return lowers[-1], uppers[-1]


def exact_logits(network: Network, x: Array | Sequence[float | Fraction]) -> list[Fraction]:
    """The logits at x (n,) without rounding."""
    return exact.evaluate(network, x)


def exact_point(region: Region, x: Array) -> tuple[Array, list[float | Fraction]]:
    """The point x (n,) as it is written down, and what it stands for.

    A side of zero width may hold no float64 number, 0.1 for one. Its coordinate then stands for the decimal, and is written as the float64
    whose shortest decimal is that very number; where there is none it is left as it is, outside the region.
    """
    values: list[float | Fraction] = x.tolist()
    if not isinstance(region, Box) or region.exact is None:
        return x, values
    lower, upper = region.inner
    for i in np.flatnonzero(lower > upper):
        side = Fraction(region.exact[0][i])
        if Fraction(repr(float(side))) == side and side <= Fraction(region.exact[1][i]):
            x = x.copy()
            x[i], values[i] = float(side), side
    return x, values


def float32_candidates(x: Array) -> list[Array]:
    """The point rounded to float32 (which replay takes over without rounding), then the point itself, as float64 (n,)."""
    with np.errstate(over="ignore"):  # beyond float32 it is infinite, and no candidate
        rounded = x.astype(np.float32).astype(np.float64)
    return [rounded, x] if (rounded != x).any() else [x]
