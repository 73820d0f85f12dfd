"""What `application=reconstruct` finds: comparison with real images, conclusion, student.

Suhail, Tang and Sethi 2024 (arXiv 2411.17777), section 5.3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.privacy.audit_verdict import AttackResult, AuditVerdict, conclude
from netinv_lightning.privacy.comparison import (
    Comparison,
    best_pairs,
    compare,
    mifid,
)
from netinv_lightning.privacy.comparison_tables import (
    RECONSTRUCTIONS,
    class_table,
    comparison_table,
    full_table,
)
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.privacy.reconstruction_figures import best_pairs_figure
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.training.progress import print_progress, stages


def compare_with_controls(images: Images, real: RealImages, seed: int) -> dict[str, Comparison]:
    """Compare the reconstructions, and each of the baselines, with real images; by name."""
    n, rows = len(images.labels_n), {}
    for name in stages("comparing with real images,", [RECONSTRUCTIONS, *CONTROLS]):
        compared = CONTROLS[name](n, real, seed) if name in CONTROLS else images
        rows[name] = compare(compared, real, seed)
    return rows


def conclude_alone(
    name: str,
    rows: Mapping[str, Comparison],
    *,
    transfer: float | None,
    num_classes: int,
    ceiling: float,
) -> AuditVerdict:
    """Return what an audit of one attack alone would conclude.

    Args:
        name: Name of the attack.
        rows: Comparisons of its reconstructions and of the baselines.
        transfer: Share of its images that other networks classify as their class; None without
            other networks.
        num_classes: N.
        ceiling: The same share of real images.
    """
    ncc = rows[RECONSTRUCTIONS].ncc
    attacks = {name: AttackResult(ncc.auc, ncc.auc_interval[0], ncc.p_value, transfer)}
    beside, leak = rows["other real images"].ncc.auc_interval[1], rows["planted leak"].ncc
    return conclude(
        attacks,
        control_auc_high=beside,
        planted=(leak.auc, leak.p_value),
        num_classes=num_classes,
        ceiling=ceiling,
    )


def reconstruction_result(
    name: str,
    images: Images,
    real: RealImages,
    rows: Mapping[str, Comparison],
    *,
    class_names: Sequence[str],
    verifiers: Mapping[str, FrozenClassifier],
    figures: Path,
) -> Result:
    """Return metrics, tables and the figure of the best pairs.

    Args:
        name: Name of the run.
        images: The reconstructions.
        real: Members, held-out images and others.
        rows: Comparisons of the reconstructions and of the baselines.
        class_names: Names of the classes.
        verifiers: Networks in whose features MiFID is computed.
        figures: Folder of the figures.
    """
    compared, title = rows[RECONSTRUCTIONS], f"{name}: members against held-out images"
    table = comparison_table(title, rows, real)
    table.full = full_table(rows)
    figure = best_pairs_figure(
        best_pairs(images, real),
        class_names,
        figures / "best_pairs.png",
        f"{name}: reconstructions most similar to training images",
    )
    by_class = class_table(f"{title}, by class", compared, class_names)
    caption = "reconstruction, nearest training image, nearest held-out image"
    return Result(
        compared.metrics(class_names) | mifid(images, real, verifiers),
        tables={"reconstruction": table},
        lists={"reconstruction_classes": by_class},
        figures=[Figure(figure, caption)],
    )


def student_result(
    images: Images, classifier: FrozenClassifier, data: ImageDataModule, seed: int
) -> Result:
    """Return the accuracy of a new network that is trained on the reconstructions alone.

    It is empty without test images, or with fewer images than classes.
    """
    measurement = Measurement(classifier, {}, data, ["cas"], seed)
    if measurement.skipped or len(images.labels_n) < measurement.minimum:
        return Result({})
    print_progress("training a student on the reconstructions alone")
    accuracy = measurement(images)[names.CAS]
    line = f"student of the reconstructions alone: {accuracy:.3f} of the real test images"
    return Result({names.RECONSTRUCTION_STUDENT: accuracy}, lines=[line])


def add_to_verdict(path: Path, conclusion: AuditVerdict) -> None:
    """Put the conclusion into the verdict of the inversion, of which the diagnosis stays."""
    write_json(path, {**json.loads(path.read_text()), **conclusion.as_dict()})
