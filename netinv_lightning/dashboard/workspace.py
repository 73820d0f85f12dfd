"""The W&B dashboard of the project as code.

Metrics are named in metric_names.py only. A test compares the keys of all panels with those that
real runs log. W&B is imported when the dashboard is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netinv_lightning import metric_names as names
from netinv_lightning.data.specs import SPECS

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

CLOSED = ("Interpretability", "Out-of-distribution", "Reconstruction", "Uses of inverted data")
"""Sections that are empty unless the project has runs of certain applications."""


def build(entity: str, project: str, data: str = "mnist") -> ws.Workspace:
    """Return the dashboard. This needs neither network access nor a login.

    Args:
        entity: User or team that owns the project.
        project: Project of the runs.
        data: Data set whose classes are listed in the panel of accuracy per class.
    """
    import wandb_workspaces.workspaces as ws

    from netinv_lightning.dashboard import panels

    sections = {
        "Inversion accuracy": panels.accuracy(SPECS[data].class_names),
        "Loss terms": panels.loss_terms(),
        "Samples": panels.samples(),
        "Interpretability": panels.interpretability(),
        "Out-of-distribution": panels.out_of_distribution(),
        "Reconstruction": panels.reconstruction(),
        "Uses of inverted data": panels.uses(),
        "Sweep comparison": panels.sweep_comparison(),
        "Cost": panels.cost(),
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Network inversion, {data}",
        sections=[
            ws.Section(name=title, panels=content, is_open=title not in CLOSED)
            for title, content in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis=names.STEP, max_runs=30),
        runset_settings=ws.RunsetSettings(
            order=[ws.Ordering(ws.Summary(names.INVERSION_ACCURACY), ascending=False)],
            pinned_columns=[
                f"summary:{names.INVERSION_ACCURACY}",
                f"summary:{names.STEPS_TO_95}",
                "config:conditioning.value.mode",
            ],
        ),
    )


def spec(workspace: ws.Workspace) -> str:
    """Return the view that W&B would store, as JSON."""
    # The package has no public function for it; `pyproject.toml` sets the lowest version.
    return workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)


def publish(workspace: ws.Workspace) -> str:
    """Save the dashboard as a new view of its project and return its address.

    Raises:
        InputError: if there is no login.
        ConnectionError: if W&B does not answer.
    """
    from netinv_lightning.tracking.wandb_login import check_login

    if not check_login("netinv dashboard", "or write the view to a file with --json FILE"):
        raise ConnectionError("W&B does not answer")
    workspace.save()
    return str(workspace.url)
