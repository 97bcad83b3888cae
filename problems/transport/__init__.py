"""Images as distributions of mass on a pixel grid: the grid, its flows, and the support function of the balls W1(image, .) <= radius."""

from problems.transport.grid import Grid

__all__ = ["Grid"]
