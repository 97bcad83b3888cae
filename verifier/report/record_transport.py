"""What an audit keeps of moved mass: plain values, which go to JSON and back without loss."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MovedImage:
    """An image and its radius in units of mass 1.

    lower <= radius <= upper; bounds: what bounds alone certify, attack: what the attack reached; before (n,), after (n,) the nearest
    misclassified image and `found` its class, None where none is known.
    """

    sample: int
    label: int
    lower: float
    upper: float
    bounds: float
    attack: float
    before: tuple[float, ...]
    after: tuple[float, ...] | None
    found: int | None


@dataclass(frozen=True)
class TransportRadii:
    """Radii of images on a grid of `shape` (channels, height, width), ground distance "l1" or "l2", pixels "simplex" or "image".

    images: those that were answered, of `wanted` that were asked; seconds of work; timeout: the seconds that were meant for it;
    complete: False after an interrupt.
    """

    shape: tuple[int, ...]
    ground: str
    pixels: str
    images: tuple[MovedImage, ...]
    wanted: int
    seconds: float
    timeout: float
    complete: bool = True
