"""Verifiers: what may name one, images of another size, and training one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.classifiers.verifier_names import (
    check_verifier_of,
    check_verifiers,
    entries,
)
from netinv_lightning.classifiers.verifiers import (
    check_class_names,
    check_verified,
    load_verifiers,
    resized,
    verifier_config,
)
from netinv_lightning.config.outside_config import check_run_config
from netinv_lightning.data.specs import CIFAR10, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

NAMES = ("cat", "dog", "owl", "fox")


def spec(side: int = 28, class_names: tuple[str, ...] = NAMES) -> DataSpec:
    return DataSpec("npz", 4, 1, side, (0.5,), (0.25,), class_names)


def network(seed: int, side: int = 28) -> nn.Module:
    torch.manual_seed(seed)
    return MLP(num_classes=4, channels=1, image_size=side, widths=[8])


def frozen(seed: int, side: int = 28, **of_spec: Any) -> FrozenClassifier:
    return FrozenClassifier(network(seed, side), spec(side, **of_spec))


def saved(path: Path, seed: int, side: int = 28, class_names: tuple[str, ...] = NAMES) -> Path:
    own = {"_target_": "netinv_lightning.classifiers.networks.MLP", "widths": [8]}
    card = {"name": path.stem, "network": own, "data": spec(side, class_names).as_dict()}
    save_classifier(path, network(seed, side), card | {"test_accuracy": 0.75, "seed": seed})
    return path


def test_an_entry_is_a_name_a_path_or_a_mapping() -> None:
    asked = [
        "mnist_mlp",
        "some/where/b.pt",
        {"path": "c.pt", "network": {"_target_": "nets.C"}, "image_size": 64},
        {"name": "mine", "zoo": "mnist_cnn"},
        {"network": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}},
    ]
    assert entries(asked) == {
        "mnist_mlp": {"zoo": "mnist_mlp"},
        "b": {"path": "some/where/b.pt"},
        "c": {"path": "c.pt", "network": {"_target_": "nets.C"}, "image_size": 64},
        "mine": {"zoo": "mnist_cnn"},
        "resnet18": {"network": asked[4]["network"]},  # type: ignore[index]
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["mnist_mpl"], "is not in the zoo; did you mean 'mnist_mlp'"),
        ([7], "verifiers=7: must be the name of a classifier in the zoo, the path of a "),
        ([{"pathh": "x"}], "pathh is not a key of a verifier; did you mean 'path'"),
        ([{"image_size": 3}], "must have zoo, path or network"),
        (["mnist_mlp", {"zoo": "mnist_mlp"}], "verifiers=mnist_mlp: is named twice"),
    ],
)
def test_other_entries_are_refused(asked: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        entries(asked)


def test_files_are_checked_before_torch_is_loaded(tmp_path: Path) -> None:
    mine = saved(tmp_path / "mine.safetensors", 0)
    bare = tmp_path / "bare.safetensors"
    save_file(network(1).state_dict(), bare)
    classifier = ["classifier=checkpoint", f"classifier.path={mine}"]
    for path, said in (
        (tmp_path / "no.pt", "verifiers=no: there is no such file"),
        (bare, r"bare: has no model card \(bare.json\). Name its network"),
        (tmp_path / ".." / tmp_path.name / "mine.safetensors", "is the classifier that is inv"),
    ):
        cfg = netinv_lightning.compose([*classifier, f"application.verifiers=['{path}']"])
        with pytest.raises(InputError, match=said):
            check_verifiers(cfg, compare=True)


def test_the_remedy_for_a_missing_card_is_one_of_the_key(tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(network(1).state_dict(), bare)
    for entry in (f"'{bare}'", f"{{path: '{bare}', image_size: 28}}"):
        cfg = netinv_lightning.compose([f"application.verifiers=[{entry}]"])
        with pytest.raises(InputError, match=r"Name its network: 'application.verifiers="):
            check_verifiers(cfg, compare=True)
    cfg = netinv_lightning.compose(
        ["application=train_classifier", f"application.verifier_of='{bare}'"]
    )
    with pytest.raises(InputError) as refused:
        check_verifier_of(cfg)
    assert str(refused.value) == (
        f"application.verifier_of={bare}: has no model card (bare.json). Give a classifier with a "
        "model card, such as one that application=train_classifier saved, or a file that contains "
        "its network (.pt2, .onnx)"
    )


def test_a_verifier_of_another_size_gets_resized_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "big.safetensors", 1, side=40)
    cfg = netinv_lightning.compose()
    (verifier,) = load_verifiers([str(path)], cfg, frozen(0)).values()
    x_BCHW = torch.rand(3, 1, 28, 28)
    big_BCHW = F.interpolate(x_BCHW, (40, 40), mode="bilinear", antialias=True)
    expected = network(1, 40).eval()((big_BCHW - 0.5) / 0.25)
    # Resized before the normalisation here and after it there: equal up to rounding.
    torch.testing.assert_close(verifier(x_BCHW), expected, rtol=1e-5, atol=1e-5)
    assert verifier.spec.image_size == 28
    assert verifier.feature_dims == {"penultimate": 8}
    assert verifier.card["test_accuracy"] == 0.75
    assert "verifiers=big: images are resized from 28 to 40 pixels" in capsys.readouterr().err
    same = frozen(2)
    assert resized(same, spec()) is same


def test_a_description_needs_no_card(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    save_file(network(3, 32).state_dict(), path)
    target = {"_target_": "netinv_lightning.classifiers.networks.MLP", "widths": [8]}
    keys = {"mean": [0.1], "std": [0.2], "image_size": 32}
    asked = [{"name": "v", "path": str(path), "network": target, **keys}]
    loaded = load_verifiers(asked, netinv_lightning.compose(["data=npz"]), frozen(0))
    big_BCHW = F.interpolate(x_BCHW := torch.rand(2, 1, 28, 28), (32, 32), mode="bilinear")
    expected = network(3, 32).eval()((big_BCHW - 0.1) / 0.2)
    torch.testing.assert_close(loaded["v"](x_BCHW), expected, rtol=1e-5, atol=1e-5)


def test_the_classifier_and_other_classes_are_refused(tmp_path: Path) -> None:
    cfg = netinv_lightning.compose()
    for side in (28, 28):
        path = saved(tmp_path / "copy.safetensors", 0, side)
        with pytest.raises(InputError, match=r"copy: is the classifier that is inverted \(the w"):
            load_verifiers([str(path)], cfg, frozen(0))
    with pytest.raises(InputError, match="mnist_mlp: has num_classes=10, but the classifier"):
        load_verifiers(["mnist_mlp"], cfg, frozen(0))
    path = saved(tmp_path / "other.safetensors", 1, class_names=("cat", "owl", "dog", "fox"))
    with pytest.raises(InputError, match=r"other: its class 1 is owl, but class 1 of .* is dog"):
        load_verifiers([str(path)], cfg, frozen(0))
    check_class_names("x", spec(class_names=("0", "1", "2", "3")), spec())  # without names


def test_the_transfer_is_given_per_class_and_of_the_top_five() -> None:
    class Chosen(nn.Module):
        """Ranks the classes 0 to 9 for every image; all of them have the class 9 first."""

        def __init__(self, order: list[int]) -> None:
            super().__init__()
            self.order = nn.Buffer(torch.tensor(order, dtype=torch.float32))

        def forward(self, x_BCHW: Tensor) -> Tensor:
            return self.order + 0 * x_BCHW.flatten(1)[:, :1]

    module = build_inversion(netinv_lightning.compose([*FEW_STEPS, "data=mnist"]), None)
    of_zoo = module.classifier.spec
    verifiers = {
        name: FrozenClassifier(Chosen(order), of_zoo, feature_layers=["logits"])
        for name, order in (("up", list(range(10))), ("down", list(range(9, -1, -1))))
    }
    metrics, _ = evaluate(module, 40, 20, 0, verifiers)
    per_class = [metrics[names.class_accuracy(str(k), names.TRANSFER_ACCURACY)] for k in range(10)]
    assert per_class == [0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5]
    assert metrics[names.TRANSFER_TOP5] == pytest.approx(0.5)  # each ranks the other half
    for accuracy in (names.TRANSFER_ACCURACY, names.TRANSFER_ACCURACY_HOT):
        for label, expected in (("0", (0, 1)), ("5", (0, 0)), ("9", (1, 0))):
            of_class = names.class_accuracy(label, accuracy)
            assert (metrics[f"{of_class}/up"], metrics[f"{of_class}/down"]) == expected
    assert metrics[names.TRANSFER_WORST_CLASS] == metrics[names.TRANSFER_WORST_CLASS_HOT] == 0


def test_a_config_from_outside_may_name_verifiers_but_no_code() -> None:
    def of(*asked: Any) -> dict[str, Any]:
        return {"application": {"verifiers": list(asked)}}

    own = {"_target_": "netinv_lightning.classifiers.networks.MLP", "widths": [8]}
    check_run_config(of("mnist_mlp", "/data/v.safetensors", {"path": "v", "network": own}), "here")
    for entry in (
        {"network": {"_target_": "os.system", "command": "x"}},
        {"path": {"_target_": "os.system"}},
        {"network": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}},
    ):
        with pytest.raises(InputError, match=r"here: application\.verifiers"):
            check_run_config(of(entry), "here")


def test_a_verifier_differs_in_network_and_seed() -> None:
    verified = frozen(0)
    verified.card = {"seed": 5}
    cfg = verifier_config(netinv_lightning.compose(["seed=5", "classifier=mlp"]), verified)
    assert (cfg.recipe.seed, cfg.classifier.network._target_.rpartition(".")[2]) == (6, "MLP")
    cfg = verifier_config(netinv_lightning.compose(["seed=4"]), verified)
    assert cfg.recipe.seed is None
    assert cfg.classifier.network._target_.endswith(".ResNet")
    with pytest.raises(InputError, match="the classifier has num_classes=4, but data=cifar10 has"):
        check_verified(CIFAR10, verified)


def test_a_verifier_is_trained_on_the_users_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = saved(tmp_path / "mine.safetensors", 0, class_names=("0", "1", "2", "3"))
    label_n = np.arange(40) % 4
    images_nHW = np.zeros((40, 28, 28), np.uint8)
    images_nHW[np.arange(40), label_n * 7] = 255
    np.savez(tmp_path / "own.npz", X=images_nHW, y=label_n)
    cfg = netinv_lightning.compose(
        [
            "application=train_classifier",
            f"application.verifier_of={mine}",
            f"application.save_as={tmp_path / 'verifier.safetensors'}",
            "data=npz",
            f"data.path={tmp_path / 'own.npz'}",
            "data.batch_size=10",
            "recipe.epochs=1",
            "trainer.accelerator=cpu",
            "trainer.precision=32-true",
            "classifier=mlp",
            "+classifier.network.widths=[4]",
        ]
    )
    run(cfg, tmp_path / "run")
    card = json.loads((tmp_path / "verifier.json").read_text())
    assert (card["verifier_of"], card["seed"]) == (str(mine), 1)
    assert f"application.verifiers=[{tmp_path / 'verifier.safetensors'}]" in capsys.readouterr().out
    found = load_verifiers([card_path := str(tmp_path / "verifier.safetensors")], cfg, frozen(0))
    assert [*found] == ["verifier"], card_path
