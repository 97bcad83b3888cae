"""The crown walk of chains of dense layers over boxes, by the compiled kernel (kernel.py): same results as the numpy walk, rounding aside.

Where the input is split, every piece is bounded anew and the walk is nearly all of the work. The numpy code remains the general one, and
the tests compare the two.
"""

from weakref import WeakKeyDictionary

import numpy as np

from problems.maps import Array, Dense
from problems.network import Affine, Network, Relu
from problems.regions.box import Box
from verifier.bounds.interval import operations
from verifier.bounds.linear import Concretise, Linear, Optimised
from verifier.bounds.packed import Chain, Packed
from verifier.bounds.propagation import Lines, Propagation
from verifier.bounds.rounding import gamma

_chains: WeakKeyDictionary[Network, Chain | None] = WeakKeyDictionary()


def chain_of(network: Network) -> Chain | None:
    """The packed network, made once; None if it is not such a chain."""
    if network not in _chains:
        _chains[network] = _pack(network)
    return _chains[network]


def _pack(network: Network) -> Chain | None:
    for index, node in enumerate(network.nodes[1:], start=1):
        if index % 2 == 0 and isinstance(node, Relu) and node.parent == index - 1:
            continue
        if not (index % 2 == 1 and isinstance(node, Affine) and node.parents == (index - 1,) and isinstance(node.maps[0], Dense)):
            return None
    affine = [node for node in network.nodes if isinstance(node, Affine)]
    weights = [node.maps[0].weights for node in affine]  # type: ignore[attr-defined]
    gammas = [(gamma(operations(node)), gamma(operations(node) + len(network.nodes))) for node in affine]
    return Chain(
        sizes=np.array([network.input_size, *(node.size for node in affine)]),
        starts=np.cumsum([0, *(node.size for node in affine)]),
        places=np.cumsum([0, *(matrix.size for matrix in weights)]),
        weights=np.concatenate([matrix.ravel() for matrix in weights]),
        transposed=np.concatenate([matrix.T.ravel() for matrix in weights]),
        absolute=np.concatenate([np.abs(matrix.T).ravel() for matrix in weights]),
        biases=np.concatenate([node.bias for node in affine]),
        interval_errors=np.array([4.0 * small for small, _ in gammas]),
        crown_errors=np.array([2.0 * large for _, large in gammas]),
        support_error=gamma(network.input_size + 8),
    )


def applies(pieces: Propagation) -> bool:
    """Whether `walk` can do it: a chain of dense layers over finite boxes that are the whole of the pieces."""
    if pieces.slack or type(pieces.region) is not Box or chain_of(pieces.network) is None:
        return False
    return bool(np.isfinite(pieces.lower).all() and np.isfinite(pieces.upper).all())


def walk(pieces: Propagation, known: tuple[Array, Array] | None = None) -> Propagation:
    """Fills the bounds, magnitudes and lines of all nodes, as Propagation.walk(known, crown=True) does. Releases the GIL."""
    from verifier.bounds import kernel  # compiled: loaded when first used

    chain = chain_of(pieces.network)
    assert chain is not None
    batch, h = pieces.batch, chain.neurons
    known = known if known is not None else (np.full((1, h), -np.inf), np.full((1, h), np.inf))
    low, high, magnitude = (np.empty((batch, int(chain.starts[-1]))) for _ in range(3))
    upper_slope, intercept, slope, post_low, post_high = (np.empty((batch, h)) for _ in range(5))
    floors = np.empty((batch, chain.layers))
    kernel.walk(
        chain.sizes, chain.starts, chain.places, chain.weights, chain.transposed, chain.absolute, chain.biases,
        chain.interval_errors, chain.crown_errors, chain.support_error,
        _plain(pieces.lower), _plain(pieces.upper), _plain(known[0]), _plain(known[1]),
        low, high, magnitude, upper_slope, intercept, slope, post_low, post_high, floors, pieces.empty,
    )  # fmt: skip
    pieces.packed = Packed(chain, low, high, magnitude, upper_slope, intercept, slope, floors)
    pieces.lowers, pieces.uppers = [pieces.lower], [pieces.upper]
    for k in range(chain.layers):
        s = chain.layer(k)
        pieces.lowers.append(low[:, s])
        pieces.uppers.append(high[:, s])
        pieces.magnitude[2 * k + 1] = magnitude[:, s]
        pieces.floors[2 * k + 1] = floors[:, k]
        if k < chain.layers - 1:
            pieces.lowers.append(post_low[:, s])
            pieces.uppers.append(post_high[:, s])
            pieces.lines[2 * k + 2] = Lines(low[:, s], high[:, s], upper_slope[:, s], intercept[:, s], slope[:, s])
    return pieces


