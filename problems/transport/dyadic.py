"""Images in float64 whose mass is exactly that of another: rounded to a dyadic grid fine enough, with the rest put where it is exact.

Sums of float64 pixels are not float64 in general, so an image near a given one, with the same mass in exact arithmetic, has to be made with
care. All pixels are rounded to multiples of a power of two of which the mass is less than 2^52; integers then count exactly.
Pixels of images stored in float32 are such multiples themselves. Where the mass is none, what is left over is put on pixels
small enough to hold its digits.
"""

from fractions import Fraction

import numpy as np

from problems.rounding import round_down
from problems.transport.grid import Array, Grid


def settled(images: Array, center: Array, grid: Grid, cap: float) -> Array:
    """For float images (B, n), near images with 0 <= pixels <= cap and in every channel the exact mass of center (n,).

    Where an image cannot be mended it comes back as the center.
    """
    result = np.empty_like(images)
    for channel, mass in enumerate(grid.masses(center)):
        part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
        result[:, part] = _channel(images[:, part], center[part], mass, cap)
    return result


def _channel(images: Array, center: Array, mass: Fraction, cap: float) -> Array:
    if not mass:
        return np.zeros_like(images)
    total = float(mass)
    unit = 2.0 ** (int(np.frexp(total)[1]) - 52)
    cut = np.clip(np.nan_to_num(images), 0.0, cap)
    sums = cut.sum(axis=1, keepdims=True)
    # Too much: shrink what was gained. Too little: give back what was taken.
    gained, taken = np.maximum(cut - center, 0.0), np.maximum(center - cut, 0.0)
    surplus = sums - total
    more, less = gained.sum(axis=1, keepdims=True), taken.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        cut -= np.where((surplus > 0) & (more > 0), np.minimum(surplus / more, 1.0) * gained, 0.0)
        cut += np.where((surplus < 0) & (less > 0), np.minimum(-surplus / less, 1.0) * taken, 0.0)
    counts = np.rint(np.maximum(cut, 0.0) / unit).astype(np.int64)
    most = int(cap / unit) if np.isfinite(cap) else (2**53)
    counts = np.minimum(counts, most)
    whole = mass // Fraction(unit)
    rest = mass - whole * Fraction(unit)
    lacking = int(whole) - counts.sum(axis=1)
    if not rest:
        return _filled(counts, lacking, most, unit, center)
    result = np.empty_like(cut)
    for index, count in enumerate(counts):
        result[index] = _balanced(count, int(lacking[index]), rest, unit, most, center)
    return result


def _filled(counts: Array, lacking: Array, most: int, unit: float, center: Array) -> Array:
    """The images (B, P) of these counts of the unit, with what lacks (B,) put where there is most room."""
    everyone = np.arange(len(counts))
    place = np.where((lacking < 0) | (most == 2**53), counts.argmax(axis=1), counts.argmin(axis=1))
    filled = counts[everyone, place] + lacking
    counts = counts.copy()
    counts[everyone, place] = filled
    return np.where(((filled >= 0) & (filled <= most))[:, None], counts * unit, center)


def _balanced(count: Array, lacking: int, rest: Fraction, unit: float, most: int, center: Array) -> Array:
    """The image of these counts (P,) of the unit with what lacks put where there is room, and the rest on a small pixel."""
    place = int(count.argmax()) if most == 2**53 or lacking < 0 else int(np.where(count < most, most - count, -1).argmax())
    if count[place] + lacking < 0 or count[place] + lacking > most:
        return center.copy()
    count = count.copy()
    count[place] += lacking
    image = count * unit
    # Small pixels hold fine digits beside their own; a pixel that cannot gives its own to the large one, and holds nothing else.
    for host in np.argsort(count, kind="stable"):
        if not rest:
            return image
        if host == place:
            continue
        whole = Fraction(image[host]) + rest
        held = round_down(whole)
        if Fraction(held) == whole and held <= most * unit:
            rest, image[host] = Fraction(0), held
        elif count[place] + count[host] <= most:
            count[place] += count[host]
            image[place] = count[place] * unit
            image[host] = round_down(rest)
            rest -= Fraction(image[host])
    return image if not rest else center.copy()
