"""What the page says of moved mass: how far the mass of an image has to go until the image is misclassified."""

import numpy as np

from problems.transport.grid import Grid
from verifier.report import transport
from verifier.report.record_transport import MovedImage, TransportRadii


def mass(radii: TransportRadii) -> str:
    """The section, as HTML."""
    distance = "rows plus columns" if radii.ground == "l1" else "Euclidean"
    cap = "pixels stay ≥ 0" if radii.pixels == "simplex" else "pixels stay in [0, 1]"
    asked = "" if len(radii.images) == radii.wanted else f" {len(radii.images)} of {radii.wanted} images were reached in time."
    text = (
        "Here the adversary does not change pixels by some amount each; it carries mass from pixel to pixel and pays mass times distance. "
        "Radii are between images of mass 1 (0.05: five percent of the mass, moved by one pixel), "
        f"distances are {distance}, mass is kept, {cap}.{asked}"
    )
    return transport.section([row_of(image) for image in radii.images], Grid.of(radii.shape, radii.ground), text)


def row_of(image: MovedImage) -> transport.Moved:
    """The record as the pictures take it."""
    after = None if image.after is None else np.array(image.after)
    ends = (image.lower, image.upper, image.bounds, image.attack)
    return transport.Moved(image.sample, image.label, *ends, np.array(image.before), after, image.found)
