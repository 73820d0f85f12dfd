"""Panels of the W&B dashboard, by section."""

from __future__ import annotations

from collections.abc import Sequence

import wandb_workspaces.reports.v2 as wr
from wandb_workspaces.reports.v2.interface import PanelTypes

from netinv_lightning import metric_names as names
from netinv_lightning.config import loss_terms as loss_registry
from netinv_lightning.dashboard import figure_groups
from netinv_lightning.dashboard.panel_types import bars, figures, over_steps
from netinv_lightning.data.outliers import NOISE
from netinv_lightning.downstream.finetune_report import ARMS
from netinv_lightning.interpretability.anomaly import CONTROLS
from netinv_lightning.interpretability.rule_analysis import KINDS
from netinv_lightning.ood.detectors import DETECTORS

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
"""Config keys by which the runs of a sweep are compared."""

GARBAGE = {
    "Training with a garbage class: validation accuracy": "val_accuracy",
    "Training with a garbage class: new garbage already rejected": "already_rejected",
    "Training with a garbage class: images in the class": "images",
}
"""Numbers of the training with a garbage class, by the title of their panel."""


def accuracy(classes: Sequence[str]) -> list[PanelTypes]:
    return [
        over_steps(
            "Batch accuracy during training",
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
            title="Accuracy with soft and with hot conditioning",
            x=wr.SummaryMetric(names.INVERSION_ACCURACY),
            y=wr.SummaryMetric(names.INVERSION_ACCURACY_HOT),
        ),
        bars(
            "Confidence, soft and hot", [names.INVERSION_CONFIDENCE, names.INVERSION_CONFIDENCE_HOT]
        ),
        bars(
            "Accuracy per class",
            [names.class_accuracy(label) for label in classes],
            orientation="v",
        ),
        bars(
            "Transfer accuracy: soft, hot, and of the worst class",
            [
                names.TRANSFER_ACCURACY,
                names.TRANSFER_ACCURACY_HOT,
                names.TRANSFER_WORST_CLASS,
                names.TRANSFER_WORST_CLASS_HOT,
            ],
        ),
        bars(
            "Transfer accuracy per class",
            [names.class_accuracy(label, names.TRANSFER_ACCURACY) for label in classes],
            orientation="v",
        ),
        bars(
            "Cosine similarity within and between classes",
            [names.INTRA_CLASS_COSINE, names.INTER_CLASS_COSINE],
        ),
    ]


def loss_terms() -> list[PanelTypes]:
    metrics = [
        names.LOSS_TOTAL,
        *map(names.loss, loss_registry.LOSS_TERMS),
        names.excess("orthogonality"),
    ]
    return [over_steps(metric, metric) for metric in metrics]


def samples() -> list[PanelTypes]:
    return [
        wr.MediaBrowser(
            title="Samples per class",
            media_keys=[names.SAMPLES_GRID],
            num_columns=2,
            layout=wr.Layout(w=12, h=14),
        ),
        wr.MediaBrowser(
            title="Confusion matrix",
            media_keys=[names.INVERSION_CONFUSION],
            num_columns=1,
            layout=wr.Layout(w=12, h=14),
        ),
        wr.WeavePanelSummaryTable(table_name=names.SAMPLES_TABLE, layout=wr.Layout(w=24, h=12)),
    ]


def interpretability() -> list[PanelTypes]:
    number = names.interpretation
    return [
        figures(
            "Studies of the inverted features", figure_groups.INTERPRETABILITY, columns=3, height=20
        ),
        bars(
            "Clusters per class: separated by gaps, and by HDBSCAN",
            [names.CLUSTERS, number("clusters_hdbscan")],
        ),
        bars(
            "Agreement of decisions on the principal plane",
            [
                number(what, origin)
                for what in ("agreement", "boundary_agreement")
                for origin in ("inverted", "test")
            ],
        ),
        bars(
            "Overlap of active sparse units: inverted, test, control",
            [number("overlap", f"training_{other}") for other in ("inverted", "test", "halves")],
        ),
        bars(
            "AUC of inverted against real images, with controls",
            [number("anomaly", score, "auc") for pair in CONTROLS.items() for score in pair],
        ),
        bars(
            "Fidelity of the rules on inverted and real images",
            [
                number("rules", "_".join(kind), "fidelity", origin)
                for kind in KINDS
                for origin in ("inverted", "test")
            ],
        ),
    ]


