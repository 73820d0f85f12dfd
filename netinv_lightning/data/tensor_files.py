"""Read safetensors files, which may come from another person."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.outside_files import open_file


def read_tensors(path: Path, where: str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: if the file is missing or damaged; the message begins with `where`.
    """
    try:
        open_file(path).close()  # a FIFO would block
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{where}: the file does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{where}: is not a complete safetensors file ({one_line(error)}); download it again"
        ) from error
