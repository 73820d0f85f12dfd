"""Hydra's and OmegaConf's errors, each as one line that names the key and what to do."""

from __future__ import annotations

from netinv_lightning.errors import one_line


def explain(error: Exception) -> str:
    return one_line(error)
