"""The keys of `application=detect_ood`, with their types and defaults.

The keys that all applications share are described in `application_schema.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DETECTORS = (
    "msp", "max_logit", "energy", "gen", "uncertainty", "lc", "odin", "oodl",
    "mahalanobis", "knn", "vim", "gmm", "cluster", "autoencoder",
    "entropy", "kl_matching", "openmax", "temperature_scaling",
    "rmd", "fdbd", "she", "nci", "nnguide", "pnml", "gradnorm", "nac",
    "react", "dice", "ash", "scale", "vra", "lts", "gram", "combination",
)  # fmt: skip
"""Names of the detectors in the order of the results; a test compares them with the registry."""
SLOW = ("openmax", "gram")
"""Detectors whose time grows with the number of classes or layers; a run must name them."""
DEFAULT = tuple(name for name in DETECTORS if name not in SLOW)
"""The default of `application.detectors`."""


@dataclass
class DetectOodConfig:
    """Keys of `application=detect_ood`: detectors of a frozen classifier, compared on several sets.

    The group `garbage` adds classifiers with a garbage class.

    Attributes:
        detectors: Names of the detectors; `netinv list detectors` describes them.
        outliers: Names of out-of-distribution sets.
        samples: Maximum number of images of each set.
        strengths: RMS changes of a pixel in the perturbation study; empty for no study.
        shifted: Number of test images of the perturbation study.
    """

    name: str = "detect_ood"
    detectors: list[str] = field(default_factory=lambda: list(DEFAULT))
    outliers: list[str] = field(default_factory=lambda: ["gaussian_noise", "uniform_noise"])
    samples: int = 5000
    strengths: list[float] = field(default_factory=list)
    shifted: int = 500
