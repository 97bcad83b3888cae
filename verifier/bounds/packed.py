"""Networks and bounds in the flat arrays that the compiled kernels read and write."""

from dataclasses import dataclass

from problems.maps import Array


@dataclass(frozen=True, eq=False)
class Chain:
    """A network of layers x -> relu(W x + b), one after the other, packed for the kernel.

    sizes (K + 1,): input size and the size of each affine layer; starts (K + 1,): where layer k stands in a vector over all of them;
    places (K + 1,): where its weights stand in `weights` (row by row), `transposed` and, without signs, `absolute` (column by column);
    errors (K,) as in kernel.py.
    """

    sizes: Array
    starts: Array
    places: Array
    weights: Array
    transposed: Array
    absolute: Array
    biases: Array
    interval_errors: Array
    crown_errors: Array
    support_error: float

    @property
    def layers(self) -> int:
        return len(self.sizes) - 1

    @property
    def neurons(self) -> int:
        """h: all layers but the last."""
        return int(self.starts[-2])

    def layer(self, k: int) -> slice:
        return slice(int(self.starts[k]), int(self.starts[k + 1]))


@dataclass(frozen=True, eq=False)
class Packed:
    """What the kernel found, side by side for all layers: (B, H) with the outputs, (B, h) without, floors (B, K)."""

    chain: Chain
    low: Array
    high: Array
    magnitude: Array
    upper_slope: Array
    intercept: Array
    slope: Array
    floors: Array
