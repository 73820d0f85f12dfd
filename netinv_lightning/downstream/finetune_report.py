"""The table, the figure and the model card of `application=finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netinv_lightning.classifiers.checkpoints import model_card
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.downstream.finetuning import ClassifierQuality
from netinv_lightning.runs.tables import Cell, Table

ARMS = {
    "before": "before",
    "real": "on real images alone (control)",
    "real_adversarial": "with perturbed real images (control)",
    "inverted": "with inverted images",
}
"""The classifiers that are compared, by their names in metrics."""


def table(
    name: str,
    judged: Mapping[str, ClassifierQuality],
    options: Any,
    counts: tuple[int, int],
    batch_size: int,
    seed: int,
) -> Table:
    """One row per classifier.

    Args:
        name: Name of the run.
        judged: The values of each classifier, by its name in metrics.
        options: `kind`, `steps`, `share`, `images`, `radius`, `attack_steps` and `attacked`.
        counts: Numbers of real training and test images.
        batch_size: Size of a training batch.
        seed: The seed of the run.
    """
    rows: list[list[Cell]] = [
        [ARMS[arm], of.accuracy, of.robust_accuracy, of.ece, of.brier, of.nll]
        for arm, of in judged.items()
    ]
    perturbed = ""
    if options.kind == "adversarial":
        perturbed = f", perturbed in the Linf ball of {options.radius:g}"
    training, test = counts
    notes = [
        f"{options.steps} steps of {batch_size} images, drawn from {training} real ones; "
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
    frozen: FrozenClassifier,
    network: Mapping[str, Any],
    real: ImageDataModule,
    judged: ClassifierQuality,
    seed: int,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the model card of the fine-tuned classifier.

    Args:
        frozen: The classifier before.
        network: Its architecture.
        real: The real data.
        judged: The values of the fine-tuned classifier.
        seed: The seed of the run.
        recipe: How it was trained.
    """
    return model_card(
        "classifier",
        frozen.network,
        spec=frozen.spec,
        description={"network": dict(network)},
        training_images=len(real.train[1]),
        test_images=len(real.test[1]),
        test_accuracy=judged.accuracy,
        seed=seed,
        recipe=recipe,
    )
