"""A bound of the norm of the Jacobian by quadratic forms, layer by layer: a relaxation for Lipschitz constants of pieces.

Wanted: the largest ||J^T x||, J = W_L D_L ... D_1 W_0, over unit x and over all derivatives D that the piece allows. Let Q be a form
with ||W_0^T D_1 ... v||^2 <= v^T Q v for the vectors v that meet layer l. What meets it is v = D y, where y = W_l^T (what came before).
A decided neuron has v_i = y_i or 0; an open one v_i = y_i / 2 + p_i with |p_i| <= |y_i| / 2. So for any multipliers t_i >= 0

    v^T Q v <= max_p (M y + p)^T Q (M y + p) + sum_i t_i (y_i^2 / 4 - p_i^2) = y^T (M Q M + M Q S^-1 Q M + T / 4) y =: y^T Q' y,

M the middles (0, 1/2, 1), S = T - Q restricted to the open neurons, which has to be positive definite; and W_l Q' W_l^T is the form of the
next layer. The last one gives the bound: its largest eigenvalue for the 2-norm of x. This is Shor's relaxation of the products D y, as in
LipSDP (Fazlyab et al. 2019), with the neurons that the piece decides taken out, and with the semidefinite program solved by block
elimination: every choice of multipliers is sound, a good one is found by fixed-point steps (at the optimum p_i^2 = y_i^2 / 4: the
derivative of the bound with respect to t_i is y_i^2 / 4 - p_i^2 along the maximising vector), and a child starts from its parent's.

Other norms: ||g||_1^2 <= (sum d) (sum g_i^2 / d_i) for any d > 0 (Cauchy-Schwarz), so input norm inf is the 2-norm with weights d, which
are improved along with the multipliers; output norm 1 likewise, over its sign vectors; input norm 1 reads the diagonal of the transposed
stack's last form. Rounding: see `kernel_quadratic.climb`; every form is enlarged by an a-priori bound of its error before it is used.
"""

import time
from dataclasses import dataclass, field
from math import inf

import numpy as np

from problems.maps import Array
from verifier.bounds.eigenvalues import largest_eigenvalues
from verifier.bounds.rounding import TINY, UNIT, gamma
from verifier.bounds.stack import Stack


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Where a piece's bound stands: multipliers (H,) of neurons in the stack's order, weights of the first space, shares of the last."""

    neurons: Array
    weights: Array
    shares: Array


@dataclass(eq=False)
class QuadraticBound:
    """The bound for rows.J measured from input_norm to output_norm; with output_norm inf there is one row.

    stack: the network; rows (S, K) as in `Stack.with_rows`. seconds: spent in compiled code so far.
    """

    stack: Stack
    rows: Array
    input_norm: float
    output_norm: float
    seconds: float = 0.0
    _chain: Stack = field(init=False)
    _flat: Array = field(init=False)
    _sizes: Array = field(init=False)

    def __post_init__(self) -> None:
        if self.output_norm == inf and len(self.rows) != 1:
            raise ValueError("the norm inf of several rows is the largest of their own: bound them one by one")
        chain = self.stack.with_rows(self.rows)
        self._chain = chain.reversed() if self.input_norm == 1 else chain
        self._flat, self._sizes = self._chain.flat, self._chain.sizes

    def bound(
        self, low: Array, high: Array, start: Multipliers | None = None, *, steps: int = 10, enough: float = 0.0
    ) -> tuple[float, Multipliers, Array]:
        """(proven bound, where it stands, scores (h,)) on the piece where derivatives lie between low and high (h,) bool.

        start: of a parent; steps: passes of improvement, ended once the bound is below `enough`. scores: what each open neuron adds to
        the squared bound; 0 where decided. A bound that overflows is inf.
        """
        from verifier.bounds import kernel_quadratic as kernel

        neurons = self._chain.neurons
        real = neurons >= 0
        half, free = np.ones(len(neurons)), np.zeros(len(neurons), dtype=bool)
        half[real] = 0.5 * low[neurons[real]] + 0.5 * high[neurons[real]]
        free[real] = high[neurons[real]] & ~low[neurons[real]]
        many = self.input_norm == 1
        weigh = self.input_norm == inf or (many and self.output_norm == 1 and len(self.rows) > 1)
        share = self.output_norm == 1 and not many and len(self.rows) > 1
        relative = gamma(self._chain.operations + int(self._sizes.max()) + 8)
        began = time.perf_counter()
        scores, gains = np.zeros(len(neurons)), np.zeros((len(neurons), int(self._sizes.max())))
        with np.errstate(all="ignore"):
            if start is None:
                weights, shares = self._middle(half) if weigh else np.ones(self._sizes[0]), np.ones(self._sizes[-1])
                multipliers = np.ones(len(neurons))
                kernel.begin(self._sizes, self._flat, weights, half, free, multipliers, relative)
            else:
                multipliers, weights, shares = start.neurons.copy(), start.weights.copy(), start.shares.copy()
            try:
                kernel.improve(
                    self._sizes, self._flat, weights, half, free, multipliers, shares, many, weigh, share, relative, steps,
                    enough * enough * (1.0 - 1e-9), scores,
                )  # fmt: skip
                worked, form, error = kernel.climb(self._sizes, self._flat, weights, half, free, multipliers, relative, gains)
                value = self._read(form, error, weights if weigh else np.ones(1), shares if share else np.ones(1)) if worked else inf
            except (np.linalg.LinAlgError, ValueError):  # numbers that overflow leave nothing to factorise
                value = inf
        self.seconds += time.perf_counter() - began
        by_neuron = np.zeros(len(low))
        by_neuron[neurons[real]] = scores[real]
        return value, Multipliers(multipliers, weights, shares), by_neuron

    def _middle(self, half: Array) -> Array:
        """Weights to begin with: the absolute Jacobian at the middle of all derivatives, summed over the rows."""
        value = np.ones((1, self._sizes[-1]))
        ends = np.cumsum(self._sizes[1:-1])
        for layer in range(len(self._chain.matrices) - 1, -1, -1):
            value = value @ self._chain.matrices[layer]
            if layer:
                value = value * half[ends[layer - 1] - self._sizes[layer] : ends[layer - 1]]
        size = np.abs(value[0])
        mean = size.mean()
        return size / mean + 0.05 if 0.0 < mean < inf else np.ones(self._sizes[0])

    def _read(self, form: Array, error: float, weights: Array, shares: Array) -> float:
        """The square root, rounded up, of the largest value of the form times the sums of weights and of shares."""
        if self.input_norm == 1:
            square = float(np.diag(form).max(initial=0.0)) + error
        else:
            root = np.sqrt(shares)
            scaled = form / (root[:, None] * root)
            slack = (error + 8.0 * UNIT * float(np.sqrt((form**2).sum()))) / float(shares.min())
            square = float(largest_eigenvalues(scaled[None], np.array([slack * (1.0 + 1e-12)]))[0][0])
        factor = float(weights.sum() if len(weights) > 1 else 1.0) * float(shares.sum() if len(shares) > 1 else 1.0)
        total = max(square, 0.0) * factor * (1.0 + 2.0 * gamma(len(weights) + len(shares) + 16)) + TINY
        return float(np.nextafter(np.sqrt(total) * (1.0 + 4.0 * UNIT), inf)) if total < inf else inf
