"""What every inversion method is to the code that uses it."""

from __future__ import annotations

from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.module import InversionModule

Inverter = InversionModule | PixelInversion
"""Draws images for conditions: trained generators, or gradient descent on the pixels."""
