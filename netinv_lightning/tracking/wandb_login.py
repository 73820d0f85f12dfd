"""Check that this machine is logged in to W&B, before torch is imported."""

from __future__ import annotations

from netinv_lightning.errors import InputError, one_line


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
