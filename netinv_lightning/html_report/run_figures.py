"""Figures of a run: titles, sections of the page, and sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from netinv_lightning.dashboard import figure_groups
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.pictures import (
    FIGURES_BYTES,
    FRAME,
    FRAMES_BYTES,
    FULL,
    Picture,
    read_picture,
    read_pictures,
)

TITLES = {
    "grid": "Inverted samples: one row per class",
    "confusion": "Confusion matrix of the inverted samples",
    "counterfeits": "Counterfeits: images that only the inverted classifier accepts",
    "taught": "Training images of the student",
    "finetuning": "Before and after fine-tuning",
    "best_pairs": "Reconstructions and their nearest real images",
    "audit": "Results of each attack, with controls",
    "informed": "Missing training images, reconstructed by an informed adversary",
    "exposed": "Most exposed training images and their reconstructions",
    "approached": "Images optimised towards their targets",
    "pca": "Principal components of the inverted features",
    "regions": "Decision regions on the principal plane",
    "agreement": "Agreement of the decisions with few components",
    "clusters": "Clusters per class",
    "tsne": "t-SNE of the features, by perplexity and seed",
    "sparse_units": "Activation rate of each sparse unit",
    "sparse_units_of_classes": "Active sparse units per class",
    "sparse_overlap": "Overlap of the active sparse units of two sets",
    "sparse_images": "Images with the highest activation of a sparse unit",
    "anomaly": "Separation of inverted and real images",
    "rules": "Fidelity of the rules",
    "detection": "AUROC of each detector per data set",
    "roc": "ROC curves",
    "confidence": "Confidence on in-distribution and out-of-distribution images",
    "shifts": "Detection of perturbed images, by perturbation size",
}
"""Title of a figure by the stem of its file. Other figures have their stem as title."""

SECTIONS = {
    "Images": ("grid", "approached", "confusion"),
    "Interpretability": figure_groups.INTERPRETABILITY,
    "Privacy": figure_groups.PRIVACY,
    "Uses of inverted images": figure_groups.USES,
    "Out-of-distribution detection": (*figure_groups.DETECTION, "shifts"),
}
PLOTS = {
    *("confusion", "audit", "shifts"),
    *figure_groups.DETECTION,
    *figure_groups.INTERPRETABILITY,
} - {"pca", "regions", "sparse_images"}
"""Figures without images in them. A page with dark colours inverts them; it changes no image."""
MOST_FRAMES = 12
_STEP = re.compile(r"grid_step(\d+)\.png")


@dataclass
class Section:
    """Figures under one heading."""

    title: str
    pictures: list[Picture]


def read_sections(folder: Folder) -> list[Section]:
    """Return the figures of a run by section, without those drawn during training."""
    files = {
        file.stem: file
        for file in sorted((folder.path / "figures").glob("*.png"))
        if not _STEP.fullmatch(file.name)
    }
    placed = {
        title: [files.pop(stem) for stem in stems if stem in files]
        for title, stems in SECTIONS.items()
    }
    placed["Other figures"] = list(files.values())
    titles = {file: figure_title(file) for found in placed.values() for file in found}
    pictures = read_pictures(folder, titles, FULL, FIGURES_BYTES)
    return [
        Section(title, [pictures[file] for file in found])
        for title, found in placed.items()
        if found
    ]


def read_frames(folder: Folder) -> tuple[list[tuple[int, Picture]], int]:
    """Return grids drawn during training, with their steps, and the number left out."""
    found = sorted(
        (int(step[1]), file)
        for file in (folder.path / "figures").glob("*.png")
        if (step := _STEP.fullmatch(file.name))
    )
    chosen = found
    if len(found) > MOST_FRAMES:
        chosen = [
            found[round(index * (len(found) - 1) / (MOST_FRAMES - 1))]
            for index in range(MOST_FRAMES)
        ]
    titles = {file: figure_title(file) for _, file in chosen}
    pictures = read_pictures(folder, titles, FRAME, FRAMES_BYTES)
    frames = [(step, pictures[file]) for step, file in chosen if pictures[file].uri]
    return frames, len(found) - len(chosen)


def thumbnail(folder: Folder, edge: int, most_bytes: int) -> Picture | None:
    """Return a small version of a run's main figure; None if it has no figure."""
    files = sorted((folder.path / "figures").glob("*.png"))
    first = [stem for stems in SECTIONS.values() for stem in stems]
    by_stem = {file.stem: file for file in files}
    file = next((by_stem[stem] for stem in first if stem in by_stem), files[-1] if files else None)
    return (
        None if file is None else read_picture(folder, file, figure_title(file), edge, most_bytes)
    )


def figure_title(file: Path) -> str:
    if step := _STEP.fullmatch(file.name):
        return f"Inverted samples after {int(step[1])} steps"
    return TITLES.get(file.stem, file.stem.replace("_", " "))
