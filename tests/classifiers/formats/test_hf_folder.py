"""Folders of transformers and timm: the same logits, their preprocessing, and no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.formats.described import read_described
from netinv_lightning.classifiers.formats.hf_folder import _preprocessing
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError

PIXELS = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "size": {"height": 32, "width": 32},
}


def folder(path: Path, config: dict[str, Any], network: nn.Module, pixels: Any = PIXELS) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessor_config.json").write_text(json.dumps(pixels))
    save_file(network.state_dict(), path / "model.safetensors")
    return path


def loaded(path: Path, *overrides: str) -> FrozenClassifier:
    named = ["classifier=hf", f"classifier.path={path}", *overrides]
    return load_classifier(netinv_lightning.compose(named))


def vit() -> tuple[dict[str, Any], nn.Module]:
    transformers = pytest.importorskip("transformers", reason="skipped: needs the extra hf")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "cat", 1: "dog", 2: "owl"},
        label2id={"cat": 0, "dog": 1, "owl": 2},
    )
    network = transformers.ViTForImageClassification(config).eval()
    return config.to_dict(), network


def test_a_folder_of_transformers_is_a_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, network = vit()
    frozen = loaded(folder(tmp_path / "vit", config, network))
    x_BCHW = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(PIXELS[f"image_{key}"]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = network((x_BCHW - mean) / std).logits
    assert torch.equal(frozen(x_BCHW), expected)
    assert frozen.spec.class_names == ("cat", "dog", "owl")
    assert frozen.spec.shape == (3, 32, 32)
    assert frozen.output.name == "logits"
    assert frozen.feature_dims == {"penultimate": 16}
    printed = capsys.readouterr().err
    assert "3 classes, 3 channels, 32 pixels per side (from the Hugging Face folder)" in printed
    assert "mean [0.5, 0.4, 0.3] and std [0.2, 0.3, 0.4] from the Hugging Face folder" in printed


def test_keys_of_the_config_stand_above_the_folder(tmp_path: Path) -> None:
    config, network = vit()
    path = folder(tmp_path / "vit", config, network)
    frozen = loaded(path, "classifier.mean=[0,0,0]", "classifier.std=[1,1,1]")
    assert not frozen.normalises


def test_shards_are_merged(tmp_path: Path) -> None:
    config, network = vit()
    path = folder(tmp_path / "vit", config, network)
    weights = network.state_dict()
    (path / "model.safetensors").unlink()
    names = {
        name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(weights)
    }
    for shard in set(names.values()):
        save_file({name: weights[name] for name in weights if names[name] == shard}, path / shard)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    found = read_described(path).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_folder_of_timm_is_a_classifier(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="skipped: needs the extra timm")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4).eval()
    own = {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": "test_resnet", "num_classes": 4, "pretrained_cfg": own}
    frozen = loaded(folder(tmp_path / "timm", config, network))
    x_BCHW = torch.rand(2, 3, 64, 64)
    mean = torch.tensor(own["mean"]).view(3, 1, 1)
    assert torch.equal(frozen(x_BCHW), network((x_BCHW - mean) / 0.5))
    assert (frozen.spec.num_classes, frozen.spec.image_size) == (4, 64)


@pytest.mark.parametrize(
    ("pixels", "facts"),
    [
        ({"size": 48, "image_mean": [0.5], "image_std": [0.25]},
         {"image_size": 48, "mean": [0.5], "std": [0.25]}),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True,
          "crop_size": {"height": 224, "width": 224}, "do_normalize": False}, {"image_size": 224}),
        ({"do_rescale": True, "rescale_factor": 1 / 127.5, "image_mean": [1.0], "image_std": [1.0]},
         {"mean": [0.5], "std": [0.5]}),
        ({"do_rescale": False, "do_normalize": False}, {"mean": [0.0], "std": [1 / 255]}),
        ({"do_resize": False, "size": {"height": 32, "width": 64}}, {}),
    ],
)  # fmt: skip
def test_the_preprocessing_is_for_pixels_in_unit_range(
    pixels: dict[str, Any], facts: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    found = _preprocessing(tmp_path, "classifier.path=x")
    assert found.keys() == facts.keys()
    assert all(found[key] == pytest.approx(facts[key]) for key in facts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model_type": "timm_wrapper"},
            "model_type=timm_wrapper is not a supported image classif",
        ),
        ({"model_type": "vitt"}, "did you mean 'vit'"),
        ({"quantization_config": {"x": 1}}, "quantization_config=.* is not supported"),
        ({"hidden_size": "wide"}, "describes no network"),
        ({"architecture": "hf-hub:a/b", "model_type": None}, "hf-hub:a/b"),
    ],
)
def test_a_folder_that_asks_for_more_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config, network = vit()
    config = {key: value for key, value in (config | change).items() if value is not None}
    with pytest.raises(InputError, match=said):
        loaded(folder(tmp_path / "vit", config, network))


def test_code_kernels_and_pickles_of_a_folder_are_left_alone(tmp_path: Path) -> None:
    config, network = vit()
    config |= {
        "auto_map": {"AutoModelForImageClassification": "evil.Evil"},
        "attn_implementation": "kernels-community/evil",
        "_attn_implementation": "kernels-community/evil",
    }
    path = folder(tmp_path / "vit", config, network)
    (path / "evil.py").write_text("raise SystemExit('executed')")
    assert loaded(path).spec.num_classes == 3
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"model\.safetensors is missing; a folder needs safetens"):
        loaded(path)


def test_other_weights_and_broken_files_are_one_line(tmp_path: Path) -> None:
    config, _ = vit()
    path = folder(tmp_path / "vit", config, nn.Linear(2, 2))
    with pytest.raises(InputError, match="do not fit the architecture ViTForImageClassif"):
        loaded(path)
    (path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: is not JSON|config.json cannot be read"):
        loaded(path)