def out_of_distribution() -> list[PanelTypes]:
    return [
        figures("Out-of-distribution detection", figure_groups.DETECTION, columns=3, height=14),
        wr.ScalarChart(
            title="Mean AUROC of the best detector, best run",
            metric=names.OOD_MEAN_AUROC,
            groupby_aggfunc="max",
        ),
        bars(
            "AUROC per detector, mean over the data sets",
            [names.ood(name, "mean", "auroc") for name in DETECTORS],
        ),
        *(
            bars(
                f"FPR95 per detector on {noise}",
                [names.ood(name, noise, "fpr95_in") for name in DETECTORS],
            )
            for noise in NOISE
        ),
        bars(
            "Separating threshold: gap, and gap without the extreme 5 % of both sets",
            [
                names.ood("plain", noise, what)
                for what in ("gap", "gap_but_5_percent")
                for noise in NOISE
            ],
        ),
        bars(
            "Separating threshold: violations",
            [names.ood("plain", noise, "violations") for noise in NOISE],
        ),
        bars("In-distribution calibration: ECE and Brier score", [names.OOD_ECE, names.OOD_BRIER]),
        # Users choose the names of classifiers with a garbage class.
        *(
            wr.LinePlot(title=title, x=names.STEP, metric_regex=f"^{names.garbage('[^/]+', what)}$")
            for title, what in GARBAGE.items()
        ),
    ]


def reconstruction() -> list[PanelTypes]:
    number = names.reconstruction
    return [
        figures(
            "Reconstructions with training and held-out images; results of an audit",
            figure_groups.PRIVACY,
            columns=2,
            height=14,
        ),
        bars(
            "AUC of members against held-out images, with interval (0.5: no leak)",
            [number("auc_low"), names.RECONSTRUCTION_AUC, number("auc_high")],
        ),
        bars(
            "Similarity gap, with interval", [number("gap_low"), number("gap"), number("gap_high")]
        ),
        bars(
            "Good pairs with members and with held-out images",
            [number("good"), number("good_held_out")],
        ),
        wr.ScatterPlot(
            title="Transfer accuracy and membership AUC",
            x=wr.SummaryMetric(names.TRANSFER_ACCURACY),
            y=wr.SummaryMetric(names.RECONSTRUCTION_AUC),
        ),
        bars(
            "Accuracy of a student trained on reconstructions only", [names.RECONSTRUCTION_STUDENT]
        ),
    ]


def uses() -> list[PanelTypes]:
    tuned = {
        "Accuracy": "accuracy",
        "Robust accuracy": "robust_accuracy",
        "Calibration (ECE)": "ece",
    }
    return [
        figures(
            "Counterfeits; training images of a student; fine-tuning",
            figure_groups.USES,
            columns=3,
            height=14,
        ),
        bars(
            "Counterfeits: success rate, and share that no other network recognises",
            [names.COUNTERFEIT_SUCCESS, names.COUNTERFEIT_UNRECOGNISED],
        ),
        over_steps("Loss of a student without real data", names.STUDENT_LOSS),
        bars(
            "Accuracy of the student, of a student trained on noise, and of the teacher",
            [
                names.STUDENT_ACCURACY,
                names.noise_student("accuracy"),
                names.TEACHER_ACCURACY,
            ],
        ),
        *(
            bars(
                f"{title} before and after fine-tuning", [names.finetune(arm, what) for arm in ARMS]
            )
            for title, what in tuned.items()
        ),
    ]


def sweep_comparison() -> list[PanelTypes]:
    columns: list[wr.Config | wr.SummaryMetric] = [
        *map(wr.Config, COMPARED),
        wr.SummaryMetric(names.INVERSION_ACCURACY),
    ]
    return [
        wr.ParallelCoordinatesPlot(
            title="Config keys and inversion accuracy",
            columns=[wr.ParallelCoordinatesPlotColumn(column) for column in columns],
            layout=wr.Layout(w=24, h=10),
        ),
        wr.ParameterImportancePlot(with_respect_to=names.INVERSION_ACCURACY),
        bars(
            "Accuracy per conditioning",
            [names.INVERSION_ACCURACY],
            groupby=wr.Config("conditioning.mode"),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        ),
        wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=10)),
    ]


def cost() -> list[PanelTypes]:
    return [
        bars("Steps to accuracy 0.95", [names.STEPS_TO_95]),
        bars(
            "Seconds of training, and seconds to accuracy 0.95",
            [names.TRAINING_SECONDS, names.SECONDS_TO_95],
        ),
        bars("Images per second", [names.IMAGES_PER_SECOND]),
        bars("Peak memory in MB", [names.PEAK_MEMORY_MB]),
        wr.ScatterPlot(
            title="Accuracy and number of generator parameters",
            x=wr.SummaryMetric(names.GENERATOR_PARAMETERS),
            y=wr.SummaryMetric(names.INVERSION_ACCURACY),
        ),
    ]
