"""Figures of runs. Each function draws one figure and writes its files atomically."""

from netinv_lightning.figures.images import confusion_matrix, image_grid

__all__ = ["confusion_matrix", "image_grid"]
