"""The builder is exact: whatever is folded or kept apart, the network computes in rational arithmetic what was described.

Random programs are run twice: through the builder, and directly on arrays of Fractions.
"""

from collections.abc import Callable
from fractions import Fraction
from itertools import product as cartesian

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from problems.errors import NetworkError
from problems.exact import evaluate
from problems.maps import Array, Conv, Dense
from problems.network import Affine, Network
from problems.readers.builder import Builder, Value
from problems.readers.pooling import Window, average_pool, max_pool, reduced
from problems.readers.rewrites import clip, leaky, times

SHAPE = (1, 2, 3, 2)


def fractions(array: Array) -> Array:
    """An object array of Fractions."""
    result = np.empty(np.shape(array), dtype=object)
    result.reshape(-1)[:] = [Fraction(float(v)) for v in np.asarray(array).reshape(-1)]
    return result


def positive(array: Array) -> Array:
    return np.where(array > 0, array, Fraction(0))


class Program:
    """Keeps pairs (value of the builder, its exact entries) and applies random operations to them."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.random = generator
        self.builder = Builder(SHAPE)
        self.x = generator.choice([0.5, -0.75, 3.0, 0.1, -1e-3, 7.0], 12)
        self.pairs: list[tuple[Value, Array]] = [(self.builder.input, fractions(self.x).reshape(SHAPE))]

    def constants(self, shape: tuple[int, ...]) -> Array:
        """Numbers that fold sometimes: small dyadic ones, or ones with full mantissas, or very different exponents."""
        style = self.random.integers(3)
        if style == 0:
            return self.random.choice([0.5, -2.0, 1.0, 0.0, 3.0, 0.25], shape)
        return self.random.standard_normal(shape) * (1.0 if style == 1 else 2.0 ** self.random.integers(-80, 80, shape))

    def pick(self) -> tuple[Value, Array]:
        # Mostly the newest value, so that chains of foldable operations occur.
        return self.pairs[-1] if self.random.random() < 0.7 else self.pairs[self.random.integers(len(self.pairs))]

    def step(self) -> None:
        operations: list[Callable[[], tuple[Value, Array]]] = [
            *[self.shift] * 3, *[self.scale] * 3, *[self.divide] * 2, *[self.select] * 2, *[self.dense] * 3, *[self.add] * 2,
            self.relu, self.convolve, self.concatenate, self.leaky, self.clip, self.maximum, self.times,
            self.average, self.max_pool, self.sum,
        ]  # fmt: skip
        value, exact = operations[self.random.integers(len(operations))]()
        assert value.shape == exact.shape
        if self.random.random() < 0.1:
            value = self.builder.settled(value)
        self.pairs.append((value, exact))

    def shift(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        offset = self.constants(value.shape[-1:])
        return self.builder.shift(value, offset), exact + fractions(offset)

    def scale(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        factor = self.constants(() if self.random.random() < 0.5 else value.shape)
        return self.builder.scale(value, factor), exact * fractions(factor)

    def divide(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        divisor = self.random.choice([0.1, 0.3081, 4.0, -3.0, 1e-5], value.shape[-1:])
        return self.builder.divide(value, divisor), exact / fractions(divisor)

    def select(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        index = self.random.integers(-1, value.size, SHAPE)
        entries = np.append(exact.reshape(-1), Fraction(0))  # index -1 is the zero at the end
        return self.builder.select(value, index), entries[index]

    def dense(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        weights = self.constants((4, value.size))
        return self.builder.dense(value, weights, (1, 4, 1, 1)), fractions(weights).dot(exact.reshape(-1)).reshape(1, 4, 1, 1)

    def add(self) -> tuple[Value, Array]:
        (first, a), (second, b) = self.pick(), self.pick()
        if self.random.random() < 0.3:
            constant = self.constants(first.shape)
            second, b = self.builder.constant(constant), fractions(constant)
        try:
            np.broadcast_shapes(first.shape, second.shape)
        except ValueError:
            second, b = first, a
        return self.builder.add(first, second), a + b

    def relu(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        return self.builder.relu(value), positive(exact)

    def convolve(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        kernel = self.constants((2, value.shape[1], 1, 1))
        flat = exact.reshape(value.shape[1], -1)
        mixed = fractions(kernel)[:, :, 0, 0].dot(flat).reshape(1, 2, *value.shape[2:])
        return self.builder.convolve(value, kernel), mixed

    def concatenate(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        other = self.builder.relu(value)
        return self.builder.concatenate([value, other, value], -1), np.concatenate([exact, positive(exact), exact], axis=-1)

    def leaky(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        slope = self.random.choice([0.25, 0.01, 1e-30])
        return leaky(self.builder, value, np.array(slope)), np.where(exact < 0, exact * Fraction(slope), exact)

    def clip(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        low, high = -0.3, 1.7
        return clip(self.builder, value, low, high), np.minimum(np.maximum(exact, Fraction(low)), Fraction(high))

    def maximum(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        negative = self.builder.negate(value)
        return self.builder.maximum(value, negative), np.maximum(exact, -exact)

    def times(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        if self.random.random() < 0.5:
            weights = self.constants((value.shape[-1], 2))
            return times(self.builder, value, weights), exact.dot(fractions(weights))
        weights = self.constants((2, value.shape[-2]))
        return times(self.builder, value, weights, left=True), np.matmul(fractions(weights), exact)

    def average(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        window = Window((min(3, value.shape[2]), 1), (1, 1))
        height = value.shape[2] - window.kernel[0] + 1
        rows = [exact[:, :, i : i + window.kernel[0]].sum(axis=2) / Fraction(window.kernel[0]) for i in range(height)]
        return average_pool(self.builder, value, window, count_padding=False), np.stack(rows, axis=2)

    def max_pool(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        window = Window((1, min(2, value.shape[3])), (1, 1))
        width = value.shape[3] - window.kernel[1] + 1
        return max_pool(self.builder, value, window), np.stack(
            [exact[..., i : i + window.kernel[1]].max(axis=3) for i in range(width)], axis=3
        )

    def sum(self) -> tuple[Value, Array]:
        value, exact = self.pick()
        return reduced(self.builder, value, (1, 3), keep=True, mean=False), exact.sum(axis=(1, 3), keepdims=True)


@settings(max_examples=250)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
@example(0, 9)
def test_random_programs_are_exact(seed: int, length: int) -> None:
    program = Program(np.random.default_rng(seed))
    for _ in range(length):
        if program.pairs[-1][0].size > 60:
            break
        program.step()
    value, exact = program.pairs[-1]
    network, renumbered = program.builder.finish(value, input_shape=SHAPE[1:], output_shape=value.shape)
    assert evaluate(network, program.x) == list(exact.reshape(-1))
    assert set(renumbered.values()) == set(range(len(network.nodes)))
    # What the engine relies on: a ReLU stands on an affine node.
    assert all(isinstance(network.nodes[network.nodes[i].parent], Affine) for i in network.relus)  # type: ignore[union-attr]


def finished(builder: Builder, value: Value) -> Network:
    return builder.finish(value, input_shape=SHAPE[1:], output_shape=value.shape)[0]


def test_a_constant_output() -> None:
    builder = Builder(SHAPE)
    network = finished(builder, builder.scale(builder.constant(np.array([[0.1, 3.0]])), np.array(0.1)))
    assert evaluate(network, np.zeros(12)) == [Fraction(0.1) * Fraction(0.1), 3 * Fraction(0.1)]


def test_the_input_itself() -> None:
    builder = Builder(SHAPE)
    x = np.arange(12.0)
    assert evaluate(finished(builder, builder.input), x) == list(x)


def test_a_value_is_made_once() -> None:
    builder = Builder(SHAPE)
    hidden = builder.dense(builder.input, np.ones((3, 12)), (1, 3))
    once, again = builder.relu(hidden), builder.relu(hidden)
    network = finished(builder, builder.add(once, again))
    assert sum(isinstance(node, Affine) and isinstance(node.maps[0], Dense) for node in network.nodes) == 1


def test_scaling_channels_keeps_a_convolution() -> None:
    builder = Builder(SHAPE)
    convolved = builder.convolve(builder.input, np.ones((2, 2, 1, 1)))
    network = finished(builder, builder.scale(convolved, np.array([2.0, 3.0]).reshape(2, 1, 1)))
    assert isinstance(network.nodes[-1], Affine)
    assert isinstance(network.nodes[-1].maps[0], Conv)


@pytest.mark.parametrize("divisor", [0.0, np.nan, np.inf])
def test_division_by_nothing(divisor: float) -> None:
    builder = Builder(SHAPE)
    with pytest.raises(NetworkError, match="divides by zero, by NaN or by infinity"):
        builder.divide(builder.input, np.array(divisor))


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling_windows(ceil_mode: bool) -> None:
    """Against a table made the slow way."""
    for height, kernel, stride, pad in cartesian((4, 5, 6), (1, 2, 3), (1, 2, 3), (0, 1)):
        if 2 * pad > kernel:
            continue
        index, padded = Window((kernel, 1), (stride, 1), (pad, 0, pad, 0), ceil_mode=ceil_mode).table((1, height, 1))
        assert index.shape == padded.shape
        for i, (taps, inside) in enumerate(zip(index[0, :, 0], padded[0, :, 0], strict=True)):
            rows = [i * stride - pad + k for k in range(kernel)]
            assert list(taps) == [row if 0 <= row < height else -1 for row in rows]
            assert list(inside) == [row < height + pad for row in rows]
