"""The pixel grid on which mass moves: its edges, its ground distance, and what one may ask of an image on it.

An image x >= 0 of shape (channels, height, width) is a distribution of mass on the pixels; in colour images the mass of every channel
stays in its channel. Distances are counted in pixels, cost in mass times distance of the image as it stands: divided by
the image's total mass it is the distance between images of mass 1 (THEORY.md section 6).
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
import scipy.sparse as sparse

from problems.errors import DataError, InputError
from problems.network import Network

Array = np.ndarray

GROUNDS = ("l1", "l2")
PIXELS = ("simplex", "image")


@dataclass(frozen=True)
class Grid:
    """channels x height x width pixels with ground distance "l1" (|di| + |dj|) or "l2" (Euclidean). Raises InputError."""

    channels: int
    height: int
    width: int
    ground: str = "l1"

    def __post_init__(self) -> None:
        if self.ground not in GROUNDS:
            raise InputError("ground", f"{self.ground!r} is not a ground distance.", "Use l1 or l2.")
        if min(self.channels, self.height, self.width) < 1:
            raise InputError("grid", f"{self.shape} has no pixels.", "Give the shape (channels, height, width) of the images.")

    @classmethod
    def of(cls, shape: tuple[int, ...], ground: str = "l1") -> "Grid":
        """The grid of images of shape (H, W), (C, H, W) or (1, C, H, W)."""
        while len(shape) > 3 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) not in (2, 3):
            raise InputError("grid", f"inputs of shape {shape} are no images.", "Mass moves on images of shape (H, W) or (C, H, W).")
        channels, height, width = (1, *shape)[-3:]
        return cls(channels, height, width, ground)

    @classmethod
    def of_network(cls, network: Network, image_shape: tuple[int, ...] | None = None, ground: str = "l1") -> "Grid":
        """The grid of a network's input: its own shape if that is an image, else the data's, else a square. Raises InputError."""
        n = network.input_size
        shape = tuple(size for size in network.input_shape if size > 0)
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        candidates = [shape, image_shape or (), (round(n**0.5), round(n**0.5))]
        for candidate in candidates:
            if len(candidate) in (2, 3) and int(np.prod(candidate)) == n and min(candidate[-2:]) > 1:
                return cls.of(candidate, ground)
        raise InputError(network.name, f"its {n} inputs are no grid of pixels.", "Give the images' shape (channels, height, width).")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def pixels(self) -> int:
        """P: the number of pixels of one channel."""
        return self.height * self.width

    @property
    def size(self) -> int:
        """n = channels P."""
        return self.channels * self.pixels

    @property
    def diameter(self) -> int:
        """The largest L1 distance of two pixels."""
        return self.height + self.width - 2

    @cached_property
    def edges(self) -> tuple[Array, Array, Array]:
        """(tail (E,), head (E,), length (E,)): the undirected edges along which mass moves, tail < head, over all channels.

        For l1 the neighbours of the grid (length 1), which are enough (Levine and Feizi 2020; Ling and Okada 2007); for l2 all pairs
        of pixels of a channel, their lengths rounded to nearest.
        """
        index = np.arange(self.pixels).reshape(self.height, self.width)
        if self.ground == "l1":
            tail = np.concatenate([index[:-1].ravel(), index[:, :-1].ravel()])
            head = np.concatenate([index[1:].ravel(), index[:, 1:].ravel()])
        else:
            tail, head = np.triu_indices(self.pixels, 1)
        shifts = np.repeat(np.arange(self.channels) * self.pixels, len(tail))
        length = np.ones(len(tail)) if self.ground == "l1" else self.distances[tail, head]
        return np.tile(tail, self.channels) + shifts, np.tile(head, self.channels) + shifts, np.tile(length, self.channels)

    @cached_property
    def incidence(self) -> sparse.csr_matrix:
        """A (n, E): -1 at the tail, +1 at the head of each edge, so that nu = mu + A delta for a signed flow delta."""
        tail, head, _ = self.edges
        count = len(tail)
        data = np.concatenate([-np.ones(count), np.ones(count)])
        places = np.concatenate([tail, head]), np.tile(np.arange(count), 2)
        return sparse.csr_matrix((data, places), shape=(self.size, count))

    @cached_property
    def distances(self) -> Array:
        """(P, P) ground distances within a channel; l2 rounded to nearest, within one unit in the last place."""
        i, j = (part.ravel().astype(float) for part in np.indices((self.height, self.width)))
        di, dj = i[:, None] - i, j[:, None] - j
        return np.abs(di) + np.abs(dj) if self.ground == "l1" else np.sqrt(di * di + dj * dj)

    def masses(self, x: Array) -> list[Fraction]:
        """The exact mass of every channel of an image x (n,)."""
        rows = np.asarray(x, dtype=np.float64).reshape(self.channels, -1)
        return [sum((Fraction(value) for value in row.tolist() if value), Fraction(0)) for row in rows]

    def mass(self, x: Array) -> Fraction:
        """The exact mass of an image x (n,): what costs are divided by."""
        return sum(self.masses(x), Fraction(0))

    def check_image(self, x: Array, place: str = "image") -> Array:
        """x as a float64 image (n,), or DataError: wrong grid, NaN, negative pixels, no mass."""
        x = np.asarray(x, dtype=np.float64).ravel()
        if len(x) != self.size:
            raise DataError(place, f"{len(x)} pixels do not fit a grid of shape {self.shape}.", "Give images of the grid's shape.")
        if not np.isfinite(x).all():
            raise DataError(place, f"pixel {int(np.argmin(np.isfinite(x)))} is not finite.", "Give finite pixels.")
        if (x < 0).any():
            raise DataError(place, f"pixel {int(np.argmin(x))} is negative.", "Mass is never negative: shift or clip the data first.")
        if not (x > 0).any():
            raise DataError(place, "has no mass.", "An image that is zero everywhere has nothing to move.")
        return x


@lru_cache(maxsize=4)
def all_lengths(grid: Grid) -> Array:
    """The grid's distances, kept."""
    return grid.distances


@lru_cache(maxsize=4)
def neighbourhoods(grid: Grid) -> tuple[Array, Array]:
    """(order (P, P), lengths (P, P)): for every pixel all pixels of its channel by growing distance, and the distances."""
    lengths = all_lengths(grid)
    order = lengths.argsort(axis=1, kind="stable")
    return order, np.take_along_axis(lengths, order, axis=1)
