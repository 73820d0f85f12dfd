"""The link `runs/latest` to the newest run."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("netinv_lightning")


def link_latest(run_dir: Path) -> None:
    """Let `runs/latest` point to a run in `runs/<name>/<time stamp>/`; ignore other places."""
    if run_dir.parent.parent.name != "runs":
        return
    latest = run_dir.parent.parent / "latest"
    if latest.exists() and not latest.is_symlink():
        log.warning("%s is not a link, so it does not point to this run; rename it", latest)
        return
    temporary = latest.with_name(f"latest.{os.getpid()}")
    try:
        temporary.symlink_to(run_dir.relative_to(latest.parent))
        os.replace(temporary, latest)
    except OSError as error:  # a file system without links
        log.warning("the link %s could not be created: %s", latest, error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
