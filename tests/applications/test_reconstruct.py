"""`application=reconstruct` and `application=audit` on real digits, and invalid input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.applications.audit import AuditApplication
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.evaluation.image_sets import Images, read_samples
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.privacy import comparison
from netinv_lightning.privacy.build import with_training_split
from netinv_lightning.privacy.comparison import best_pairs, compare, verifier_accuracy
from netinv_lightning.privacy.comparison_tables import RECONSTRUCTIONS
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.privacy.real_images import RealImages, real_images
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

FEW = [step for step in FEW_STEPS if "grid" not in step] + [
    "application.grid_columns=2",
    "application.reconstructions=40",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an MLP on 100 of the digits and return its path."""
    folder = tmp_path_factory.mktemp("classifier")
    cfg = netinv_lightning.compose([
        "application=train_classifier", "data=mnist5k", "data.subset_size=100",
        "data.batch_size=20", "classifier=mlp", "recipe.epochs=5",
        "+classifier.network.widths=[32]", f"application.save_as={folder}/mlp.safetensors",
    ])  # fmt: skip
    run(cfg, folder / "run")
    return folder / "mlp.safetensors"


@pytest.fixture(scope="module")
def digits() -> RealImages:
    return real_images(ImageDataModule("mnist5k", subset_size=200), largest=150)


def of(trained: Path) -> list[str]:
    return ["data=mnist5k", "classifier=checkpoint", f"classifier.path={trained}"]


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


