"""The zoo: small classifiers that were trained on real data and are part of the package.

It contains the papers' CNN for each data set, and two verifiers: networks of other architectures
and seeds that no inversion uses. `mnist_vit` is a transformer without BatchNorm, for inversion.
`mnist_strided` is a verifier of another kind, on which no setting was chosen: no BatchNorm, no
pooling, no piecewise linear activation. `make zoo` trains all of them again.
"""

from __future__ import annotations

from pathlib import Path

from netinv_lightning.errors import InputError, nearest

CHOSE_NOTHING = ("mnist_strided",)
"""Verifiers of the zoo on which no default was chosen. The defaults of recipes, losses and methods
were chosen on the others."""
ZOO = Path(__file__).parent / "zoo_weights"


def zoo_names() -> list[str]:
    return sorted(path.stem for path in ZOO.glob("*.safetensors"))


def zoo_path(name: str, key: str = "classifier.zoo") -> Path:
    """Return the file of the zoo's classifier `name`; `key` is the config key, for the message.

    Raises:
        InputError: if the zoo contains no such classifier.
    """
    if name not in zoo_names():
        raise InputError(f"{key}={name}: is not in the zoo; {nearest(name, zoo_names())}")
    return ZOO / f"{name}.safetensors"
