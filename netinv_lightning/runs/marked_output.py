"""Mark the lines that a job prints, so that the output of parallel jobs can be told apart."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO, cast


@contextmanager
def marked_output(mark: str) -> Iterator[None]:
    """Context in which each printed line starts with a mark."""
    out, err = MarkedLines(sys.stdout, mark), MarkedLines(sys.stderr, mark)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            yield
        finally:
            out.end()
            err.end()


class MarkedLines(io.TextIOBase):
    """A text stream that writes whole lines, each with a mark; it is not a terminal.

    Args:
        stream: Where the lines go.
        mark: Start of each line.
    """

    def __init__(self, stream: TextIO, mark: str) -> None:
        self.stream, self.mark, self._line = stream, mark, ""

    @property
    def encoding(self) -> str:
        return self.stream.encoding

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = f"{self._line}{text}".split("\n")
        if lines:
            # One call, so that the lines of other processes do not come between.
            self.stream.write("".join(f"{self.mark}{line}\n" for line in lines))
            self.stream.flush()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def end(self) -> None:
        """Write a last line that has no line break."""
        if self._line:
            self.write("\n")
