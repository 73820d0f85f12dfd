"""Check that the package of a logger is installed and this machine is logged in to W&B.

This module does not import torch.
"""

from __future__ import annotations

from importlib.util import find_spec

from netinv_lightning.errors import InputError, one_line

EXTRAS = ("tensorboard",)
"""Loggers whose packages are extras."""


def check_installed(logger: str) -> None:
    """Refuse a logger whose package, an extra of the same name, is not installed.

    Raises:
        InputError: if it is not.
    """
    if logger in EXTRAS and find_spec(logger) is None:
        raise InputError(
            f"logger={logger}: the package {logger} is not installed. "
            f"Run pip install 'netinv_lightning[{logger}]', or use logger=csv"
        )


def check_login(key: str, otherwise: str) -> bool:
    """Refuse a missing or invalid W&B login.

    Args:
        key: The option that needs the login.
        otherwise: What the user may do instead of logging in.

    Returns:
        True if W&B responded; False if the login could not be verified.

    Raises:
        InputError: if the login is missing or refused.
    """
    import wandb

    try:
        known = wandb.login(prompt=False)
    except wandb.errors.AuthenticationError as error:
        if "did not respond in time" in str(error):
            return False
        raise InputError(
            f"{key}: W&B refuses the login ({one_line(error)}); run `wandb login --relogin`, "
            f"{otherwise}"
        ) from error
    if not known:
        raise InputError(f"{key}: W&B has no login on this machine; run `wandb login`, {otherwise}")
    return True
