"""The checkpoint of trained generators in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from netinv_lightning.errors import InputError, one_line

if TYPE_CHECKING:
    from netinv_lightning.inversion.module import InversionModule


def checkpoint_of(directory: Path) -> Path:
    """Return the path of the checkpoint of a run directory."""
    return directory / "checkpoints" / "last.ckpt"


def load_weights(module: InversionModule, path: Path) -> None:
    """Load the generators of a checkpoint.

    Raises:
        InputError: if the file is damaged, or belongs to other generators.
    """
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
            "state_dict"
        ]
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    except Exception as error:  # torch raises errors of many kinds for damaged bytes
        raise InputError(
            f"{path}: is not a whole checkpoint ({one_line(error)[:160]}); run it again"
        ) from error
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if wrong := [name for name in {**own, **shapes} if own.get(name) != shapes.get(name)]:
        first = (
            f"{wrong[0]} is {shapes.get(wrong[0], 'missing')} in the file, "
            f"{own.get(wrong[0], 'missing')} in the generator"
        )
        raise InputError(
            f"{path}: belongs to another generator than config.yaml describes "
            f"({first}, {len(wrong)} in all); run it again"
        )
    module.load_state_dict(state, strict=False)
