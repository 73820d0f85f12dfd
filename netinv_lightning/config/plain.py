"""A section of a config as a plain dictionary."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf


def plain_dict(section: DictConfig) -> dict[str, Any]:
    """Return a section of a config as plain containers, with interpolations resolved."""
    plain = OmegaConf.to_container(section, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
