"""Panels, metrics and config keys of a view of W&B."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from netinv_lightning.dashboard import workspace


def view(**arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        workspace.spec(workspace.build("me", "netinv", **arguments))
    )["section"]
    return content


def panels_of(view: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for section in view["panelBankConfig"]["sections"]:
        yield from section["panels"]


def strings(content: Any) -> Iterator[str]:
    """Yield the strings of a query, among them the names of tables."""
    if isinstance(content, dict):
        if content.get("nodeType") == "const" and content.get("type") == "string":
            yield content["val"]
        for inner in content.values():
            yield from strings(inner)
    elif isinstance(content, list):
        for inner in content:
            yield from strings(inner)


def keys_of(view: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return all metrics and all config keys of a view."""
    metrics, accessors = (
        {view["settings"]["xAxis"]},
        set(view["runSets"][0]["runFeed"]["columnOrder"]),
    )
    accessors |= {
        f"{sort['key']['section']}:{sort['key']['name']}"
        for sort in view["runSets"][0]["sort"]["keys"]
    }
    for panel in panels_of(view):
        config = panel["config"]
        match panel["viewType"]:
            case "Run History Line Plot":
                metrics |= {config["xAxis"], *config["metrics"]}
            case "Scalar Chart":
                metrics |= set(config["metrics"])
            case "Bar Chart":
                metrics |= set(config["metrics"])
                accessors |= {f"config:{config['groupBy']}"} if "groupBy" in config else set()
            case "Scatter Plot":
                accessors |= {config["xAxis"], config["yAxis"]}
            case "Media Browser":
                metrics |= set(config["mediaKeys"])
            case "Parallel Coordinates Plot":
                accessors |= {column["accessor"] for column in config["columns"]}
            case "Parameter Importance":
                metrics.add(config["targetKey"])
            case "Weave":
                metrics |= {text for text in strings(config) if "/" in text}
            case "Run Comparer":
                pass
            case other:
                raise AssertionError(f"add the keys of panels of type {other} here")
    metrics |= {
        accessor.removeprefix("summary:")
        for accessor in accessors
        if accessor.startswith("summary:")
    }
    return metrics, {
        accessor.removeprefix("config:") for accessor in accessors if accessor.startswith("config:")
    }
