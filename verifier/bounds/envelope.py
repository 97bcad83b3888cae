"""How far a float32 evaluation of the network, in any order of summation, can lie from the exact logits.

Forward error analysis (Higham, section 3.1) over a box of inputs: an affine node adds gamma(k) (|W| (|x| + e) + |b|) and carries its
parents' errors e through |W|; a ReLU does not increase them. The input itself is rounded to float32 first. Operations that a reader merged
into one node count with their own constants and number (`Network.folded`).
"""

import numpy as np

from problems.maps import Array
from problems.network import Affine, Input, Network
from verifier.bounds.interval import affine_interval, operations
from verifier.bounds.rounding import UNIT_FLOAT32, gamma

# float32 loses at most this much to underflow in one operation; times the operations of a path it stays far below any logit.
SMALLEST_FLOAT32 = 2.0**-126


def float32_envelope(network: Network, lower: Array, upper: Array) -> Array:
    """(K,): a bound of |float32 logits - exact logits| for inputs in the box lower, upper (n,); infinite where float32 may overflow."""
    lowers, uppers, errors = [lower[None]], [upper[None]], []
    for index, node in enumerate(network.nodes):
        if isinstance(node, Input):
            largest = np.maximum(np.abs(lower), np.abs(upper))
            errors.append(UNIT_FLOAT32 * largest * (1 + 1e-12) + SMALLEST_FLOAT32)
            continue
        if not isinstance(node, Affine):
            lowers.append(np.maximum(lowers[node.parent], 0.0))
            uppers.append(np.maximum(uppers[node.parent], 0.0))
            errors.append(errors[node.parent])
            continue
        low, high, magnitude = affine_interval(node, [lowers[p] for p in node.parents], [uppers[p] for p in node.parents])
        constants, merged = network.folded.get(index, (np.zeros(1), 0))
        steps = operations(node) + 4 * merged
        carried = np.sum([linear.absolute().forward(errors[p]) for linear, p in zip(node.maps, node.parents, strict=True)], axis=0)
        own = gamma(steps, UNIT_FLOAT32) * (magnitude[0] + constants + carried)
        error = (carried + own) * (1 + 1e-10) + steps * SMALLEST_FLOAT32 * (1.0 + constants)
        error = np.where(magnitude[0] + error < float(np.finfo(np.float32).max), error, np.inf)
        lowers.append(low)
        uppers.append(high)
        errors.append(error)
    return errors[-1]
