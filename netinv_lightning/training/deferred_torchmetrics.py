"""Load torchmetrics without the metrics that nothing needs yet.

Lightning imports torchmetrics for the class `Metric` alone, and we import single metrics. Python
then imports all metrics of the package, and with them torchvision, scipy and, where they are
installed, transformers: 3 seconds of every command. Here `torchmetrics` and
`torchmetrics.functional` are modules whose submodules can be imported one by one, and which become
the whole package as soon as any other name is read.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PACKAGE = "torchmetrics"
FUNCTIONAL = f"{PACKAGE}.functional"
EARLY = {
    (PACKAGE, "Metric"): "torchmetrics.metric",
    (PACKAGE, "MetricCollection"): "torchmetrics.collections",
    (PACKAGE, "__version__"): "torchmetrics.__about__",
}
"""Names that can be read without loading the rest, and the modules that define them."""


class DeferredPackage(ModuleType):
    """A package before its `__init__` has run; the first name that is not here runs it."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__package__ = spec, spec.loader, spec.name
        self.__path__ = spec.submodule_search_locations or []
        self.__file__ = spec.origin

    def __getattr__(self, name: str) -> Any:
        if module := EARLY.get((self.__name__, name)):
            import_module(f"{PACKAGE}.utilities")  # first: metric and utilities import each other
            value = getattr(import_module(module), name)
            setattr(self, name, value)
            return value
        if name.startswith("__") and name != "__all__":  # read by tools that inspect all modules
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self._load()
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        self._load()
        return dir(self)

    def _load(self) -> None:
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__loader__.exec_module(self)  # type: ignore[union-attr]


def defer_torchmetrics() -> None:
    """Defer the metrics of torchmetrics, unless they are loaded already or not installed."""
    if PACKAGE in sys.modules or (spec := find_spec(PACKAGE)) is None:
        return
    package = sys.modules[PACKAGE] = DeferredPackage(spec)
    if (spec := find_spec(FUNCTIONAL)) is not None:
        functional = sys.modules[FUNCTIONAL] = DeferredPackage(spec)
        # Its modules read the logger, and importing a submodule sets it as an attribute.
        vars(package).update(_logger=logging.getLogger(PACKAGE), functional=functional)
