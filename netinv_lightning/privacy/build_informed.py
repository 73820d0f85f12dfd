"""Build the attack of an informed adversary from the config of an audit."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.build import described_network, named_card
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.training import recipe_seed
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.splits import choose_per_class, stratified_indices
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.privacy.informed import InformedAttack, InformedData
from netinv_lightning.privacy.shadow_models import parameters, train_together
from netinv_lightning.privacy.stacked_training import StackRecipe
from netinv_lightning.training.seeds import random_order

SHADOWS = {"quick": 1000, "full": 10_000}
"""Number of shadow models of each effort; the authors of the attack published code with 10,000."""
MOST_WEIGHTS = 500_000_000
"""Largest number of parameters of all shadow models together."""
WHERE = "application.attacks=informed"


def build_informed(
    cfg: DictConfig, classifier: FrozenClassifier, data: ImageDataModule
) -> InformedAttack:
    """Return the attack on the recipe of the audited classifier, with fresh initial weights.

    Args:
        cfg: The config of the audit.
        classifier: The audited classifier, of which the kind of network is read.
        data: The data that it was trained on.

    Raises:
        InputError: if the network cannot be trained in a stack, it or its recipe is not supported,
            or there are too few images.
    """
    app = cfg.application
    shadows = SHADOWS[app.effort] if app.models is None else app.models
    _check_kind(classifier)
    card = named_card(cfg)
    keys: dict[str, Any] = plain_dict(cfg.recipe) | plain_dict(cfg.data) | card.get("recipe", {})
    recipe = _recipe(keys)
    seed = int(card.get("seed", recipe_seed(cfg)))
    L.seed_everything(seed, verbose=False)
    network = build_network(described_network(cfg), classifier.spec)
    frozen = FrozenClassifier(copy.deepcopy(network), classifier.spec, like=classifier)
    trained = Classifier(network.train().requires_grad_(True), classifier.spec, like=classifier)
    if (size := parameters(trained)) * shadows > MOST_WEIGHTS:
        raise InputError(
            f"{WHERE}: is an attack on small networks, but {shadows} shadow models of {size:,} "
            f"parameters do not fit; at most {MOST_WEIGHTS // shadows:,} parameters are allowed. "
            "Choose a smaller network, such as classifier=mlp '+classifier.network={widths: [10], "
            "batch_norm: false}', or set application.models"
        )
    found = informed_data(
        data, known=app.known, targets=app.targets, shadows=shadows, seed=cfg.seed
    )
    _check_stack(trained, found, recipe)
    return InformedAttack(trained, frozen, recipe, found, seed)


def informed_data(
    data: ImageDataModule, *, known: int, targets: int, shadows: int, seed: int
) -> InformedData:
    """Choose the images of the attack.

    Known images are training images; all others are images that the classifier was not trained on.

    Raises:
        InputError: if there are too few of the latter.
    """
    others = tuple(torch.cat(parts) for parts in zip(data.unused, data.test, strict=True))
    x_nCHW, label_n = others
    if (needed := 2 * targets + shadows) > len(label_n):
        raise InputError(
            f"application.models={shadows}: the attack needs {needed:,} images that the "
            f"classifier was not trained on (twice application.targets={targets}, and one per "
            f"shadow model), but data={data.spec.name} has {len(label_n):,}. Set "
            f"application.models={max(2, len(label_n) - 2 * targets)} or less"
        )
    chosen = {"targets": stratified_indices(label_n, targets, seed)}
    free_n = torch.ones(len(label_n), dtype=torch.bool)
    free_n[chosen["targets"]] = False
    counts = label_n[chosen["targets"]].bincount().tolist()
    rest = free_n.nonzero().flatten()
    source = torch.Generator().manual_seed(seed)
    chosen["held_out"] = rest[choose_per_class(label_n[rest], counts, source)]
    free_n[chosen["held_out"]] = False
    rest = free_n.nonzero().flatten()
    chosen["shadows"] = rest[random_order(len(rest), seed)[:shadows]]
    targets_by_class = chosen["targets"][label_n[chosen["targets"]].argsort(stable=True)]
    train_nCHW, train_label_n = data.train
    first = stratified_indices(train_label_n, min(known, len(train_label_n)), seed)

    def images(index: Tensor) -> Images:
        return Images(to_unit_range(x_nCHW[index]), label_n[index])

    return InformedData(
        known=Images(to_unit_range(train_nCHW[first]), train_label_n[first]),
        shadows=images(chosen["shadows"]),
        targets=images(targets_by_class),
        held_out=images(chosen["held_out"]),
    )


def _check_kind(classifier: FrozenClassifier) -> None:
    if classifier.access != "weights":
        raise InputError(
            f"{WHERE}: trains the network itself, but this classifier is a black box. Remove it"
        )
    if classifier.multi_label:
        raise InputError(
            f"{WHERE}: needs one label per image, but this network is multi-label. Remove it"
        )
    if classifier.batch_norms:
        raise InputError(
            f"{WHERE}: needs a network without BatchNorm, whose statistics mix the images of a "
            "batch. Train one: +classifier.network.batch_norm=false classifier.train=true"
        )


def _recipe(keys: dict[str, Any]) -> StackRecipe:
    for key in ("recipe.l1", "data.shift", "data.flip"):
        if value := keys[key.partition(".")[2]]:
            raise InputError(
                f"{key}={value}: {WHERE} trains without it. Use a classifier that was trained "
                "without it"
            )
    return StackRecipe(**{key: keys[key] for key in StackRecipe.__dataclass_fields__})


def _check_stack(classifier: Classifier, data: InformedData, recipe: StackRecipe) -> None:
    """Train two networks on two images for a step."""
    two = Images(data.known.images_nCHW[:2], data.known.labels_n[:2])
    try:
        train_together(classifier, two, two, StackRecipe(**{**vars(recipe), "epochs": 1}), seed=0)
    except RuntimeError as error:
        raise InputError(
            f"{WHERE}: networks of the class {classifier.name} cannot be trained together "
            f"({one_line(error)}). Choose classifier=mlp or classifier=cnn"
        ) from error
