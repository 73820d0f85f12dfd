"""Files with named arrays: an .npz file, or a folder of .npy files; read without torch.

A large array that is stored uncompressed (`np.savez`, `np.save`) stays on disk: its rows are read
when they are used. A compressed one (`np.savez_compressed`) is read as a whole.
"""

from __future__ import annotations

import math
import os
import struct
import weakref
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

LARGE = 2**28
"""Arrays of more than this number of bytes stay on disk."""
LOCAL_HEADER = struct.Struct("<26xHH")
"""Header of a member of a zip archive: the lengths of its name and of its extra field."""


class ArrayOnDisk:
    """An array in a file, in C order, whose rows are read when they are needed.

    The rows are read, not memory-mapped: mapped pages count as memory of the process. Reading 5,000
    random rows of a mapped file of 2.4 GB mapped nearly all of it (Linux 6.18, pages of 2 MB).

    Args:
        path: The file.
        offset: Position of the first value.
        shape: Shape of the array.
        dtype: Type of its values.

    Attributes:
        rows_read: Number of rows that `rows` has read so far.
    """

    def __init__(self, path: Path, offset: int, shape: Sequence[int], dtype: np.dtype) -> None:
        self.path, self.shape, self.dtype = path, tuple(shape), dtype
        self._file, self._offset = os.open(path, os.O_RDONLY | os.O_CLOEXEC), offset
        weakref.finalize(self, os.close, self._file)
        self.rows_read = 0

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def rows(self, index_n: np.ndarray) -> np.ndarray:
        """Read some rows; consecutive ones are read at once.

        Raises:
            OSError: if the file has become shorter.
        """
        values = np.empty((len(index_n), *self.shape[1:]), self.dtype)
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        buffer = values.reshape(-1).view(np.uint8).data
        ends = [*np.flatnonzero(np.diff(index_n) != 1) + 1, len(index_n)] if len(index_n) else []
        start = 0
        for end in ends:
            part = buffer[start * row_bytes : end * row_bytes]
            position = self._offset + int(index_n[start]) * row_bytes
            while len(part):
                read = os.preadv(self._file, [part], position)
                if not read:
                    raise OSError(f"{self.path}: has become shorter since the start of the run")
                part, position = part[read:], position + read
            start = end
        self.rows_read += len(index_n)
        return values

    def part(self, rows: slice) -> np.ndarray:
        """Read consecutive rows."""
        return self.rows(np.arange(*rows.indices(len(self))))


Array = np.ndarray | ArrayOnDisk


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz file, or of the .npy files in a folder."""
    if path.is_dir():
        return sorted(file.stem for file in path.glob("*.npy") if not file.name.startswith("."))
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        return list(content.files)


def read_array(path: Path, name: str) -> Array:
    """Read an array by its name, or leave it on disk if it is large and uncompressed.

    Raises:
        Exception: of many kinds, if it is damaged; ValueError if it contains Python objects.
    """
    if path.is_dir():
        member = path / f"{name}.npy"
        with member.open("rb") as file:
            on_disk = _on_disk(member, file, 0)
        return np.load(member, allow_pickle=False) if on_disk is None else on_disk
    with path.open("rb") as file, zipfile.ZipFile(file) as content:
        entry = next((e for e in content.infolist() if e.filename == f"{name}.npy"), None)
        if entry is not None and entry.compress_type == zipfile.ZIP_STORED:
            file.seek(entry.header_offset)
            lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
            start = entry.header_offset + LOCAL_HEADER.size + sum(lengths)
            if (on_disk := _on_disk(path, file, start)) is not None:
                return on_disk
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        array: np.ndarray = content[name]
        return array


def _on_disk(path: Path, file: IO[bytes], start: int) -> ArrayOnDisk | None:
    """Open the .npy content at `start` of a file; None if it is small or not in C order."""
    file.seek(start)
    version = npy.read_magic(file)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in read_header:
        return None
    shape, fortran_order, dtype = read_header[version](file)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if fortran_order or dtype.hasobject or size <= LARGE:
        return None
    if path.stat().st_size < file.tell() + size:
        raise ValueError(f"it ends within an array of shape {shape}")
    return ArrayOnDisk(path, file.tell(), shape, dtype)
