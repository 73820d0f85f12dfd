"""`application=approach` with images and features in files, and invalid input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.run import run
from tests.applications.approach_runs import HALF, config_of


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """Return four bright strokes on black, like those of digits, [4, 1, 28, 28]."""
    x_tCHW = torch.zeros(4, 1, 28, 28)
    x_tCHW[0, 0, 4:24, 12:15] = 1
    x_tCHW[1, 0, 5:8, 6:22] = x_tCHW[1, 0, 5:24, 19:22] = 1
    x_tCHW[2, 0, 6:22, 7:10] = x_tCHW[2, 0, 6:22, 18:21] = x_tCHW[2, 0, 6:9, 7:21] = x_tCHW[
        2, 0, 19:22, 7:21
    ] = 1
    x_tCHW[3, 0, 4:14, 8:11] = x_tCHW[3, 0, 13:16, 8:21] = x_tCHW[3, 0, 4:24, 18:21] = 1
    return x_tCHW


def test_features_of_images_are_approached(
    digits: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file contains images or their features. The results are almost the same."""
    features_tD = load_zoo("mnist_mlp").logits_and_features(digits)[1]["penultimate"]
    save_file({"images": (digits * 255).round().byte()}, tmp_path / "images.safetensors")
    save_file({"features": features_tD}, tmp_path / "features.safetensors")
    overrides = ["application.target=features", "application.rows=3", "application.steps=150"]
    metrics = run(
        config_of(*overrides, f"application.file={tmp_path}/images.safetensors"),
        tmp_path / "images",
    )
    assert metrics[names.TARGET_ERROR] < 0.15
    assert metrics[names.TARGET_ERROR_UNRELATED] > 5 * metrics[names.TARGET_ERROR]
    assert metrics[names.TARGET_RMSE] < metrics[names.TARGET_RMSE_UNRELATED]
    assert names.TARGET_SSIM_UNRELATED in metrics
    samples = load_file(tmp_path / "images" / "samples" / "approached.safetensors")
    torch.testing.assert_close(samples["originals"], digits[:3])
    torch.testing.assert_close(samples["targets"], features_tD[:3])
    assert "an unrelated target" in capsys.readouterr().out

    of_features = run(
        config_of(*overrides, f"application.file={tmp_path}/features.safetensors"),
        tmp_path / "features",
    )
    assert names.TARGET_RMSE not in of_features
    torch.testing.assert_close(
        torch.tensor(of_features[names.TARGET_ERROR]),
        torch.tensor(metrics[names.TARGET_ERROR]),
        rtol=0.05,
        atol=0,
    )


def test_a_neuron_fires_more_than_for_noise_and_for_the_file(
    digits: Tensor, tmp_path: Path
) -> None:
    save_file({"images": digits}, tmp_path / "images.safetensors")
    neuron = [
        "application.target=neuron",
        "application.units=[3,7]",
        f"application.file={tmp_path}/images.safetensors",
    ]
    metrics = run(config_of(*neuron), tmp_path / "high")
    for images in ("noise", "file"):
        assert (
            metrics[names.activation(images, "mean")]
            < metrics[names.activation(images, "p99")]
            < metrics[names.TARGET_REACHED] / 2
        )
    assert metrics[names.TARGET_REACHED_BEST] >= metrics[names.TARGET_REACHED]
    assert names.TARGET_ERROR not in metrics
    assert (
        json.loads((tmp_path / "high" / "status.json").read_text())["best_metric"]
        == metrics[names.TARGET_REACHED]
    )

    metrics = run(
        config_of(*neuron, "application.value=0.5", "application.layer=hidden.1"),
        tmp_path / "value",
    )
    assert metrics[names.TARGET_REACHED] == pytest.approx(0.5, abs=0.1)
    assert metrics[names.TARGET_ERROR] < 0.1


