"""Pictures of a run, and figures for a paper. Each function draws one figure and writes it whole."""

from netinv_lightning.figures.images import confusion_matrix, image_grid

__all__ = ["confusion_matrix", "image_grid"]
