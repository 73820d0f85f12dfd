"""Register the schema and the resolvers of the configs with Hydra, and locate `conf/`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.launch_environment import tidy_environment
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.schema import Config
from netinv_lightning.errors import InputError, printable

# In a checkout, `conf/` is beside the package. In a wheel, it is inside the package.
_PACKAGE = Path(__file__).resolve().parent.parent
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


def run_directory(output: Any, name: Any) -> str:
    """Return the folder of an experiment's runs, `<output>/<name>`.

    Hydra resolves it before it creates the run directory.

    Raises:
        InputError: if `output` is empty, or `name` is not a folder inside `output`.
    """
    for key, value in (("output", str(output)), ("name", str(name))):
        if not value.strip():
            raise InputError(
                f"{key}='': must not be empty. Give the name of a folder, such as {key}=runs"
            )
        if printable(value) != value or "\n" in value or "\t" in value:
            raise InputError(
                f"{key}={value}: must not contain control characters. Give the name of a folder"
            )
    path = Path(str(name))
    if str(name).startswith(("/", "~")) or ".." in path.parts or path == Path():
        raise InputError(
            f"name={name}: must be the name of a folder in output={output}. "
            "Set output=FOLDER to write elsewhere"
        )
    return f"{output}/{name}"


def register() -> None:
    """Add the schema to Hydra's config store, and correct the variables that configs read."""
    tidy_environment()
    _fill_store()


@cache
def _fill_store() -> None:
    """Fill the config store once per process: filling takes a third of the time of composing."""
    OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)
    store = ConfigStore.instance()
    # Hydra copies the whole store at every lookup of a group. For --help these are over a hundred
    # copies, which take a second. They are not needed: Hydra also copies each config it loads.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(name="schema", node=Config, provider="netinv_lightning")
    for group, schemas in (("application", APPLICATION_KEYS), ("method", METHOD_KEYS)):
        for name, schema in schemas.items():
            store.store(
                group=f"schema/{group}",
                name=name,
                node=schema,
                provider="netinv_lightning",
                package=group,
            )