def test_invalid_input_is_refused_before_anything_is_written(
    digits: Tensor, tmp_path: Path
) -> None:
    files = {
        "good": {"images": digits},
        "shape": {"images": digits[:, :, :20]},
        "range": {"images": digits * 2},
        "nan": {"images": digits * math.nan},
        "width": {"features": torch.ones(2, 5)},
        "infinite": {"features": torch.full((2, 128), math.inf)},
        "zero": {"features": torch.zeros(2, 128)},
        "flat": {"features": torch.ones(2, 128)},
        "other": {"pictures": digits},
    }
    for name, tensors in files.items():
        save_file(
            {key: x.contiguous() for key, x in tensors.items()}, tmp_path / f"{name}.safetensors"
        )
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00\x01")

    def file(name: str) -> list[str]:
        return ["application.target=features", f"application.file={tmp_path}/{name}.safetensors"]

    cfg, neuron = config_of(), ["application.target=neuron", "application.units=[3]"]
    for overrides, message in (
        (["application.target=sotf"], r"^application.target=sotf: did you mean 'soft'\?$"),
        ([], r"^application.vector: is missing; application.target=soft requires it$"),
        (["application.vector=[]"], r"^application.vector: is missing"),
        (["application.vector=[1,0]"], r"has 2 numbers; must have 10, one per class$"),
        (
            ["application.vector=[2,-1,0,0,0,0,0,0,0,0]"],
            r"must contain numbers of 0 or more that sum to 1, not 1. For logits set",
        ),
        (["application.vector=[1,1,0,0,0,0,0,0,0,0]"], r"sum to 1, not 2"),
        (
            ["application.vector=[[1,0,0,0,0,0,0,0,0,0],[1]]"],
            r"^application.vector\[1\]=\[1\]: has 1 numbers",
        ),
        (["application.vector=[1,a,0,0,0,0,0,0,0,0]"], r"must be a list of finite numbers"),
        (["application.vector=[nan,0,0,0,0,0,0,0,0,0]"], r"must be a list of finite numbers"),
        (
            ["application.target=logits", "application.vector=[0,0,0,0,0,0,0,0,0,0]"],
            r"Set application.target=soft$",
        ),
        (
            [HALF, "application.units=[1]"],
            r"^application.units: is a key of application.target=neuron, not soft. Leave it out$",
        ),
        (
            ["application.target=neuron"],
            r"^application.units: is missing; application.target=neuron requires it$",
        ),
        (
            [*neuron, "application.units=[128]"],
            r"^application.units=128: must be from 0 to 127, the units of layer penultimate$",
        ),
        ([*neuron, "application.units=[-1]"], r"^application.units=-1: must be 0 or more$"),
        ([*neuron, "application.value=inf"], r"^application.value=inf: must be a finite number"),
        (
            [*neuron, "application.layer=hiden.0"],
            r"^application.layer=hiden.0: the network has no such layer; "
            r"did you mean 'hidden.0'\?$",
        ),
        ([*neuron, f"application.file={tmp_path}/flat.safetensors"], r"contains no images"),
        (
            ["application.target=features"],
            r"^application.file: is missing; application.target=features requires it$",
        ),
        (
            file("nowhere"),
            r"nowhere.safetensors: there is no such file \(looked for .*nowhere.safetensors\)$",
        ),
        (file("damaged"), r"is not a complete safetensors file"),
        (
            file("other"),
            r"must contain the tensor images or features; it contains pictures$",
        ),
        (
            file("shape"),
            r"images are of shape \(4, 1, 20, 28\); must be \(t, 1, 28, 28\), "
            r"the images of the classifier$",
        ),
        (file("range"), r"range.safetensors: 4 of 4 images have pixels outside \[0, 1\]"),
        (file("nan"), r"nan.safetensors: 4 of 4 images contain NaN"),
        (
            file("width"),
            r"features are of shape \(2, 5\); must be \(t, 128\), "
            r"the features of layer penultimate$",
        ),
        (file("infinite"), r"features contain NaN or infinity"),
        (file("zero"), r"features that are all 0"),
        ([*file("good"), "application.rows=0"], r"^application.rows=0: must be 1 or more$"),
        ([HALF, "application.images=0"], r"^application.images=0: must be 1 or more$"),
        ([HALF, "application.steps=0"], r"^application.steps=0: must be 1 or more$"),
        ([HALF, "application.lr=0"], r"^application.lr=0.0: must be above 0$"),
        (
            [HALF, "application.parametrisation=wavelet"],
            r"^application.parametrisation=wavelet: choose from",
        ),
        (
            [HALF, "augmentation.scale=1"],
            r"^augmentation.scale=1.0: must be at least 0 and below 1$",
        ),
        (
            [HALF, "application.verifiers=[mnist_mlp]"],
            r"verifiers=mnist_mlp: is the classifier that is inverted",
        ),
        ([HALF, "n_generators=2"], r"^n_generators=2: application=approach has no generator"),
        (
            [HALF, "trainer.devices=2"],
            r"^trainer.devices=2: application=approach runs in one process only",
        ),
    ):
        given = cfg.copy()
        given.merge_with_dotlist(overrides)
        with pytest.raises(InputError, match=message) as error:
            run(given, tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists(), overrides
