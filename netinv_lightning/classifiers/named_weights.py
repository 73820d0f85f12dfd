"""Find and check the file of weights that a config names.

This module does not import torch, so that the checks can run before torch is imported.
"""

from __future__ import annotations

from pathlib import Path

from netinv_lightning.classifiers.formats.recognise import is_torchscript
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.schema import ClassifierConfig
from netinv_lightning.errors import InputError


def named_weights(keys: ClassifierConfig) -> Path | None:
    """Return the path of the weights that `classifier.zoo` or `classifier.path` names, if any.

    Raises:
        InputError: if both are set, or the zoo contains no such classifier.
    """
    zoo, path = keys.zoo, keys.path
    if zoo is None:
        return None if path is None else Path(path)
    zoo_file = zoo_path(zoo)
    if path is not None:
        raise InputError(
            f"classifier.path={path}: classifier.zoo={zoo} already names other weights. "
            "To use the path, add classifier=checkpoint"
        )
    return zoo_file


def require_weights(path: Path, where: str = "") -> None:
    """Check that there is a file or folder at `path`.

    Args:
        path: The path.
        where: The config key and its value, for the message; empty for `classifier.path`.

    Raises:
        InputError: if there is none.
    """
    if not path.exists():
        zoo = (
            "the name of a classifier in the zoo"
            if where
            else "use a classifier from the zoo: classifier=zoo"
        )
        raise InputError(
            f"{where or f'classifier.path={path}'}: there is no such file. "
            f"Give the path of a checkpoint, or {zoo}"
        )


def network_missing(path: Path) -> InputError:
    """Return the error for weights if neither a model card nor the config names their network."""
    return InputError(
        f"classifier.path={path}: has no model card beside it ({path.with_suffix('.json').name}). "
        "Name its network: +classifier.network={_target_: package.module.Class, ...}, or "
        "classifier=cnn classifier.path=..."
        + (
            "; or, if you trust the code in the file, classifier=torchscript classifier.path=..."
            if is_torchscript(path)
            else ""
        )
    )
