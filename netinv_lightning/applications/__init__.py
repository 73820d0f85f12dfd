"""The applications, one file each; `application=<name>` selects one.

The file `<name>.py` defines a class `<Name>Application`; `config/application_schema.py` lists the
names and the keys.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.errors import InputError, nearest

if TYPE_CHECKING:
    from netinv_lightning.applications.base import Application


def make_application(cfg: DictConfig) -> Application:
    """Create the application that `cfg.application.name` selects.

    Raises:
        InputError: if the input is wrong.
    """
    name = cfg.application.name
    if name not in APPLICATION_KEYS:
        raise InputError(f"application.name={name}: {nearest(name, APPLICATION_KEYS)}")
    module = import_module(f"{__name__}.{name}")
    application: Application = getattr(module, f"{name.title().replace('_', '')}Application")(cfg)
    return application
