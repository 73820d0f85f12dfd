"""Full-width networks with fresh seeds, on which nothing was chosen.

The networks are those of the zoo, trained for fewer epochs. The keys of `garbage=inverted` were
chosen on the results of the half-width networks (seeds 0, 1 and 2) on letters, a set that the
tables of this part leave out: see `chosen_table`.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from experiments.jobs import ROOT, Row, netinv
from experiments.ood.variants import ABLATED, ABLATIONS, FEW, NOISE, OOD_SETS
from experiments.page import markdown, pick, shown
from netinv_lightning.classifiers.build import load_carded, load_classifier
from netinv_lightning.evaluation.finished_run import inversion_config
from netinv_lightning.evaluation.real_data import require_real
from netinv_lightning.ood.detection_data import detection_data
from netinv_lightning.ood.detectors import DETECTORS, extract_features
from netinv_lightning.ood.detectors.garbage_class import SCORES, garbage_detector
from netinv_lightning.ood.detectors.saved_detectors import garbage_path
from netinv_lightning.ood.detectors.scorer import tuning_auroc as auroc

SEEDS = (20, 21, 22)
INCOMPLETE = "Not complete; `make ood` continues.\n"
TRAINED = ("inverted", "noise")
PAPER = {"full paper": "warm", "full paper fresh": "fresh"}
"""Variants of the papers' version, by the generator that each epoch uses."""
EPOCHS = {"mnist": 3, "fashion_mnist": 4}
"""Epochs of the plain classifiers, and of the papers' version."""
RECIPES = {
    data: [f"recipe.epochs={epochs}", "recipe.lr=0.1", "data.batch_size=250", "data.shift=2"]
    for data, epochs in EPOCHS.items()
}
RECIPES["fashion_mnist"].append("data.flip=true")
CHOSEN = ["garbage.inverted.per_class=200"]
"""The only key of `garbage=inverted` that differs from the preset."""
CONTROL = "garbage.noise.per_class=400"
"""As many garbage images as `inverted` has with its enlarged crops."""
PUBLISHED = {
    "mnist": ("0.991", "0.895", "0.991", "0.994"),
    "fashion_mnist": ("0.926", "0.852", "0.963", "0.957"),
}
"""Accuracy and garbage rates of Suhail et al. 2025 (arXiv 2505.23448v2, Table 1)."""
JUDGED = {data: [name for name in OOD_SETS[data][:3]] for data in EPOCHS}
"""Reported OOD sets, the papers' pair first. Letters chose the keys; the others are noise."""


def plain_network(data: str, seed: int) -> Path:
    """Return the plain classifier of a data set and seed; train it if its file is missing."""
    path = ROOT / "classifiers" / "ood" / f"{data}_full_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        where = [f"seed={seed}", "data.val_fraction=0.1", f"application.save_as={path}"]
        recipe = [f"+experiment=zoo/{data}_cnn", f"recipe.epochs={EPOCHS[data]}"]
        netinv(*recipe, "name=train_classifier", *where)
    return path


def detect(data: str, variant: str, seed: int) -> tuple[Path, dict[str, float]]:
    """Run one detection; return its directory, and the AUROCs of the other garbage scores."""
    if variant in PAPER:
        keys = [FEW, "garbage=paper", f"garbage.paper.generator={PAPER[variant]}"]
    elif variant == "full garbage":
        keys = [FEW, f"garbage=[{','.join(TRAINED)}]", *CHOSEN, CONTROL]
    else:
        keys = [f"application.detectors=[{','.join(DETECTORS)}]"]
    run_dir = netinv(
        "application=detect_ood", f"data={data}", f"seed={seed}", "classifier=checkpoint",
        f"classifier.path={plain_network(data, seed)}", "application.samples=2000",
        f"application.outliers=[{','.join(OOD_SETS[data])}]", *RECIPES[data], *keys,
    )  # fmt: skip
    trained = {**dict.fromkeys(PAPER, "paper"), "full garbage": "inverted"}.get(variant)
    return run_dir, other_scores(run_dir, trained) if trained else {}


