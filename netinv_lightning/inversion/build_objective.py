"""Build the objective that a config describes, for the network that is inverted."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.tokens import record_tokens, token_layers
from netinv_lightning.classifiers.verifier_names import entries
from netinv_lightning.config.black_box_keys import check_terms_of_black_box
from netinv_lightning.config.loss_terms import NEEDS, settled
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.stationarity import check_twice_differentiable
from netinv_lightning.inversion.terms import ONE_LABEL
from netinv_lightning.inversion.uncertainty import dropout_layers
from netinv_lightning.runs.notices import notice

NETWORK_TERMS = ("networks", "uncertainty")
"""Terms with the option `networks`: other networks that the inversion uses."""


def build_objective(cfg: DictConfig, classifier: FrozenClassifier) -> Objective:
    """Build the objective that `cfg.loss` describes; terms not in use are removed from `cfg.loss`.

    Raises:
        InputError: naming the term that does not exist or does not fit the network.
    """
    for term in {"variation", "total_variation"}.intersection(cfg.loss):
        if classifier.spec.modality == "tables":
            raise InputError(
                f"loss.{term}: compares neighbouring pixels, and the features of tables have no "
                f"neighbours; leave it out: ~loss.{term}"
            )
    choose_terms(cfg, classifier)
    if classifier.access != "weights":
        check_terms_of_black_box(cfg.loss)
    terms = plain_dict(cfg.loss)
    for term in NETWORK_TERMS:
        if named := terms.get(term, {}).get("networks"):
            terms[term]["networks"] = list(_ensemble(term, named, cfg, classifier).values())
    objective = Objective(terms, classifier.feature_layers)
    if classifier.multi_label:
        _check_label_sets(cfg)
    for term in {"gradient", "stationarity"}.intersection(cfg.loss):
        check_twice_differentiable(classifier, f"loss.{term}")
    return objective


def choose_terms(cfg: DictConfig, classifier: FrozenClassifier) -> None:
    """Remove from `cfg.loss` the terms whose `when` does not fit the network; print a notice.

    Raises:
        InputError: if a term without `when` needs what the network does not have.
    """
    fits = "batch_norm" if classifier.batch_norms else "no_batch_norm"
    own = [term for term, options in cfg.loss.items() if "_target_" not in options]
    lacking = {term for term in NEEDS if term in own and not _has(term, cfg.loss, classifier)}
    for term in sorted(lacking):
        if "when" not in cfg.loss[term]:
            raise InputError(
                f"loss.{term}: needs {NEEDS[term]}, which {classifier.name} does not have; "
                f"leave it out: ~loss.{term}"
            )
    conditional = {str(term): keys.when for term, keys in cfg.loss.items() if "when" in keys}
    used = [term for term, when in conditional.items() if when == fits and term not in lacking]
    cfg.loss = settled(cfg.loss, used)
    if conditional:
        has = "has" if classifier.batch_norms else "has no"
        left_out = [term for term in conditional if term not in used]
        notice(
            f"loss: {classifier.name} {has} BatchNorm statistics; uses {_names(used)}; leaves out "
            f"{_names(left_out)}"
        )
    if "patch_similarity" in cfg.loss:
        record_tokens(classifier)


def _ensemble(
    term: str, named: Sequence[str], cfg: DictConfig, classifier: FrozenClassifier
) -> dict[str, FrozenClassifier]:
    """Load the other networks of a term, none of which may verify the images later.

    Raises:
        InputError: naming the network.
    """
    from netinv_lightning.classifiers.verifiers import load_verifiers  # torchvision

    key = f"loss.{term}.networks"
    verifiers = entries(cfg.application.get("verifiers")).values()
    for name, keys in entries(list(named), key).items():
        if keys in verifiers:
            raise InputError(
                f"{key}={name}: is a verifier of this run, which must not be used by the "
                f"inversion. Remove it from application.verifiers or from {key}"
            )
    return load_verifiers(list(named), cfg, classifier, key)


def _has(term: str, loss: DictConfig, classifier: FrozenClassifier) -> bool:
    """Return whether the network has what a term needs."""
    if term == "batch_norm_l2":
        return bool(classifier.batch_norms)
    if term == "networks":
        return bool(loss[term].get("networks"))
    if term == "uncertainty":
        return bool(loss[term].get("networks")) or bool(dropout_layers(classifier))
    if term == "pixel_statistics":
        return classifier.normalises
    if term == "spectrum":
        return classifier.spec.modality == "images"
    if term == "contrast":
        return classifier.spec.modality != "tables"
    return bool(token_layers(classifier))


def _names(terms: Sequence[str]) -> str:
    return ", ".join(terms) or "nothing"


def _check_label_sets(cfg: DictConfig) -> None:
    """Check that the config is valid for a multi-label network.

    Raises:
        InputError: naming the key that needs a single label per image.
    """
    where = "this network is multi-label"
    if terms := [term for term in ONE_LABEL if term in cfg.loss]:
        raise InputError(
            f"loss.{terms[0]}: needs one label per image, but {where}; leave it out: "
            f"~loss.{terms[0]}"
        )
    if cfg.application.name != "invert":
        raise InputError(
            f"application={cfg.application.name}: needs one label per image, but {where}; "
            "choose application=invert"
        )
    for group in ("measure", "interpret"):
        if cfg[group].full:
            raise InputError(
                f"{group}=full: needs one label per image, but {where}; leave {group} out"
            )
