"""The three linear maps: the five methods agree with each other, with torch, and with rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.errors import NetworkError
from problems.maps import Conv, Dense, LinearMap, Sparse, identity

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """Random convolutions with small whole numbers as weights: every sum is exact, so that results can be compared with ==."""
    small = st.integers(1, 3)
    groups = draw(st.integers(1, 3))
    per_group, outs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    size = draw(small), draw(small)
    dilation = draw(small), draw(small)
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    spans = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    # An image that the kernel fits into, with a few pixels more.
    height = max(spans[0] - padding[0] - padding[2], 1) + draw(st.integers(0, 4))
    width = max(spans[1] - padding[1] - padding[3], 1) + draw(st.integers(0, 4))
    generator = np.random.default_rng(draw(SEEDS))
    kernel = generator.integers(-4, 5, (groups * outs, per_group, *size)).astype(float)
    return Conv(kernel, (groups * per_group, height, width), (draw(small), draw(small)), padding, dilation, groups)


@st.composite
def sparse_maps(draw: st.DrawFn) -> Sparse:
    generator = np.random.default_rng(draw(SEEDS))
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    matrix = generator.integers(-4, 5, (rows, columns)) * (generator.random((rows, columns)) < 0.4)
    divisors = generator.choice([-4.0, -0.5, 1.0, 2.0], rows) if draw(st.booleans()) else None
    return Sparse(sparse.csr_matrix(matrix.astype(float)), divisors)


@st.composite
def dense_maps(draw: st.DrawFn) -> Dense:
    generator = np.random.default_rng(draw(SEEDS))
    return Dense(generator.integers(-4, 5, (draw(st.integers(1, 6)), draw(st.integers(1, 6)))))


MAPS = st.one_of(convolutions(), sparse_maps(), dense_maps())


def as_matrix(linear: LinearMap) -> np.ndarray:
    matrix, divisors = linear.rows()
    return matrix.toarray() if divisors is None else matrix.toarray() / divisors[:, None]


@settings(max_examples=150)
@given(MAPS, SEEDS)
def test_methods_are_one_matrix(linear: LinearMap, seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = as_matrix(linear)
    assert matrix.shape == (linear.out_size, linear.in_size)
    x = generator.integers(-9, 10, (2, 3, linear.in_size)).astype(float)
    y = generator.integers(-9, 10, (2, 3, linear.out_size)).astype(float)
    np.testing.assert_array_equal(linear.forward(x), x @ matrix.T)
    np.testing.assert_array_equal(linear.transpose(y), y @ matrix)
    np.testing.assert_array_equal(linear.forward(x[0, 0]), matrix @ x[0, 0])
    np.testing.assert_array_equal(as_matrix(linear.absolute()), np.abs(matrix))
    # The adjoint identity <y, A x> = <A^T y, x>.
    np.testing.assert_array_equal((y * linear.forward(x)).sum(axis=-1), (linear.transpose(y) * x).sum(axis=-1))


@given(MAPS)
def test_empty_batch(linear: LinearMap) -> None:
    assert linear.forward(np.zeros((0, linear.in_size))).shape == (0, linear.out_size)
    assert linear.transpose(np.zeros((2, 0, linear.out_size))).shape == (2, 0, linear.in_size)


@settings(max_examples=100)
@given(convolutions(), SEEDS)
def test_convolution_is_that_of_torch(conv: Conv, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-9, 10, (2, conv.in_size)).astype(float)
    top, left, bottom, right = conv.padding
    image = torch.nn.functional.pad(torch.from_numpy(x.reshape(2, *conv.in_shape)), (left, right, top, bottom))
    kernel = torch.from_numpy(conv.kernel)
    expected = torch.nn.functional.conv2d(image, kernel, stride=conv.stride, dilation=conv.dilation, groups=conv.groups)
    assert conv.out_shape == tuple(expected.shape[1:])
    np.testing.assert_array_equal(conv.forward(x), expected.reshape(2, -1).numpy())


@settings(max_examples=40)
@given(MAPS, SEEDS)
def test_terms_bound_the_rounding_error(linear: LinearMap, seed: int) -> None:
    """|float - exact| <= gamma(terms) * (the map on absolute values), for forward and transpose, with weights that do round."""
    generator = np.random.default_rng(seed)
    if isinstance(linear, Conv):
        kernel = generator.standard_normal(linear.kernel.shape)
        linear = Conv(kernel, linear.in_shape, linear.stride, linear.padding, linear.dilation, linear.groups)
    elif isinstance(linear, Dense):
        linear = Dense(generator.standard_normal(linear.weights.shape))
    else:
        matrix = linear.rows()[0].copy()
        matrix.data = generator.standard_normal(len(matrix.data))
        linear = Sparse(matrix, generator.uniform(0.1, 3.0, linear.out_size))
    unit = Fraction(1, 2**53)
    gamma = linear.terms * unit / (1 - linear.terms * unit)
    matrix, divisors = linear.rows()
    exact = [[Fraction(w) for w in row] for row in matrix.toarray().tolist()]
    if divisors is not None:
        exact = [[w / Fraction(d) for w in row] for row, d in zip(exact, divisors.tolist(), strict=True)]
    for apply, rows in ((linear.forward, exact), (linear.transpose, [list(column) for column in zip(*exact, strict=True)])):
        x = generator.standard_normal(len(rows[0])) * 10.0 ** generator.integers(-3, 4, len(rows[0]))
        point = [Fraction(v) for v in x.tolist()]
        for computed, row in zip(apply(x).tolist(), rows, strict=True):
            true = sum((w * v for w, v in zip(row, point, strict=True)), Fraction(0))
            size = sum((abs(w * v) for w, v in zip(row, point, strict=True)), Fraction(0))
            assert abs(Fraction(computed) - true) <= gamma * size


def test_identity() -> None:
    np.testing.assert_array_equal(as_matrix(identity(3)), np.eye(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(bad: float) -> None:
    with pytest.raises(NetworkError, match="NaN or infinite"):
        Dense(np.array([[1.0, bad]]))
    with pytest.raises(NetworkError, match="NaN or infinite"):
        Conv(np.full((1, 1, 1, 1), bad), (1, 2, 2))
    with pytest.raises(NetworkError, match="NaN or infinite"):
        Sparse(sparse.csr_matrix([[bad]]))
    with pytest.raises(NetworkError, match="NaN or infinite"):
        Sparse(sparse.csr_matrix([[1.0]]), np.array([bad]))


def test_shapes_must_fit() -> None:
    with pytest.raises(NetworkError, match="not \\(out, in\\)"):
        Dense(np.zeros(3))
    with pytest.raises(NetworkError, match="does not fit an input"):
        Conv(np.zeros((2, 2, 3, 3)), (3, 8, 8))
    with pytest.raises(NetworkError, match="in 2 groups does not fit"):
        Conv(np.zeros((3, 1, 3, 3)), (2, 8, 8), groups=2)
    with pytest.raises(NetworkError, match="larger than the padded input"):
        Conv(np.zeros((1, 1, 5, 5)), (1, 3, 3))
    with pytest.raises(NetworkError, match="divides by zero"):
        Sparse(sparse.csr_matrix([[1.0]]), np.array([0.0]))
