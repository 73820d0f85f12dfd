"""`netinv dashboard`: the project's W&B dashboard as code.

    netinv dashboard --entity ME --project netinv      saves it as a view of the project and prints its address
    netinv dashboard --json -                          prints what would be saved; no network, no login

`build` is pure. Metrics are named in metric_names.py alone, and a test holds every key of a panel against what a real
run logged. Imports at the top are light.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netinv_lightning import metric_names as names
from netinv_lightning.data.specs import SPECS
from netinv_lightning.errors import CommandParser, InputError, nearest, one_line

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import PanelTypes

COMPARED = (
    "conditioning.mode",
    "conditioning.vectors",
    "loss.kl.weight",
    "loss.ce.weight",
    "loss.cosine.weight",
    "loss.orthogonality.weight",
    "generator.dropout",
    "application.lr",
    "n_generators",
    "seed",
)
"""Keys of the config over which a sweep's runs are compared."""

STUDIED = (
    "pca", "regions", "agreement", "clusters", "tsne", "sparse_units", "sparse_units_of_classes", "sparse_overlap", "sparse_images",
    "anomaly", "rules",
)  # fmt: skip
"""The figures of `interpret=full`."""

DETECTED = ("detection", "roc", "confidence")
"""The figures of every `application=detect_ood`."""

COMPARED_WITH_REAL = ("best_pairs", "audit")
"""The figures of `application=reconstruct` and `application=audit`."""

USED = ("counterfeits", "taught", "finetuning")
"""The figures of `application=counterfeit`, `application=distill` and `application=finetune`."""

GARBAGE = {
    "With a garbage class: validation accuracy": "val_accuracy",
    "With a garbage class: new garbage that it rejects already": "already_rejected",
    "With a garbage class: images in it": "images",
}
"""What the training of such a classifier logs once an epoch, by the panel's title."""


