"""Bound propagation: intervals and backward linear bounds, batched over pieces of the region, rounded outward."""

from verifier.bounds.crown import Linear, backward, upper_bound
from verifier.bounds.layers import layer_bounds
from verifier.bounds.mixture import best_mixture
from verifier.bounds.optimise import Optimised, optimise
from verifier.bounds.propagation import Layout, Lines, Propagation

__all__ = [
    "Layout", "Linear", "Lines", "Optimised", "Propagation",
    "backward", "best_mixture", "layer_bounds", "optimise", "upper_bound",
]  # fmt: skip
