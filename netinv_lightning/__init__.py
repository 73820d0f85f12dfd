"""Network inversion: generate images that a trained classifier assigns to a requested class.

    import netinv_lightning as netinv
    result = netinv.invert(my_network)
    result.show()

The public names are imported on first use, so that importing the package is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netinv_lightning.training.deferred_torchmetrics import defer_torchmetrics

if TYPE_CHECKING:
    from netinv_lightning.api import Inversion, compose, invert, load_detector, load_run

__version__ = "0.1.0"
__all__ = ["Inversion", "compose", "invert", "load_detector", "load_run"]

defer_torchmetrics()


def __getattr__(name: str) -> Any:
    if name in __all__:
        from netinv_lightning import api

        return getattr(api, name)
    raise AttributeError(f"module 'netinv_lightning' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
