"""The checkpoint of trained generators in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from netinv_lightning.training.checkpoints import fitting_state
from netinv_lightning.training.monitor import BEST

if TYPE_CHECKING:
    from netinv_lightning.inversion.module import InversionModule


def checkpoint_of(directory: Path) -> Path:
    """Return the path of the checkpoint of a run directory: the best one, if there is one."""
    best = directory / "checkpoints" / f"{BEST}.ckpt"
    return best if best.is_file() else best.with_name("last.ckpt")


def load_weights(module: InversionModule, path: Path) -> None:
    """Load the generators of a checkpoint.

    Raises:
        InputError: if the file is damaged, or belongs to other generators.
    """
    module.load_state_dict(fitting_state(module, path), strict=False)
