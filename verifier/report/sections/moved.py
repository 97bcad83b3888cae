"""What the page says of moved mass: how far the mass of an image has to go until the image is misclassified."""

from verifier.report import transport
from verifier.report.part_transport import TransportRadii


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
    return transport.section(radii.rows, radii.grid, text)
