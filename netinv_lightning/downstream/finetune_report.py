"""The table, the figure and the model card of `application=finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.checkpoints import model_card, save_classifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.downstream_schema import FinetuneConfig
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.downstream.downstream_figures import classifier_metrics_figure
from netinv_lightning.downstream.finetuning import ClassifierQuality
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.tracking.result import Figure, Result, classifier_artifact
from netinv_lightning.tracking.run_context import RunContext

ARMS = {
    "before": "before",
    "real": "on real images alone (control)",
    "real_adversarial": "with perturbed real images (control)",
    "inverted": "with inverted images",
}
"""The classifiers that are compared, by their names in metrics."""


def arms(kind: str) -> list[str]:
    """Return the names of the classifiers that are compared with `application.kind`."""
    return [arm for arm in ARMS if arm != "real_adversarial" or kind == "adversarial"]


def finetune_result(
    name: str,
    run: RunContext,
    *,
    judged: Mapping[str, ClassifierQuality],
    classifier: Classifier,
    network: Mapping[str, Any],
    real: ImageDataModule,
    recipe: Mapping[str, Any],
) -> Result:
    """Write the fine-tuned classifier and the figure; return metrics and table.

    Args:
        name: Name of the run that inverted the classifier.
        run: The run.
        judged: The values of each classifier, by its name in metrics.
        classifier: The classifier that was trained with inverted images.
        network: Its architecture.
        real: The real data.
        recipe: How it was trained.
    """
    app, seed = run.cfg.application, run.cfg.seed
    metrics: dict[str, float] = {
        names.finetune(arm, what): value
        for arm, of in judged.items()
        for what, value in vars(of).items()
    }
    path = run.path / "classifier.safetensors"
    described = card(classifier, network, real, judged["inverted"], seed, recipe)
    save_classifier(path, classifier.network, described)
    title = f"{name}: fine-tuning ({app.kind}); dashed: before"
    figure = classifier_metrics_figure(figure_rows(judged), run.figures / "finetuning.png", title)
    return Result(
        metrics | {names.SECONDS: run.seconds},
        step=app.steps,
        tables={"finetuning": table(name, judged, app, real, seed)},
        figures=[Figure(figure, "before and after fine-tuning")],
        artifacts=[classifier_artifact(path)],
        lines=[f"classifier: {path}"],
    )


def table(
    name: str,
    judged: Mapping[str, ClassifierQuality],
    options: FinetuneConfig,
    real: ImageDataModule,
    seed: int,
) -> Table:
    """One row per classifier.

    Args:
        name: Name of the run.
        judged: The values of each classifier, by its name in metrics.
        options: The keys of the application.
        real: The real data.
        seed: The seed of the run.
    """
    rows: list[list[Cell]] = [
        [ARMS[arm], of.accuracy, of.robust_accuracy, of.ece, of.brier, of.nll]
        for arm, of in judged.items()
    ]
    perturbed = ""
    if options.kind == "adversarial":
        perturbed = f", perturbed in the Linf ball of {options.radius:g}"
    training, test = len(real.train[1]), len(real.test[1])
    notes = [
        f"{options.steps} steps of {real.batch_size} images, drawn from {training} real ones; "
        f"a share of {options.share:g} of each batch is drawn from {options.images} inverted "
        f"images{perturbed}; seed {seed}",
        f"accuracy and calibration (ECE in 15 bins, Brier score, NLL in nats): {test} real test "
        "images",
        "robust accuracy: share of images that are classified correctly both unchanged and after "
        f"{options.attack_steps} steps of PGD in the Linf ball of {options.radius:g}; "
        f"{min(options.attacked, test)} test images",
    ]
    columns = ["classifier", "accuracy", "robust accuracy", "ECE", "Brier", "NLL"]
    return Table(f"{name}: fine-tuning ({options.kind})", columns, rows, notes)


def figure_rows(judged: Mapping[str, ClassifierQuality]) -> dict[str, dict[str, float]]:
    """Return what the figure shows of each classifier."""
    return {
        ARMS[arm]: {"accuracy": of.accuracy, "robust accuracy": of.robust_accuracy, "ECE": of.ece}
        for arm, of in judged.items()
    }


def card(
    classifier: Classifier,
    network: Mapping[str, Any],
    real: ImageDataModule,
    judged: ClassifierQuality,
    seed: int,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the model card of the fine-tuned classifier.

    Args:
        classifier: The classifier.
        network: Its architecture.
        real: The real data.
        judged: The values of the fine-tuned classifier.
        seed: The seed of the run.
        recipe: How it was trained.
    """
    return model_card(
        "classifier",
        classifier.network,
        spec=classifier.spec,
        description={"network": dict(network)},
        training_images=len(real.train[1]),
        test_images=len(real.test[1]),
        test_accuracy=judged.accuracy,
        seed=seed,
        recipe=recipe,
    )
