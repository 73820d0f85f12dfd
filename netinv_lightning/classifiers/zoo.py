"""The zoo: small classifiers that the project trained on real data and ships inside the package.

For each data set the papers' CNN, which is inverted, and two verifiers of other architectures and seeds, which
inversion never sees. `make zoo` trains them all again.
"""

from __future__ import annotations

from pathlib import Path

from netinv_lightning.errors import InputError, nearest

ZOO = Path(__file__).parent / "zoo_weights"


def zoo_names() -> list[str]:
    return sorted(path.stem for path in ZOO.glob("*.safetensors"))


def zoo_path(name: str, key: str = "classifier.zoo") -> Path:
    """The weights of the zoo's classifier `name`, which `key` asks for.

    Raises:
        InputError: if the zoo has no such classifier.
    """
    if name not in zoo_names():
        raise InputError(f"{key}={name}: is not in the zoo; {nearest(name, zoo_names())}")
    return ZOO / f"{name}.safetensors"
