"""Facts about a run: its config, device, versions, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netinv_lightning.html_report.csv_tables import CellShown, cell
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.outcome import Outcome

_ENTRY_POINTS = ("run.py", "netinv", "netinv.exe", "__main__.py")


def command_of(
    environment: Mapping[str, Any], overrides: Sequence[str] | None = None
) -> tuple[str, str]:
    """Return the shell command that repeats the run, and a note about it; empty if it is unknown.

    Args:
        environment: Contents of the run's `environment.json`.
        overrides: Overrides of this job of a sweep. The command of its process would start the
            whole sweep again.
    """
    if overrides is not None:
        return shlex.join(["netinv", *overrides]), "command of this job of the sweep"
    words = environment.get("command")
    if not isinstance(words, list) or not words or Path(str(words[0])).name not in _ENTRY_POINTS:
        return "", ""
    given = [str(word) for word in words[1:] if not str(word).startswith("hydra.run.dir=")]
    continued = any(word.startswith("resume=") for word in given)
    return shlex.join(["netinv", *given]), "command that continued this run" if continued else ""


def duration(seconds: float) -> str:
    """Return the duration in words: `42.5 s`, `4 min 26 s`, `3 h 7 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def read_facts(
    folder: Folder, outcome: Outcome, environment: Mapping[str, Any]
) -> list[tuple[str, CellShown]]:
    """Return the known facts of a run, by name."""
    config = outcome.config
    inverts = (folder.path / "figures" / "grid.png").is_file()
    generators = config.get("n_generators")
    facts: dict[str, Any] = {
        "name": outcome.name or None,
        "application": _at(config, "application", "name"),
        "data": _at(config, "data", "name"),
        "classifier": _classifier(config.get("classifier")),
        "method": _at(config, "method", "name") if inverts else None,
        "conditioning": _conditioning(config) if inverts else None,
        "generators": generators if inverts and generators != 1 else None,
        "seed": config.get("seed"),
        "state": outcome.state,
        "duration": None if outcome.seconds is None else duration(outcome.seconds),
        "directory": str(folder.path),
        "W&B run": outcome.wandb_run_id,
        "device": environment.get("device"),
        "commit": _commit(environment),
        "versions": _versions(environment),
    }
    return [(name, cell(value)) for name, value in facts.items() if value is not None]


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _conditioning(config: Mapping[str, Any]) -> str | None:
    mode, vectors = _at(config, "conditioning", "mode"), _at(config, "conditioning", "vectors")
    return f"{mode}, {vectors} vectors" if mode and vectors else mode


def _classifier(classifier: Any) -> str | None:
    if not isinstance(classifier, Mapping):
        return None
    if classifier.get("zoo"):
        return f"{classifier['zoo']} (zoo)"
    network = classifier.get("network") or {}
    if isinstance(network, Mapping):
        network = network.get("_target_") or network.get("name")
    origin = "trained by this run" if classifier.get("train") else classifier.get("path")
    return ", ".join(str(part) for part in (network, origin) if part) or None


def _commit(environment: Mapping[str, Any]) -> str | None:
    sha = environment.get("git_sha")
    changes = ", with uncommitted changes" if environment.get("git_dirty") else ""
    return f"{str(sha)[:12]}{changes}" if sha else None


def _versions(environment: Mapping[str, Any]) -> str | None:
    versions = environment.get("versions")
    packages = versions.items() if isinstance(versions, Mapping) else ()
    known = [("python", environment.get("python")), *packages]
    return ", ".join(f"{name} {version}" for name, version in known if version) or None
