"""Compose a config in a notebook or a script, as the command line does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.config.allowed_targets import check_target
from netinv_lightning.config.command_line import check_override
from netinv_lightning.config.description_check import named_code
from netinv_lightning.config.error_messages import explain
from netinv_lightning.config.registration import CONF, register
from netinv_lightning.config.validate import check
from netinv_lightning.errors import InputError


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config that the command line would compose from these overrides.

    Raises:
        InputError: with the same message as on the command line.
    """
    if isinstance(overrides, str):
        raise InputError(
            f"overrides={overrides!r}: is a string; must be a list of strings: [{overrides!r}]"
        )
    register()
    try:
        with _outside_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
            for override in OverridesParser.create().parse_overrides(list(overrides)):
                check_override(override)
            cfg = hydra_compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error)) from error
    for target in named_code(OmegaConf.to_container(cfg, resolve=True)):
        check_target(target, "overrides")
    check(cfg)
    return cfg


@contextmanager
def _outside_hydra() -> Iterator[None]:
    """Context without the Hydra of the running command: only one can compose at a time."""
    hydra_of_this_run, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = hydra_of_this_run