def test_no_data_are_read_before_the_images_exist(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack uses only the weights."""
    cfg = netinv_lightning.compose(
        ["application=reconstruct", *FEW, *of(trained), "application.student=false"]
    )
    kept, read = [], ImageDataModule.__init__

    def watched(self: ImageDataModule, *args: Any, **keys: Any) -> None:
        kept.append((tmp_path / "run" / "samples" / "inverted.safetensors").is_file())
        read(self, *args, **keys)

    monkeypatch.setattr(ImageDataModule, "__init__", watched)
    summary = run(cfg, tmp_path / "run")
    assert kept == [True]
    assert names.RECONSTRUCTION_AUC in summary
    assert names.RECONSTRUCTION_STUDENT not in summary


def test_a_reconstruction_from_the_command_line(trained: Path, tmp_path: Path) -> None:
    done = run_command(
        ["application=reconstruct", *FEW, *of(trained), "application.members=60"], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.splitlines()[-1])
    summary = json.loads((directory / "summary.json").read_text())
    with (directory / "reconstruction.csv").open(newline="") as file:
        rows = {row["images"]: row for row in csv.DictReader(file)}
    assert list(rows) == [RECONSTRUCTIONS, *CONTROLS]
    assert float(rows[RECONSTRUCTIONS]["auc"]) == summary[names.RECONSTRUCTION_AUC]
    assert (
        json.loads((directory / "status.json").read_text())["best_metric"]
        == summary[names.RECONSTRUCTION_AUC]
    )
    samples = read_samples(directory / "samples" / "inverted.safetensors", "samples")
    assert samples.targets_nN is not None
    # One-hot conditioning
    assert samples.targets_nN.max(dim=1).values.tolist() == [1.0] * len(samples.labels_n)
    for term in (
        "kl",
        "kl_perturbed",
        "ce",
        "ce_perturbed",
        "cosine",
        "orthogonality",
        "variation",
        "pixel",
        "gradient",
    ):  # the nine terms of the papers
        assert f"loss/{term}" in (directory / "metrics.csv").read_text().splitlines()[0]
    finished = open_finished(directory, "run")
    student = Measurement(finished.classifier, {}, ImageDataModule("mnist5k"), ["cas"])(
        finished.draw(40)
    )
    assert summary[names.RECONSTRUCTION_STUDENT] == student[names.CAS]
    assert (directory / "figures" / "best_pairs.png").stat().st_size > 1000
    assert "60 members" in (directory / "reconstruction.md").read_text()


def quoted(overrides: list[str]) -> str:
    return ",".join(f'"{override}"' for override in overrides)


def test_an_audit_from_the_command_line(trained: Path, tmp_path: Path) -> None:
    few = [step for step in FEW if "reconstructions" not in step]
    attack = [
        "application=audit",
        "application.attacks=[inversion,reconstruction]",
        f"application.overrides=[{quoted(few)}]",
    ]
    done = run_command(
        [*attack, *of(trained), "application.reconstructions=40", "application.members=60"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.splitlines()[-1])
    verdict = json.loads((directory / "verdict.json").read_text())
    assert verdict["line"] in done.stdout
    summary = json.loads((directory / "summary.json").read_text())
    with (directory / "audit.csv").open(newline="") as file:
        rows = {row["images"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["inversion", "reconstruction", *CONTROLS]
    for name in ("inversion", "reconstruction"):
        of_attack = json.loads((directory / "attacks" / name / "summary.json").read_text())
        assert (
            float(rows[name]["auc"])
            == of_attack[names.RECONSTRUCTION_AUC]
            == summary[names.reconstruction("auc_attack", name)]
        )
    assert summary[names.reconstruction("auc_of_loss")] > 0.5  # five epochs on 100 images
    shown = [
        (directory / "attacks" / name / "figures" / "best_pairs.png").read_bytes()
        for name in ("inversion", "reconstruction")
    ]
    # those of the strongest attack
    assert (directory / "figures" / "best_pairs.png").read_bytes() in shown


def test_an_audit_fails_if_every_attack_fails(trained: Path, tmp_path: Path) -> None:
    overrides = quoted([*FEW_STEPS, "application.lr=1e30"])
    attack = [
        "application=audit",
        "application.attacks=[inversion]",
        f"application.overrides=[{overrides}]",
        "application.members=60",
    ]
    cfg = netinv_lightning.compose([*attack, *of(trained)])
    with pytest.raises(RuntimeError, match="every attack failed: inversion: "):
        run(cfg, tmp_path / "run")


def test_data_of_another_set_are_refused_before_the_attack(trained: Path, tmp_path: Path) -> None:
    """No data are read. A verdict on images that the classifier never saw would be misleading."""
    for application in ("reconstruct", "audit"):
        cfg = netinv_lightning.compose(
            [f"application={application}", *of(trained), "data=fashion_mnist", "data.root=nowhere"]
        )
        with pytest.raises(
            InputError,
            match=r"data=fashion_mnist: the classifier was trained on mnist5k",
        ):
            run(cfg, tmp_path / "run")
    cfg = netinv_lightning.compose(
        ["application=reconstruct", "classifier.zoo=mnist_cnn", "data=mnist", "data.classes=[3,1]"]
    )
    with pytest.raises(
        InputError,
        match=r"data=mnist: has num_classes=2, but the classifier has num_classes=10",
    ):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_kkt_reconstruction_has_at_most_its_candidates(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack = [
        "application=reconstruct",
        "method=kkt",
        "method.steps=1",
        "method.candidates=30",
        "application.student=false",
    ]
    run(
        netinv_lightning.compose([*attack, *of(trained), "application.members=60"]),
        tmp_path / "run",
    )
    with (tmp_path / "run" / "reconstruction.csv").open(newline="") as file:
        rows = {row["images"]: row for row in csv.DictReader(file)}
    assert rows[RECONSTRUCTIONS]["n"] == "30"
    (verdict,) = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("verdict: ") and "strongest attack" in line
    ]
    found = float(rows["planted leak"]["p_value"]) <= 0.05
    assert verdict.startswith(
        "verdict: no leak found: " if found else "verdict: inconclusive: too few images: "
    )
    kept = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert kept["line"] == verdict
    assert "diagnosis" in kept


def test_a_fine_tuned_classifier_is_judged_by_test_images(trained: Path, tmp_path: Path) -> None:
    for file in (trained, trained.with_suffix(".json")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = json.loads((tmp_path / "mlp.json").read_text())
    card["recipe"]["trained_before"] = True
    (tmp_path / "mlp.json").write_text(json.dumps(card))
    command = ["application=audit", "application.attacks=[inversion]"]
    before, audit = (
        make_application(netinv_lightning.compose([*command, *of(path)]))
        for path in (trained, tmp_path / trained.name)
    )
    assert isinstance(audit, AuditApplication)
    assert isinstance(before, AuditApplication)
    assert (before.real.exchangeable, audit.real.exchangeable) == (True, False)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["application.attacks=[inversoin]"],
            "application.attacks=inversoin: did you mean 'inversion'?",
        ),
        (["application.attacks=[]"], "application.attacks=\\[\\]: is empty. Give at least one"),
        (["application.effort=quik"], "application.effort=quik: did you mean 'quick'?"),
        (
            ["data.subset_size=200"],
            "data.subset_size=200: the classifier was trained with data.subset_size=100",
        ),
        (
            ["data=mnist", "data.root=nowhere"],
            "data=mnist: an audit needs training and held-out images; "
            "no real data: data.root=nowhere",
        ),
        (["application.members=0"], "application.members=0: must be 1 or more"),
        (
            ["application.members=9"],
            "application.members=9: must be 10 or more, one image per class",
        ),
        (
            ["application.reconstructions=9"],
            "application.reconstructions=9: must be 10 or more, one image per class",
        ),
    ],
)
def test_invalid_options_of_an_audit_are_refused(
    trained: Path, tmp_path: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        run(
            netinv_lightning.compose(
                ["application=audit", "application.attacks=[inversion]", *of(trained), *overrides]
            ),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_without_a_card_the_training_data_must_be_given(trained: Path, tmp_path: Path) -> None:
    """Otherwise an audit would use the default split as members and detect no leak."""
    (tmp_path / "mlp.safetensors").write_bytes(trained.read_bytes())
    network = "{_target_: netinv_lightning.classifiers.networks.MLP, widths: [32]}"
    cardless = [
        "application=audit",
        *of(tmp_path / "mlp.safetensors"),
        f"+classifier.network={network}",
    ]
    for application in ("audit", "reconstruct"):
        with pytest.raises(
            InputError,
            match=r"^application.trained_on: is required, .* set all .*data=mnist5k.* or split",
        ):
            make_application(netinv_lightning.compose([*cardless, f"application={application}"]))
    told = {
        name: with_training_split(
            netinv_lightning.compose(
                [*cardless, "data.subset_size=100", f"application.trained_on={name}"]
            )
        ).data
        for name in ("all", "split")
    }
    assert (told["all"].val_fraction, told["all"].subset_size) == (0, None)
    assert (told["split"].val_fraction, told["split"].subset_size) == (0.1, 100)
    with pytest.raises(InputError, match=r"application.trained_on=al: did you mean 'all'\?"):
        with_training_split(netinv_lightning.compose([*cardless, "application.trained_on=al"]))
    with pytest.raises(
        InputError,
        match=r"application.trained_on=all: the training data of the classifier are known; remove",
    ):
        with_training_split(
            netinv_lightning.compose(
                ["application=audit", *of(trained), "application.trained_on=all"]
            )
        )


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
