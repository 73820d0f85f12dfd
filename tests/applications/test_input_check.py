"""Checks before torch is imported: weights, layers, memory and the login to W&B."""

from __future__ import annotations

from pathlib import Path

import pytest

import netinv_lightning
from netinv_lightning.applications import memory_check
from netinv_lightning.applications.input_check import check_inputs
from netinv_lightning.classifiers.zoo import zoo_names, zoo_path
from netinv_lightning.errors import InputError
from netinv_lightning.tracking import wandb_login

CNN = str(zoo_path("mnist_cnn"))
REFUSED = {
    f"classifier=mlp classifier.path={CNN}": "do not belong to the architecture MLP but to CNN",
    "classifier=resnet classifier.zoo=mnist_mlp": "architecture ResNet but to MLP",
    "classifier.zoo=mnist_cnn classifier.num_classes=5": "classifier.num_classes=5: the weights",
    "classifier.feature_layers=[hed]": "feature_layers=hed: the network has no .* mean 'head'",
    "interpret.layer=convolution": "interpret.layer=convolution: the network has no such layer",
    "application=approach application.vector=[1,0] application.layer=hiden": "layer=hiden: the net",
}


@pytest.mark.parametrize("words", REFUSED)
def test_weights_and_layers_that_do_not_fit_are_refused(words: str) -> None:
    with pytest.raises(InputError, match=REFUSED[words]):
        check_inputs(netinv_lightning.compose(words.split()))


@pytest.mark.parametrize("name", zoo_names())
def test_all_zoo_classifiers_pass(name: str) -> None:
    check_inputs(netinv_lightning.compose([f"classifier.zoo={name}"]))


def test_wrapped_weights_pass(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(CNN)
    for prefix in ("module.", "model.net.", "_orig_mod."):
        path = tmp_path / "wrapped.safetensors"
        save_file({prefix + name: weight for name, weight in weights.items()}, path)
        words = ["classifier=cnn", f"classifier.path={path}"]
        check_inputs(netinv_lightning.compose(words))


@pytest.mark.parametrize(
    "words",
    [
        "application.keep_samples=1000",
        "method=kkt method.candidates=1000",
        "measure=full measure.samples=1000",
    ],
)
def test_images_that_do_not_fit_are_refused(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = netinv_lightning.compose(["application.keep_samples=5", *words.split()])
    check_inputs(cfg)
    monkeypatch.setattr(memory_check, "memory_bytes", lambda: 999 * 4 * 28**2)
    with pytest.raises(InputError, match=r"=1000: 1,000 images of 1 x 28 x 28 .* set 999 or less$"):
        check_inputs(cfg)


def test_missing_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setattr(wandb, "login", lambda **_: False)
    words = ["logger=wandb", "logger.mode=online", "logger.project=p"]
    with pytest.raises(InputError, match=r"^logger.mode=online: W&B has no login"):
        check_inputs(netinv_lightning.compose(words))


def test_a_logger_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_login, "find_spec", lambda name: None)
    check_inputs(netinv_lightning.compose(["logger=csv"]))
    with pytest.raises(InputError, match=r"^logger=tensorboard: .*netinv_lightning\[tensorboard\]"):
        check_inputs(netinv_lightning.compose(["logger=tensorboard"]))
