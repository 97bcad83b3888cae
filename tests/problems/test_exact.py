"""Exact evaluation against plain Fractions, written out."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import example, given, settings
from hypothesis import strategies as st

from problems.errors import DataError
from problems.exact import evaluate, evaluate_all, integers
from problems.maps import Conv, Dense, LinearMap, Sparse
from problems.network import Affine, Input, Network, Relu, sequential

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e12, max_value=1e12)


def brute_force(network: Network, x: list[Fraction]) -> list[list[Fraction]]:
    values: list[list[Fraction]] = []
    for node in network.nodes:
        if isinstance(node, Input):
            values.append(x)
        elif isinstance(node, Relu):
            values.append([max(v, Fraction(0)) for v in values[node.parent]])
        else:
            result = [Fraction(b) for b in node.bias.tolist()]
            for parent, linear in zip(node.parents, node.maps, strict=True):
                matrix, divisors = linear.rows()
                for i, row in enumerate(matrix.toarray().tolist()):
                    product = sum((Fraction(w) * v for w, v in zip(row, values[parent], strict=True)), Fraction(0))
                    result[i] += product if divisors is None else product / Fraction(float(divisors[i]))
            values.append(result)
    return values


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Input, convolution, ReLU, divided sparse map, dense map and a residual connection, with any floats for weights."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def weights(*shape: int) -> np.ndarray:
        mantissas = generator.standard_normal(shape) * (generator.random(shape) < 0.8)
        return np.ldexp(mantissas, generator.integers(-60, 60, shape))

    conv = Conv(weights(2, 1, 2, 2), (1, 3, 2), padding=(1, 0, 0, 0))
    divided = Sparse(sparse.csr_matrix(weights(4, conv.out_size)), generator.choice([-3.0, 0.1, 7.0], 4))
    nodes = (
        Input(6),
        Affine((0,), (conv,), weights(conv.out_size)),
        Relu(1, conv.out_size),
        Affine((2,), (divided,), np.zeros(4)),
        Relu(3, 4),
        Affine((4, 0, 2), (Dense(weights(3, 4)), Dense(weights(3, 6)), Dense(weights(3, conv.out_size))), weights(3)),
    )
    return Network(nodes, (1, 3, 2), (3,))


@settings(max_examples=60)
@given(networks(), st.lists(FINITE | st.fractions(max_denominator=10**9), min_size=6, max_size=6))
def test_against_brute_force(network: Network, x: list) -> None:
    expected = brute_force(network, [Fraction(v) for v in x])
    assert evaluate_all(network, x) == expected
    assert evaluate(network, x) == expected[-1]


def test_a_difference_that_float64_cannot_see() -> None:
    network = sequential([Dense(np.array([[1.0, -1.0]]))], [np.zeros(1)])
    tiny = Fraction(1, 2**200)
    assert evaluate(network, [1 + tiny, 1.0]) == [tiny]
    assert network.forward(np.array([float(1 + tiny), 1.0])) == 0.0


@pytest.mark.parametrize("slope", [1e6, 2.0**30])
def test_the_steep_line(slope: float) -> None:
    """y = s relu(x - 1) on [0, 1 + 1/s]: the value at the right end, 1 up to the rounding of that end."""
    network = sequential([Dense(np.ones((1, 1))), Dense(np.full((1, 1), slope))], [-np.ones(1), np.zeros(1)])
    assert evaluate(network, [1 + 1 / Fraction(slope)]) == [1]
    assert evaluate(network, [1 + 1 / slope]) == [Fraction(slope) * (Fraction(1 + 1 / slope) - 1)]


def test_arrays_and_float32() -> None:
    network = sequential([Dense(np.array([[0.1, 3.0]]))], [np.array([0.25])])
    x = np.array([0.1, 0.2], dtype=np.float32)
    assert evaluate(network, x) == brute_force(network, [Fraction(float(v)) for v in x])[-1]


def test_empty_rows_are_zero() -> None:
    linear: LinearMap = Sparse(sparse.csr_matrix(np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])))
    assert evaluate(sequential([linear], [np.zeros(3)]), [1.0, 1.0]) == [0, 3, 0]


def test_integers() -> None:
    numerators, denominator = integers([0.5, Fraction(1, 3), -2.0])
    assert [Fraction(n, denominator) for n in numerators] == [Fraction(1, 2), Fraction(1, 3), -2]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8))
@example([])
@example([5e-324, 1.7e308])
@example([0.0, -0.0, 2.0**60, -3.0])
@example([2.0**62, 1.0])
@example([-(2.0**62), 0.5])
def test_integers_of_arrays(values: list[float]) -> None:
    numerators, denominator = integers(np.array(values, dtype=np.float64))
    assert all(isinstance(n, int) for n in numerators)
    assert [Fraction(n, denominator) for n in numerators] == [Fraction(v) for v in values]


@pytest.mark.parametrize("x", [[1.0], [1.0, np.nan], [1.0, np.inf], [1.0, 2.0, 3.0]])
def test_points_that_do_not_fit(x: list[float]) -> None:
    with pytest.raises(DataError, match="needs 2 finite numbers"):
        evaluate(sequential([Dense(np.ones((1, 2)))], [np.zeros(1)]), x)
