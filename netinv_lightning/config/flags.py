"""Keys that are true or false.

OmegaConf would convert every number except 0, such as `application.compile=3`, to true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import get_type_hints

from hydra.core.override_parser.types import Override

from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.schema import Config
from netinv_lightning.errors import InputError


def check_flag(override: Override) -> None:
    """Refuse a number other than 0 and 1 for a key that is true or false.

    Raises:
        InputError: naming the key.
    """
    key, value = override.key_or_group, override.value()
    if isinstance(value, bool) or not isinstance(value, int | float) or value in (0, 1):
        return
    if re.sub(r"^garbage\.\w+\.", "garbage.", key) in _flags():
        raise InputError(f"{key}={value}: must be true or false")


@cache
def _flags() -> frozenset[str]:
    hints = get_type_hints(Config)
    found = {
        f"{field.name}.{flag}"
        for field in fields(Config)
        if hasattr(hints[field.name], "__dataclass_fields__")
        for flag in _flags_of(hints[field.name])
    }
    found |= {f"garbage.{flag}" for flag in _flags_of(GarbageConfig)}
    for group, schemas in (("application", APPLICATION_KEYS), ("method", METHOD_KEYS)):
        found |= {f"{group}.{flag}" for schema in schemas.values() for flag in _flags_of(schema)}
    return frozenset(found)


def _flags_of(schema: type) -> Iterator[str]:
    return (name for name, hint in get_type_hints(schema).items() if hint is bool)
