"""Checking of points: enclosures in float64, decisions in exact arithmetic, replay in float32."""

from fractions import Fraction

import numpy as np

from problems import exact
from problems.maps import Array
from problems.network import Network
from verifier.bounds.interval import affine_interval


def enclose(network: Network, x: Array) -> tuple[Array, Array]:
    """(lower (B, K), upper (B, K)): rigorous bounds of the logits at the points x (B, n), by interval arithmetic on points."""
    lowers, uppers = [x], [x]
    for node in network.nodes[1:]:
        if hasattr(node, "maps"):
            lower, upper, _ = affine_interval(node, [lowers[p] for p in node.parents], [uppers[p] for p in node.parents])
        else:
            lower, upper = np.maximum(lowers[node.parent], 0.0), np.maximum(uppers[node.parent], 0.0)  # type: ignore[union-attr]
        lowers.append(lower)
        uppers.append(upper)
    return lowers[-1], uppers[-1]


def exact_logits(network: Network, x: Array | list[Fraction]) -> list[Fraction]:
    """The logits at x (n,) without rounding."""
    return exact.evaluate(network, x)


def float32_candidates(x: Array) -> list[Array]:
    """The point rounded to float32 (which replay takes over without rounding), then the point itself, as float64 (n,)."""
    rounded = x.astype(np.float32).astype(np.float64)
    return [rounded, x] if (rounded != x).any() else [x]
