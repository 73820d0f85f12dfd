"""Figures drawn coarsely, for tests of runs; the tests of figures draw them as users get them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

DPI = 60


@pytest.fixture(scope="module", autouse=True)
def coarse_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw at few dots per inch, and do not arrange the parts: this takes half of the time.

    Files and folders of tests that are named after figures get them as users do.
    """
    if "figure" in request.node.nodeid:
        yield
        return

    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    write = Figure.savefig

    def coarse(figure: Figure, *args: Any, **options: Any) -> None:
        write(figure, *args, **{**options, "dpi": DPI})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", coarse)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield
