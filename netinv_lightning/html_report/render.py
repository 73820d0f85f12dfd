"""Renders contents as one HTML page that needs neither the network nor other files.

Jinja escapes every value that comes from a file. In addition, a content security policy allows only
the script of the page, by its hash, and forbids network access. Markup in a name is
therefore harmless even if it is not escaped.
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

from netinv_lightning import __version__
from netinv_lightning.html_report.curves import Chart
from netinv_lightning.html_report.run_contents import Run
from netinv_lightning.html_report.run_facts import duration
from netinv_lightning.html_report.run_figures import PLOTS
from netinv_lightning.html_report.sweep_contents import Sweep

LONG = 20
"""Number of rows above which a table has a filter."""
FIRST_PICTURES = 10
"""Number of pictures of a sweep above its table; the others are folded."""


def render(run: Run | None, sweep: Sweep | None, output: Path) -> str:
    """Return the page of a run, of several runs, or of a run that contains other runs.

    Args:
        run: Contents of one run.
        sweep: Contents of several runs.
        output: The file of the page, to which links to other files are relative.
    """
    charts = [_chart(chart) for chart in run.charts] if run else []
    comparison = (
        sweep.comparison
        if sweep and sweep.comparison["runs"] and sweep.comparison["metrics"]
        else None
    )
    script = f"{_file('page.js')}\n{_file('charts.js')}"
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
    environment.globals["plots"] = PLOTS
    environment.filters["duration"] = duration
    environment.filters["breakable"] = _breakable
    environment.filters["quoted"] = shlex.quote
    page = environment.get_template("page.html.j2").render(
        run=run,
        sweep=sweep,
        title=_title(run, sweep),
        charts=charts,
        comparison=comparison,
        data=_json({"charts": charts, "comparison": comparison}),
        long=LONG,
        first_pictures=FIRST_PICTURES,
        style=_file("page.css"),
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        version=__version__,
        made=time.strftime("%Y-%m-%d %H:%M"),
    )
    return page.lstrip()  # the macros leave empty lines before the doctype


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
    return {"title": chart.title, "curves": curves, "log": chart.log}


def _breakable(name: str) -> Markup:
    """Return a metric's name with possible line breaks after each part."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])|(?<=\.)(?=[a-z])", name))


def _json(content: Any) -> str:
    """Return JSON for a script element; nothing in it can close the element."""
    text = json.dumps(content, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
