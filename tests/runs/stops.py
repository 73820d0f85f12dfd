"""How a run is stopped in a test, and what it records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def raising(error: BaseException) -> Callable[..., None]:
    """A function that raises the error, whatever its arguments."""

    def act(*args: Any, **kwargs: Any) -> None:
        raise error

    return act


def status(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "status.json").read_text())
    return content