def build(entity: str, project: str, data: str = "mnist") -> ws.Workspace:
    """The dashboard; makes no connection and needs no login.

    Args:
        entity: User or team whose project it is.
        project: Where the runs are.
        data: Whose classes the accuracy per class names.
    """
    import wandb_workspaces.workspaces as ws

    titles = {
        "Inversion accuracy": _accuracy(SPECS[data].class_names),
        "Loss terms": _terms(),
        "Samples": _samples(),
        "Interpretability": _interpretability(),
        "Out-of-distribution": _out_of_distribution(),
        "Reconstruction": _reconstruction(),
        "Uses of inverted data": _uses(),
        "Sweep comparison": _comparison(),
        "Cost": _cost(),
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Network inversion, {data}",
        sections=[
            ws.Section(name=title, panels=panels, is_open=True) for title, panels in titles.items()
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


def _accuracy(classes: Sequence[str]) -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    return [
        _over_steps(
            "Accuracy of the batches while training",
            names.INVERSION_ACCURACY_TRAIN,
            range_y=(0.0, 1.0),
        ),
        wr.ScalarChart(
            title="Final accuracy, best run", metric=names.INVERSION_ACCURACY, groupby_aggfunc="max"
        ),
        wr.ScalarChart(
            title="Final accuracy, mean of runs",
            metric=names.INVERSION_ACCURACY,
            groupby_aggfunc="mean",
        ),
        wr.ScatterPlot(
            title="Soft against hot conditioning",
            x=wr.SummaryMetric(names.INVERSION_ACCURACY),
            y=wr.SummaryMetric(names.INVERSION_ACCURACY_HOT),
        ),
        wr.BarPlot(
            title="Confidence, soft and hot",
            metrics=[names.INVERSION_CONFIDENCE, names.INVERSION_CONFIDENCE_HOT],
        ),
        wr.BarPlot(
            title="Accuracy per class",
            metrics=[names.class_accuracy(label) for label in classes],
            orientation="v",
        ),
        wr.BarPlot(title="Transfer to classifiers never seen", metrics=[names.TRANSFER_ACCURACY]),
        wr.BarPlot(
            title="Likeness within and between classes",
            metrics=[names.INTRA_CLASS_COSINE, names.INTER_CLASS_COSINE],
        ),
    ]


def _terms() -> list[PanelTypes]:
    from netinv_lightning.inversion.objective import TERMS

    metrics = [names.LOSS_TOTAL, *map(names.loss, TERMS), names.excess("orthogonality")]
    return [_over_steps(metric, metric) for metric in metrics]


def _samples() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    return [
        wr.MediaBrowser(
            title="Classes x samples",
            media_keys=[names.SAMPLES_GRID],
            num_columns=2,
            layout=wr.Layout(w=12, h=14),
        ),
        wr.MediaBrowser(
            title="Confusion",
            media_keys=[names.INVERSION_CONFUSION],
            num_columns=1,
            layout=wr.Layout(w=12, h=14),
        ),
        wr.WeavePanelSummaryTable(table_name=names.SAMPLES_TABLE, layout=wr.Layout(w=24, h=12)),
    ]


def _interpretability() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    from netinv_lightning.interpretability.anomaly import CONTROLS
    from netinv_lightning.interpretability.rule_study import KINDS

    number = names.interpretation
    return [
        wr.MediaBrowser(
            title="What the inverted features show",
            media_keys=[names.figure(stem) for stem in STUDIED],
            num_columns=3,
            layout=wr.Layout(w=24, h=20),
        ),
        wr.BarPlot(
            title="Clusters a class: with gaps, by HDBSCAN",
            metrics=[names.CLUSTERS, number("clusters_hdbscan")],
        ),
        wr.BarPlot(
            title="Decisions that survive on the principal plane",
            metrics=[
                number(what, origin)
                for what in ("agreement", "boundary_agreement")
                for origin in ("inverted", "test")
            ],
        ),
        wr.BarPlot(
            title="Overlap of the sparse units that fire: inverted, test, control",
            metrics=[
                number("overlap", f"training_{other}") for other in ("inverted", "test", "halves")
            ],
        ),
        wr.BarPlot(
            title="AUC of inverted against real, and controls",
            metrics=[
                number("anomaly", score, "auc") for pair in CONTROLS.items() for score in pair
            ],
        ),
        wr.BarPlot(
            title="Fidelity of rules to inverted and to real images",
            metrics=[
                number("rules", "_".join(kind), "fidelity", origin)
                for kind in KINDS
                for origin in ("inverted", "test")
            ],
        ),
    ]


def _out_of_distribution() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    from netinv_lightning.data.outliers import NOISE
    from netinv_lightning.ood.detectors import DETECTORS

    return [
        wr.MediaBrowser(
            title="What is not the classifier's own data",
            media_keys=[names.figure(stem) for stem in DETECTED],
            num_columns=3,
            layout=wr.Layout(w=24, h=14),
        ),
        wr.ScalarChart(
            title="Mean AUROC of the best detector, best run",
            metric=names.OOD_MEAN_AUROC,
            groupby_aggfunc="max",
        ),
        wr.BarPlot(
            title="AUROC by detector, mean of the sets",
            metrics=[names.ood(name, "mean", "auroc") for name in DETECTORS],
        ),
        *(
            wr.BarPlot(
                title=f"FPR95 by detector, {noise}: accepted of it",
                metrics=[names.ood(name, noise, "fpr95_in") for name in DETECTORS],
            )
            for noise in NOISE
        ),
        wr.BarPlot(
            title="A clear threshold: gap, and without 5 % of either side",
            metrics=[
                names.ood("plain", noise, what)
                for what in ("gap", "gap_but_5_percent")
                for noise in NOISE
            ],
        ),
        wr.BarPlot(
            title="A clear threshold: violations",
            metrics=[names.ood("plain", noise, "violations") for noise in NOISE],
        ),
        wr.BarPlot(
            title="Calibration at home: ECE and Brier", metrics=[names.OOD_ECE, names.OOD_BRIER]
        ),
        # The name of a classifier with a garbage class is the user's choice.
        *(
            wr.LinePlot(title=title, x=names.STEP, metric_regex=f"^{names.garbage('[^/]+', what)}$")
            for title, what in GARBAGE.items()
        ),
    ]


def _reconstruction() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    number = names.reconstruction
    return [
        wr.MediaBrowser(
            title="Reconstructions beside training and held-out images; what an audit finds",
            media_keys=[names.figure(stem) for stem in COMPARED_WITH_REAL],
            num_columns=2,
            layout=wr.Layout(w=24, h=14),
        ),
        wr.BarPlot(
            title="Members above held-out images: AUC and its interval; 0.5 gives nothing away",
            metrics=[number("auc_low"), names.RECONSTRUCTION_AUC, number("auc_high")],
        ),
        wr.BarPlot(
            title="Gap of similarity, and its interval",
            metrics=[number("gap_low"), number("gap"), number("gap_high")],
        ),
        wr.BarPlot(
            title="Good pairs with members, and with held-out images",
            metrics=[number("good"), number("good_held_out")],
        ),
        wr.ScatterPlot(
            title="Recognised by other networks, and nearer to training images",
            x=wr.SummaryMetric(names.TRANSFER_ACCURACY),
            y=wr.SummaryMetric(names.RECONSTRUCTION_AUC),
        ),
        wr.BarPlot(
            title="Accuracy of a student of reconstructions alone",
            metrics=[names.RECONSTRUCTION_STUDENT],
        ),
    ]


def _uses() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    from netinv_lightning.downstream.finetune_report import ARMS

    tuned = {
        "Accuracy": "accuracy",
        "Robust accuracy": "robust_accuracy",
        "Calibration (ECE)": "ece",
    }
    return [
        wr.MediaBrowser(
            title="Counterfeits beside the nearest training images; what a student learns from; before and after fine-tuning",
            media_keys=[names.figure(stem) for stem in USED],
            num_columns=3,
            layout=wr.Layout(w=24, h=14),
        ),
        wr.BarPlot(
            title="Images taken for their class; of those, by no other network",
            metrics=[names.COUNTERFEIT_SUCCESS, names.COUNTERFEIT_UNRECOGNISED],
        ),
        _over_steps("Loss of a student without data", names.STUDENT_LOSS),
        wr.BarPlot(
            title="Accuracy of student, student of noise and teacher",
            metrics=[
                names.STUDENT_ACCURACY,
                names.noise_student("accuracy"),
                names.TEACHER_ACCURACY,
            ],
        ),
        *(
            wr.BarPlot(
                title=f"{title} before and after fine-tuning",
                metrics=[names.finetune(arm, what) for arm in ARMS],
            )
            for title, what in tuned.items()
        ),
    ]


def _comparison() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    columns: list[wr.Config | wr.SummaryMetric] = [
        *map(wr.Config, COMPARED),
        wr.SummaryMetric(names.INVERSION_ACCURACY),
    ]
    return [
        wr.ParallelCoordinatesPlot(
            title="Config and inversion accuracy",
            columns=[wr.ParallelCoordinatesPlotColumn(column) for column in columns],
            layout=wr.Layout(w=24, h=10),
        ),
        wr.ParameterImportancePlot(with_respect_to=names.INVERSION_ACCURACY),
        wr.BarPlot(
            title="Accuracy by conditioning",
            metrics=[names.INVERSION_ACCURACY],
            groupby=wr.Config("conditioning.mode"),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        ),
        wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=10)),
    ]


