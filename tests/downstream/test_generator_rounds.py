"""Rounds of a generator that give a student new images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.compose import compose
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.downstream.classifier_predictions import predict
from netinv_lightning.downstream.distillation import softened_kl
from netinv_lightning.downstream.generator_rounds import (
    GeneratorRounds,
    reset_first_stage,
)
from netinv_lightning.downstream.replay_buffer import ReplayBuffer
from netinv_lightning.evaluation.finished_run import inversion_config, load_generators
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.objective import Objective

CPU = torch.device("cpu")


IMAGES = 30


def rounds(
    inverted_cnn: Path, weight: float = 1.0, seed: int = 0, loss: str = "rounds"
) -> tuple[GeneratorRounds, ReplayBuffer, Classifier]:
    module = load_generators(inversion_config(inverted_cnn), inverted_cnn)
    assert module is not None
    buffer = ReplayBuffer(10, seed, CPU)
    student = Classifier(load_zoo("mnist_mlp").network, module.classifier.spec)
    objective = Objective(plain_dict(compose(["application=distill", f"loss={loss}"]).loss))
    return (
        GeneratorRounds(
            module,
            objective,
            buffer,
            Augmentation(shift=1),
            weight=weight,
            temperature=4.0,
            every=5,
            seed=seed,
            images=IMAGES,
        ),
        buffer,
        student.train(),
    )


def test_rounds_fill_the_buffer_and_do_not_change_the_student(
    inverted_cnn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, steps in (("STEPS", 3), ("WARM_UP_STEPS", 1)):
        monkeypatch.setattr(f"netinv_lightning.downstream.generator_rounds.{name}", steps)
    generation, buffer, student = rounds(inverted_cnn)
    before, state = (
        torch.get_rng_state(),
        {name: value.clone() for name, value in student.state_dict().items()},
    )
    for step in range(6):
        generation(step, student)
        assert len(buffer) == 2 * IMAGES * (1 + step // 5)
    new_nCHW = generation.new_round(student)
    assert len(buffer) == 2 * len(new_nCHW)
    assert all(torch.equal(state[name], value) for name, value in student.state_dict().items())
    assert student.training
    assert all(weight.requires_grad for weight in student.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    again, buffer_again, student_again = rounds(inverted_cnn)
    again(0, student_again)
    again(5, student_again)
    assert torch.equal(buffer.images_nCHW, buffer_again.images_nCHW)
    assert torch.equal(new_nCHW, again.new_round(student_again))
    other, buffer_other, _ = rounds(inverted_cnn, seed=1)
    other(0, student)
    assert not torch.equal(buffer.images_nCHW[: len(buffer_other)], buffer_other.images_nCHW)


def test_rounds_are_more_diverse_than_the_generator(inverted_cnn: Path) -> None:
    """Images of one class differ more between rounds; the teacher still recognises them."""
    generation, _, student = rounds(inverted_cnn, weight=0.0)
    module = generation.module
    label_n = torch.full((IMAGES,), 3)
    plain_nCHW = module.draw(module.conditioning.of_labels(label_n))
    made = [generation.new_round(student)[-IMAGES:] for _ in range(4)]
    label_B = torch.arange(IMAGES) % 10
    of_rounds_nCHW = torch.cat([x_BCHW[label_B == 3] for x_BCHW in made])
    assert float(of_rounds_nCHW.var(dim=0).mean()) > 1.5 * float(plain_nCHW.var(dim=0).mean())
    assert float((predict(module.classifier, made[-1]) == label_B).float().mean()) > 0.9


def test_the_contrast_of_cmi_remembers_the_images_of_earlier_rounds(
    inverted_cnn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.downstream.generator_rounds.STEPS", 1)
    monkeypatch.setattr("netinv_lightning.downstream.generator_rounds.WARM_UP_STEPS", 0)
    monkeypatch.setattr("netinv_lightning.downstream.generator_rounds.EARLIER_IMAGES", IMAGES + 5)
    generation, _, student = rounds(inverted_cnn, loss="cmi")
    generation.augmentation = Augmentation()
    made = [generation.new_round(student) for _ in range(2)]
    classifier = generation.module.classifier
    features = [classifier.logits_and_features(x_BCHW)[1]["penultimate"] for x_BCHW in made]
    expected_KD = torch.cat([features[1], features[0][:5]])
    torch.testing.assert_close(generation.earlier["penultimate"], expected_KD)
    plain, _, student = rounds(inverted_cnn, loss="dafl")
    plain.new_round(student)
    assert not plain.earlier


def test_parts_of_a_batch_give_the_same_images(
    inverted_cnn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, steps in (("STEPS", 2), ("WARM_UP_STEPS", 0)):
        monkeypatch.setattr(f"netinv_lightning.downstream.generator_rounds.{name}", steps)
    made, sizes = [], set()
    torch.set_default_dtype(torch.float64)
    try:
        for micro_batch in (None, 3):
            generation, _, student = rounds(inverted_cnn)
            generation.micro_batch, generation.images = micro_batch, 10
            generation.module.double()
            student.double()
            for network in (generation.module.classifier.network, student.network):
                network.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
            made.append(generation.new_round(student))
            assert max(sizes) == (micro_batch or 10)
            sizes.clear()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(made[0], made[1], rtol=1e-8, atol=1e-10)
    assert made[0].dtype == torch.float64


def test_weight_of_disagreement_increases_disagreement(inverted_cnn: Path) -> None:
    def disagreement(weight: float) -> float:
        generation, _, student = rounds(inverted_cnn, weight)
        x_BCHW = generation.new_round(student)[-IMAGES:]
        return float(
            softened_kl(student.eval()(x_BCHW), generation.module.classifier(x_BCHW), 4.0)
            .detach()
            .mean()
        )

    assert disagreement(3.0) > 1.2 * disagreement(0.0)


def test_only_the_first_stage_is_reinitialised(inverted_cnn: Path) -> None:
    module = load_generators(inversion_config(inverted_cnn), inverted_cnn)
    assert module is not None
    generator = module.generators[0]
    assert isinstance(generator, Generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    with torch.random.fork_rng():
        reset_first_stage(generator)
    changed = {
        name.partition(".")[0]
        for name, value in generator.state_dict().items()
        if not torch.equal(before[name], value)
    }
    assert changed == {"stage1", "embedding"}
