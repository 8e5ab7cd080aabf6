"""From run folders to pictures, tables and one HTML page."""

from vaekit.report.page import write_report
from vaekit.report.parts import Cell, Picture, Section, Table
from vaekit.report.pictures import image_grid, pairs_grid, reconstruction_picture, sample_picture, to_unit

__all__ = [
    "Cell",
    "Picture",
    "Section",
    "Table",
    "image_grid",
    "pairs_grid",
    "reconstruction_picture",
    "sample_picture",
    "to_unit",
    "write_report",
]