def _cost() -> list[PanelTypes]:
    import wandb_workspaces.reports.v2 as wr

    return [
        wr.BarPlot(title="Steps to 0.95", metrics=[names.STEPS_TO_95]),
        wr.BarPlot(
            title="Training seconds, and those to 0.95",
            metrics=[names.TRAINING_SECONDS, names.SECONDS_TO_95],
        ),
        wr.BarPlot(title="Images a second", metrics=[names.IMAGES_PER_SECOND]),
        wr.BarPlot(title="Peak memory, MB", metrics=[names.PEAK_MEMORY_MB]),
        wr.ScatterPlot(
            title="Accuracy against the generator's size",
            x=wr.SummaryMetric(names.GENERATOR_PARAMETERS),
            y=wr.SummaryMetric(names.INVERSION_ACCURACY),
        ),
    ]


def _over_steps(
    title: str, metric: str, range_y: tuple[float | None, float | None] = (None, None)
) -> PanelTypes:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, x=names.STEP, y=[metric], range_y=range_y)


def spec(workspace: ws.Workspace) -> str:
    """The view that W&B would store, as JSON."""
    # The package has no public way to see it; `pyproject.toml` holds the version.
    return workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)


def publish(workspace: ws.Workspace) -> str:
    """Saves the dashboard as a new view of its project and gives its address.

    Raises:
        InputError: if there is no login.
    """
    from netinv_lightning.tracking.wandb_run import check_login

    if not check_login("netinv dashboard", "or write the view to a file with --json FILE"):
        raise ConnectionError("W&B does not answer")
    workspace.save()
    return str(workspace.url)


def main(argv: Sequence[str]) -> int:
    """The `netinv dashboard` command.

    Returns:
        The exit status: 0 done, 1 W&B could not save it, 2 the input was wrong; of the last two one line tells on stderr.
    """
    try:
        arguments = _parse(argv)
        try:
            workspace = build(arguments.entity or "", arguments.project, arguments.data)
        except ImportError as error:
            raise InputError(
                f"netinv dashboard: needs wandb-workspaces ({error}); pip install wandb-workspaces"
            ) from error
        if arguments.json is None:
            print(publish(workspace))
        elif arguments.json == "-":
            print(spec(workspace))
        else:
            _write(Path(arguments.json), spec(workspace))
            print(arguments.json)
    except InputError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:  # whatever the network or W&B's server answers
        print(
            f"failed: the dashboard was not saved ({one_line(f'{type(error).__name__}: {error}')})",
            file=sys.stderr,
        )
        return 1
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog="netinv dashboard",
        description="W&B dashboard of network inversion, as a saved view of a project.",
    )
    parser.add_argument(
        "--entity",
        default=os.environ.get("WANDB_ENTITY"),
        help="user or team; by default $WANDB_ENTITY",
    )
    parser.add_argument(
        "--project",
        default=os.environ.get("WANDB_PROJECT", "netinv"),
        help="by default $WANDB_PROJECT or netinv",
    )
    parser.add_argument(
        "--data",
        default="mnist",
        help="data set whose classes the accuracy per class names; by default mnist",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the view to FILE (- for standard output) instead of saving it at W&B",
    )
    arguments = parser.parse_args(argv)
    if arguments.data not in SPECS:
        raise InputError(f"--data={arguments.data}: {nearest(arguments.data, SPECS)}")
    if not arguments.entity and arguments.json is None:
        raise InputError(
            "--entity: is missing; name the user or team whose project it is, or set WANDB_ENTITY"
        )
    return arguments


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise InputError(
            f"--json={path}: cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from error