def backward(pieces: Propagation, rows: Array, *, keep: bool, slopes: Array | None = None) -> Linear:
    """crown.backward for rows (B, S, K) of the outputs of pieces that `walk` bounded. slopes (B, S, h): lower slopes in [0, 1]."""
    from verifier.bounds import kernel_slopes

    packed = pieces.packed
    assert packed is not None
    chain, shape = packed.chain, rows.shape[:2]
    kept = np.empty((*shape, chain.neurons if keep else 0))
    linear = Linear(np.empty((*shape, int(chain.sizes[0]))), np.empty(shape), np.empty(shape))
    kernel_slopes.backward(
        chain.sizes, chain.starts, chain.places, chain.weights, chain.transposed, chain.biases, chain.crown_errors, packed.floors,
        packed.magnitude, packed.upper_slope, packed.intercept, packed.slope[:, None] if slopes is None else _plain(slopes), _plain(rows),
        linear.coefficients, linear.constant, linear.error, kept,
    )  # fmt: skip
    if keep:
        linear.relu = {2 * k + 2: kept[:, :, chain.layer(k)] for k in range(chain.layers - 1)}
    return linear


def optimise(
    pieces: Propagation,
    rows: Array,
    concretise: Concretise,
    *,
    inputs: Array | None = None,
    offsets: Array | None = None,
    iterations: int = 20,
    rate: float = 0.25,
    enough: float = -np.inf,
) -> Optimised:
    """optimise.optimise for rows (B, S, K) of the outputs of pieces that `walk` bounded, without multipliers and activations.

    inputs (B, S, n) and offsets (B, S) are what `concretise` adds to the rows: the search for slopes has to know. A piece whose rows
    have come below `enough` is left there.
    """
    from verifier.bounds import kernel_slopes

    packed = pieces.packed
    assert packed is not None
    chain, shape = packed.chain, rows.shape[:2]
    slopes = np.empty((*shape, chain.neurons))
    kernel_slopes.improve(
        chain.sizes, chain.starts, chain.places, chain.weights, chain.transposed, chain.biases, chain.crown_errors, packed.floors,
        packed.low, packed.high, packed.magnitude, packed.upper_slope, packed.intercept, packed.slope,
        _plain(pieces.lower), _plain(pieces.upper), _plain(rows),
        np.zeros((*shape, int(chain.sizes[0]))) if inputs is None else _plain(inputs),
        np.zeros(shape) if offsets is None else _plain(offsets), chain.support_error, iterations, rate, enough, slopes,
    )  # fmt: skip
    linear = backward(pieces, rows, keep=True, slopes=slopes)
    value, point = concretise(pieces, linear)
    return Optimised(value, point, linear, slopes, np.zeros((*shape, 0)))


def gains(pieces: Propagation, costs: dict[int, Array]) -> Array:
    """(B, n): sum over open neurons of their costs (B, m) times |dz/dx_i| width_i / (range of z), as in branching.py."""
    from verifier.bounds import kernel_slopes

    packed = pieces.packed
    assert packed is not None
    chain = packed.chain
    score = np.zeros(pieces.lower.shape)
    if costs:
        kernel_slopes.gains(
            chain.sizes, chain.starts, chain.places, chain.transposed, _plain(pieces.upper - pieces.lower),
            packed.low, packed.high, packed.upper_slope, np.concatenate([costs[i] for i in sorted(costs)], axis=1), score,
        )  # fmt: skip
    return score


def _plain(values: Array) -> Array:
    """The kernel is compiled for writable contiguous arrays only."""
    return np.require(values, np.float64, ["C", "W"])
