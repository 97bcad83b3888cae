"""Activation cells: their geometry, and their enumeration depth first over the neurons."""

from verifier.enumeration.cell import Cell, CellBatch, affine_map, cell_rows
from verifier.enumeration.stream import stream_batches, stream_cells

__all__ = ["Cell", "CellBatch", "affine_map", "cell_rows", "stream_batches", "stream_cells"]