def other_scores(run_dir: Path, name: str) -> dict[str, float]:
    """Return the AUROC on each set of a saved classifier with a garbage class, by each score."""
    cfg = inversion_config(run_dir)
    real = require_real(cfg.data, load_classifier(cfg), "detectors need real images")
    classifier = load_carded(garbage_path(run_dir, name), name)
    data = detection_data(
        cfg.data,
        real,
        real.spec,
        outlier_names=cfg.application.outliers,
        samples=cfg.application.samples,
        seed=cfg.seed,
    )
    features = {
        set_name: extract_features(classifier, images_nCHW)
        for set_name, images_nCHW in data.evaluated.items()
    }
    found = {}
    for score in SCORES:
        scorer = garbage_detector(name, score, classifier, data.validation.images_nCHW).scorer
        own_n = scorer(features[data.name])
        for set_name in data.outside:
            value = auroc(own_n, scorer(features[set_name]))
            found[f"ood/{name}:{score}/{set_name}/auroc"] = value
    return found


def values(rows: list[Row], data: str, detector: str, name: str, what: str) -> list[float]:
    """Return one number in the order of the seeds; `full paper` is a variant of its own."""
    trained, _, score = detector.partition(":")
    variant = {**dict.fromkeys(TRAINED, "full garbage"), **dict.fromkeys(PAPER, trained)}
    number = "paper" if trained in PAPER else trained
    number += f":{score}" if score else ""
    chosen = variant.get(trained, "full")
    return pick(rows, f"ood/{number}/{name}/{what}", data=data, variant=chosen)


def over_sets(rows: list[Row], data: str, detector: str) -> list[float]:
    """Return the mean AUROC over the judged sets, for each seed."""
    of_sets = [values(rows, data, detector, name, "auroc") for name in JUDGED[data]]
    return [mean(of_seed) for of_seed in zip(*of_sets, strict=True)]


def label(detector: str) -> str:
    return detector if detector in (*DETECTORS, "plain") else f"**{detector}**"


def full_table(rows: list[Row], data: str) -> str:
    """Return the table of AUROC on the judged sets of one data set, best mean first.

    Detectors without results for all seeds are left out.
    """
    named = [*DETECTORS, *TRAINED, *PAPER, "inverted:odds", *(f"{p}:uncertainty" for p in PAPER)]
    means = {detector: over_sets(rows, data, detector) for detector in named}
    complete = [d for d in named if len(means[d]) == len(SEEDS)]
    lines = [
        [
            label(d),
            *(shown(values(rows, data, d, name, "auroc")) for name in (*JUDGED[data], *NOISE)),
            shown(means[d], 4),
        ]
        for d in sorted(complete, key=lambda d: -mean(means[d]))
    ]
    if not lines:
        return INCOMPLETE
    return markdown(["detector", *JUDGED[data], *NOISE, "mean without noise"], lines)


def claims_table(rows: list[Row]) -> str:
    """Return accuracy, garbage rates and thresholds of the classifiers, on the papers' pairs."""
    claims = ["garbage_rate", "gap", "gap_but_5_percent", "violations"]
    lines = []
    for data, sets in JUDGED.items():
        for name in ("plain", *TRAINED, *PAPER):
            accuracies = values(rows, data, name, "own", "accuracy")
            if len(accuracies) == len(SEEDS):
                cells = [shown(values(rows, data, name, sets[0], claim)) for claim in claims]
                rates = [
                    shown(values(rows, data, name, other, "garbage_rate")) for other in sets[1:]
                ]
                lines.append([data, label(name), shown(accuracies), *cells, *rates])
        accuracy, first, *rest = PUBLISHED[data]
        if lines and lines[-1][0] == data:
            lines.append([data, "published", accuracy, first, "-", "-", "-", *rest])
    others = ["garbage rate, svhn_head", "garbage rate, cifar10"]
    return markdown(
        ["data", "classifier", "accuracy", "garbage rate", "gap", "gap without extreme 5 %",
        "violations", *others], lines
    )  # fmt: skip


def chosen_table(rows: list[Row]) -> str:
    """Return what chose the keys: AUROC on letters and accuracy of half-width networks."""
    lines = []
    for variant, name in ABLATIONS.items():
        cells = [
            shown(pick(rows, number, data=data, variant=variant))
            for data in ABLATED
            for number in ("ood/inverted/emnist_letters/auroc", "ood/inverted/own/accuracy")
        ]
        lines.append([name, *cells])
    columns = [f"{data}, {what}" for data in ABLATED for what in ("letters", "accuracy")]
    return markdown(["variant", *columns], lines)
