"""Load torchmetrics without its functional metrics, until something needs them.

Lightning imports torchmetrics for the class `Metric` alone. The package then imports all of its
metrics, and with them torchvision, scipy and, where they are installed, transformers: 3 seconds of
every command. Here the package is a module that has its two base classes, and that becomes the
whole package as soon as any other name is read.
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
BASE_CLASSES = {"Metric": "torchmetrics.metric", "MetricCollection": "torchmetrics.collections"}
"""Names that are available without the rest, and the modules that define them."""


class DeferredPackage(ModuleType):
    """The package before its `__init__` has run; the first name that is not here runs it."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__package__ = spec, spec.loader, spec.name
        self.__path__ = spec.submodule_search_locations or []
        self.__file__ = spec.origin
        self._logger = logging.getLogger(spec.name)  # which its own modules read

    def __getattr__(self, name: str) -> Any:
        if module := BASE_CLASSES.get(name):
            import_module(f"{PACKAGE}.utilities")  # first: metric and utilities import each other
            value = getattr(import_module(module), name)
            setattr(self, name, value)
            return value
        if name == "__version__":
            return import_module(f"{PACKAGE}.__about__").__version__
        if name.startswith("__") and name != "__all__":  # read by tools that inspect all modules
            raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
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
    if PACKAGE not in sys.modules and (spec := find_spec(PACKAGE)) is not None:
        sys.modules[PACKAGE] = DeferredPackage(spec)
