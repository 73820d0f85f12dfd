"""The figures of a run: which belong together, what they are called, and how large they are in a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from netinv_lightning.dashboard.workspace import COMPARED_WITH_REAL, DETECTED, STUDIED, USED
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.pictures import FRAME, FULL, Picture, read_picture

TITLES = {
    "grid": "Inverted images: a row a class, a column a sample",
    "confusion": "What the classifier takes the images for",
    "counterfeits": "Images that the classifier alone takes for its classes",
    "taught": "What the student learnt from",
    "finetuning": "Before and after fine-tuning",
    "best_pairs": "Reconstructions beside their nearest real images",
    "audit": "What each attack finds, beside controls",
    "approached": "Images that approach their targets",
    "pca": "Principal components of the inverted features",
    "regions": "Decision regions on the principal plane",
    "agreement": "Decisions that survive on few components",
    "clusters": "Clusters a class",
    "tsne": "t-SNE of the features, over perplexities and seeds",
    "sparse_units": "How often each sparse unit fires",
    "sparse_units_of_classes": "Sparse units that fire, by class",
    "sparse_overlap": "Sparse units that fire for both of two sets",
    "sparse_images": "Images that excite sparse units most",
    "anomaly": "Telling inverted images from real ones",
    "rules": "Fidelity of the rules",
    "detection": "AUROC of each detector on each set",
    "roc": "ROC curves",
    "confidence": "Confidence at home and outside",
    "shifts": "Detection of perturbed images, by strength",
}
"""A figure's title by the stem of its file; another stem is its own title."""

SECTIONS = {
    "Images": ("grid", "approached", "confusion"),
    "What the classifier looks at": STUDIED,
    "What it gives away": COMPARED_WITH_REAL,
    "What its images are good for": USED,
    "What is not its own data": (*DETECTED, "shifts"),
}
MOST_FRAMES = 24
_STEP = re.compile(r"grid_step(\d+)\.png")


@dataclass
class Section:
    """Figures under one heading."""

    title: str
    pictures: list[Picture]


def read_sections(folder: Folder) -> list[Section]:
    """The figures of a run but those of its training, under the headings that they belong to."""
    files = {
        file.stem: file
        for file in sorted((folder.path / "figures").glob("*.png"))
        if not _STEP.fullmatch(file.name)
    }
    placed = {
        title: [files.pop(stem) for stem in stems if stem in files]
        for title, stems in SECTIONS.items()
    }
    placed["Further figures"] = list(files.values())
    return [
        Section(title, [read_picture(folder, file, figure_title(file), FULL) for file in found])
        for title, found in placed.items()
        if found
    ]


def read_frames(folder: Folder) -> tuple[list[tuple[int, Picture]], int]:
    """Grids drawn while training, by step, evenly chosen where there are many; and how many were left out."""
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
    pictures = [
        (step, read_picture(folder, file, figure_title(file), FRAME)) for step, file in chosen
    ]
    return [(step, picture) for step, picture in pictures if picture.uri], len(found) - len(chosen)


def thumbnail(folder: Folder, edge: int, most_bytes: int) -> Picture | None:
    """The figure that stands for a run in a list of runs, small; None where it has none."""
    files = sorted((folder.path / "figures").glob("*.png"))
    first = [stem for stems in SECTIONS.values() for stem in stems]
    by_stem = {file.stem: file for file in files}
    file = next((by_stem[stem] for stem in first if stem in by_stem), files[-1] if files else None)
    return (
        None if file is None else read_picture(folder, file, figure_title(file), edge, most_bytes)
    )


def figure_title(file: Path) -> str:
    if step := _STEP.fullmatch(file.name):
        return f"Inverted images after {int(step[1])} steps"
    return TITLES.get(file.stem, file.stem.replace("_", " "))
