"""The keys of each method, with their types and defaults. See `config/schema.py` for the rest.

Imports are light, as there.

Shared keys:
    name: Name of the method; `method=NAME` selects it.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig


@dataclass
class GeneratorMethodConfig:
    """`method=generator`: train a generator, with the keys of `application`, and draw from it."""

    name: str = "generator"


@dataclass
class GradientMethodConfig:
    """`method=gradient`: optimise the pixels of each image.

    The keys are arguments of `netinv_lightning.inversion.methods.gradient.PixelInversion`.
    """

    name: str = "gradient"
    steps: int = 50
    lr: float = 0.3
    parametrisation: str = "pixel"
    jitter: int = 0
    init_std: float = 1.0


@dataclass
class KktMethodConfig:
    """`method=kkt`: reconstruct training images from the stationarity of the weights.

    The keys are arguments of `netinv_lightning.inversion.methods.kkt.KktInversion`.
    """

    name: str = "kkt"
    candidates: int = 1000
    steps: int = 1000
    lr: float = 0.1
    multiplier_lr: float = 0.1
    sharpness: float = 10.0
    final_sharpness: float = 300.0
    init_std: float = 0.1


METHOD_KEYS: dict[str, type] = {
    "generator": GeneratorMethodConfig,
    "gradient": GradientMethodConfig,
    "kkt": KktMethodConfig,
}
"""The schema class of each method, by the name of the method."""

GENERATOR_METHODS = ("generator",)
"""The methods that train generators. The others optimise images when images are drawn."""


def trains_generator(cfg: DictConfig) -> bool:
    """Return whether the method of a config trains generators, which a checkpoint then contains."""
    return cfg.method.name in GENERATOR_METHODS
