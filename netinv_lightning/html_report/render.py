"""Contents as one HTML page that needs nothing else: no network, no file beside it.

Everything that comes from a file is escaped by Jinja. Beyond that a content security policy names the page's two scripts by
their hashes and forbids every other script and all network, so markup in a name could do nothing even if it got through.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import time
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from netinv_lightning import __version__
from netinv_lightning.html_report.curves import Chart
from netinv_lightning.html_report.run_contents import Run, duration
from netinv_lightning.html_report.sweep_contents import Sweep

LONG = 20
"""Rows from which on a table has a filter."""


def render(run: Run | None, sweep: Sweep | None, output: Path) -> str:
    """The page of a run, of several, or of a run that holds several.

    Args:
        run: What to show of one run.
        sweep: What to show of several.
        output: Where the page will be: links to other files are relative to it.
    """
    charts = [_chart(chart) for chart in run.charts] if run else []
    comparison = (
        sweep.comparison
        if sweep and sweep.comparison["runs"] and sweep.comparison["metrics"]
        else None
    )
    script, plotly = _file("page.js"), get_plotlyjs() if charts or comparison else ""
    environment = Environment(
        loader=PackageLoader("netinv_lightning.html_report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["href"] = lambda path: quote(
        os.fsencode(os.path.relpath(path, output.parent))
    )
    environment.filters["duration"] = duration
    environment.filters["broken"] = _broken
    environment.filters["quoted"] = shlex.quote
    page = environment.get_template("page.html.j2").render(
        run=run,
        sweep=sweep,
        title=_title(run, sweep),
        charts=charts,
        comparison=comparison,
        data=_json({"charts": charts, "comparison": comparison}),
        long=LONG,
        style=_file("page.css"),
        script=script,
        plotly=plotly,
        hashes=[
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in (script, plotly)
        ],
        version=__version__,
        made=time.strftime("%Y-%m-%d %H:%M"),
    )
    return page.lstrip()  # of what the macros leave before the doctype


def _title(run: Run | None, sweep: Sweep | None) -> str:
    if run is not None:
        return f"{run.outcome.name or run.path.parent.name}: {run.path.name}"
    assert sweep is not None
    return f"{sweep.path.parent.name}: {sweep.path.name}" if sweep.command else sweep.path.name


def _chart(chart: Chart) -> dict[str, Any]:
    curves = [
        {
            "label": curve.label,
            "x": curve.steps,
            "y": [float(f"{value:.6g}") for value in curve.values],
        }
        for curve in chart.curves
    ]
    return {"title": chart.title, "curves": curves}


def _broken(name: str) -> Markup:
    """A metric's name that may be broken after each part, where it is too long for its place."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])|(?<=\.)(?=[a-z])", name))


def _json(content: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(content, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
