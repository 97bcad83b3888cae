"""A card that shows an image, what became of it, and the difference."""

from collections.abc import Sequence
from html import escape

import numpy as np

from verifier.report import plots
from verifier.report.tables import number


def card(before: Sequence[float], after: Sequence[float], shape: tuple[int, ...], first: str, second: str, text: str) -> str:
    """Three pictures in a row, the words under the first two, and a text (HTML) below."""
    images = [plots.as_image(values, shape) for values in (before, after)]
    difference = images[1] - images[0]
    largest = float(np.abs(difference).max())
    pictures = [
        (plots.pixels_address(images[0]), first),
        (plots.pixels_address(images[1]), second),
        (plots.pixels_address(difference, limit=largest), f"± {number(largest, 3)}"),
    ]
    row = "".join(f'<div><img alt="{escape(words)}" src="{address}"><small>{escape(words)}</small></div>' for address, words in pictures)
    return f'<div class="card"><div class="row">{row}</div><p>{text}</p></div>'
