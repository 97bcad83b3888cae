"""Bound propagation: intervals and backward linear bounds, batched over pieces of the region, rounded outward."""

from verifier.bounds.condensed import Condensed, condense
from verifier.bounds.crown import backward, upper_bound
from verifier.bounds.layers import layer_bounds
from verifier.bounds.linear import Concretise, Linear, Optimised
from verifier.bounds.mixture import best_mixture
from verifier.bounds.optimise import optimise
from verifier.bounds.propagation import Layout, Lines, Propagation
from verifier.bounds.walk import walk

__all__ = [
    "Concretise", "Condensed", "Layout", "Linear", "Lines", "Optimised", "Propagation",
    "backward", "best_mixture", "condense", "layer_bounds", "optimise", "upper_bound", "walk",
]  # fmt: skip
