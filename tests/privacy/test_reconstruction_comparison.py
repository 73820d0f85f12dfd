"""Members, held-out images and controls, and how reconstructions are compared with them."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.privacy import comparison
from netinv_lightning.privacy.comparison import best_pairs, compare, verifier_accuracy
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.privacy.real_images import RealImages, real_images


@pytest.fixture(scope="module")
def digits() -> RealImages:
    return real_images(ImageDataModule("mnist5k", subset_size=200), largest=150)


def pixels(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images_nCHW}


def test_members_held_out_and_other_images_are_disjoint(digits: RealImages) -> None:
    data = ImageDataModule("mnist5k", subset_size=200)
    training = pixels(Images(data.train[0].float() / 255, data.train[1]))
    assert pixels(digits.members) <= training
    assert not pixels(digits.held_out) & training
    assert not pixels(digits.others) & (training | pixels(digits.held_out))
    assert (
        digits.members.labels_n.bincount().tolist()
        == digits.held_out.labels_n.bincount().tolist()
        == [15] * 10
    )
    assert digits.exchangeable


def test_half_of_the_test_images_is_held_out_if_none_is_unused() -> None:
    real = real_images(ImageDataModule("mnist5k", val_fraction=0.0))
    assert not real.exchangeable
    assert len(real.members.labels_n) == len(real.held_out.labels_n) == 500
    assert not pixels(real.held_out) & pixels(real.others)


def test_fine_tuning_excludes_held_out_training_images() -> None:
    data = ImageDataModule("mnist5k", subset_size=200)
    real = real_images(data, largest=150, trained_before=True)
    assert not real.exchangeable
    assert pixels(real.held_out) | pixels(real.others) <= pixels(
        Images(data.test[0].float() / 255, data.test[1])
    )


def test_only_the_planted_leak_shows_memorisation(digits: RealImages) -> None:
    compared = {
        name: compare(control(150, digits, 0), digits) for name, control in CONTROLS.items()
    }
    for name, of_control in compared.items():
        assert (of_control.ncc.p_value <= 0.01) == (name == "planted leak"), name
    copies = compare(digits.members, digits)
    assert copies.nearest_member == pytest.approx(1, abs=1e-5)
    assert copies.good == 1
    assert copies.ncc.auc == 1
    assert set(copies.classes) == set(range(10))


def test_the_transfer_ceiling_uses_part_of_each_class(
    digits: RealImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifiers = [load_zoo("mnist_mlp"), load_zoo("mnist_resnet")]
    found = [
        extract_features(verifier, digits.others.images_nCHW).logits_nN.argmax(dim=1)
        for verifier in verifiers
    ]
    right = [float((found_n == digits.others.labels_n).double().mean()) for found_n in found]
    assert verifier_accuracy(verifiers, digits.others) == pytest.approx(sum(right) / 2)
    assert verifier_accuracy([], digits.others) == 1
    asked: list[int] = []
    monkeypatch.setattr(comparison, "CEILING_IMAGES", 30)
    monkeypatch.setattr(
        comparison,
        "extract_features",
        lambda verifier, x_nCHW: asked.append(len(x_nCHW)) or extract_features(verifier, x_nCHW),
    )
    assert 0.8 < verifier_accuracy(verifiers, digits.others) <= 1
    assert asked == [30, 30]


def test_best_pairs_show_the_copies_first(digits: RealImages) -> None:
    label_n = torch.cat([digits.others.labels_n[:30], digits.members.labels_n[:2]])
    x_nCHW = torch.cat([digits.others.images_nCHW[:30], digits.members.images_nCHW[:2]])
    pairs = best_pairs(Images(x_nCHW, label_n), digits, count=5)
    assert len(pairs) == 5
    for pair in pairs[:2]:
        assert torch.equal(pair.reconstruction_CHW, pair.member_CHW)
        assert pair.similarity == pytest.approx(1, abs=1e-5)
        assert pair.similarity_held_out < 0.999
    assert pairs[2].similarity < 0.999


def test_similar_reconstructions_are_shown_once(digits: RealImages) -> None:
    label = int(digits.members.labels_n[0])
    of_class = digits.members.images_nCHW[digits.members.labels_n == label]
    noise = 0.01 * torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x_nCHW = torch.cat([of_class[:1] + noise, of_class[1:2]])
    pairs = best_pairs(Images(x_nCHW, torch.full((4,), label)), digits)
    assert len(pairs) == 2
    assert torch.equal(pairs[0].reconstruction_CHW, of_class[1])
    assert pairs[1].similarity > 0.99


def test_a_training_set_smaller_than_the_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"data.subset_size=5: must be 10 or more"):
        real_images(ImageDataModule("mnist5k", subset_size=5))


def test_without_held_out_images_the_comparison_is_refused() -> None:
    data = ImageDataModule("mnist5k", val_fraction=0.0)
    data.test = (data.test[0][:0], data.test[1][:0])
    with pytest.raises(
        InputError,
        match="has no held-out images of every class, which the comparison needs",
    ):
        real_images(data)
