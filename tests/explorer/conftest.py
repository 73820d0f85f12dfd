"""Figures of runs are drawn coarsely."""

from __future__ import annotations

from tests.coarse_figures import coarse_figures

__all__ = ["coarse_figures"]
