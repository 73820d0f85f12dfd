"""Imported once by the process from which the tests fork commands, before the first of them.

A forked command then does not look for Hydra's plugins, nor read the files of choices that are
composed here.
"""

from __future__ import annotations

import pytest
from hydra.core.plugins import Plugins

from netinv_lightning.config.compose import compose
from tests.composed_choices import remember_choices

remember_choices(pytest.MonkeyPatch())
Plugins.instance()
for choices in ([], ["generator=tiny"]):
    compose(choices)
