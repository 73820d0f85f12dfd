"""`method=sat`: the formula against brute force, proofs of impossibility, and the sampler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from pysat.solvers import Solver
from safetensors.torch import load_file
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.binarised import (
    BinarisedMLP,
    IntegerLayer,
    integer_layers,
    integer_logits,
)
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods import sat
from netinv_lightning.inversion.methods.cnf import Cnf, NetworkCnf, keep_between, one_of_each
from netinv_lightning.inversion.methods.sat import SatInversion
from netinv_lightning.inversion.methods.sat_models import (
    all_models,
    first_model,
    largest_margin,
    random_models,
)
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.training.trainer import make_trainer

Compose = Callable[..., DictConfig]
CONDITIONING = Conditioning(3, 3)


def tiny(widths: tuple[int, ...] = (5,), seed: int = 21) -> FrozenClassifier:
    """Return a random network of 3 x 3 pixels and three classes."""
    torch.manual_seed(seed)
    network = BinarisedMLP(num_classes=3, channels=1, image_size=3, widths=widths)
    for layer in (*network.hidden, network.head):
        nn.init.normal_(layer.parametrizations.bias.original, std=1.5)
    spec = DataSpec("tiny", 3, 1, 3, (0.4,), (0.3,), ("a", "b", "c"))
    return FrozenClassifier(network, spec)


def layers_of(classifier: FrozenClassifier) -> list[IntegerLayer]:
    network = classifier.network
    assert isinstance(network, BinarisedMLP)
    return integer_layers(network)


def every_input(bits: int) -> Tensor:
    return torch.tensor([*product((-1, 1), repeat=bits)])


def rows(bits_nI: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in bits_nI.tolist()}


def with_margin(logits_BN: Tensor, label: int, margin: int) -> Tensor:
    """Return where the label is predicted [B] and its logit leads by at least a margin."""
    others_BN = logits_BN.clone()
    others_BN[:, label] = -1000
    lead_B = logits_BN[:, label] - others_BN.max(dim=1).values
    return (logits_BN.argmax(dim=1) == label) & (lead_B >= margin)


@pytest.mark.parametrize("k", range(-1, 7))
def test_a_count_is_defined_in_both_directions(k: int) -> None:
    cnf = Cnf(5)
    literals = [1, -2, 3, 4, -5]
    enough = cnf.at_least(literals, k)
    for bits in product((False, True), repeat=5):
        fixed = [x if bit else -x for x, bit in enumerate(bits, start=1)]
        true = sum(literal in fixed for literal in literals)
        with Solver(name="minisat22", bootstrap_with=cnf.clauses) as solver:
            assert solver.solve([*fixed, enough]) == (true >= k)
            assert solver.solve([*fixed, -enough]) == (true < k)


@pytest.mark.parametrize("widths", [(), (5,), (4, 6)])
@pytest.mark.parametrize("margin", [0, 1, 4])
def test_enumeration_equals_brute_force(widths: tuple[int, ...], margin: int) -> None:
    layers = layers_of(tiny(widths, seed=3))
    x_BI = every_input(9)
    logits_BN, network = integer_logits(layers, x_BI), NetworkCnf(layers)
    for label in range(3):
        found_nI, complete = all_models(network.of_class(label, margin), 9)
        expected = x_BI[with_margin(logits_BN, label, margin)]
        assert complete
        assert len(found_nI) == len(expected)
        assert rows(found_nI) == rows(expected)
    assert int(logits_BN.argmax(dim=1).bincount(minlength=3).min()) > 0  # no empty class


def test_every_input_has_exactly_one_model() -> None:
    layers = layers_of(tiny())
    cnf = NetworkCnf(layers).of_class(0)
    with Solver(name="minisat22", bootstrap_with=cnf.clauses) as solver:
        models = sum(1 for _ in solver.enum_models())  # of all variables
    assert models == len(all_models(cnf, 9)[0])


def test_bright_pixels_and_one_hot_groups_are_constrained() -> None:
    cnf = Cnf(6)
    keep_between(cnf, range(1, 7), lowest=2, highest=3)
    one_of_each(cnf, [(0, 1, 2)])
    found_nI, _ = all_models(cnf, 6)
    x_BI = every_input(6)
    ones_B = (x_BI > 0).sum(dim=1)
    expected_B = (ones_B >= 2) & (ones_B <= 3) & ((x_BI[:, :3] > 0).sum(dim=1) == 1)
    assert rows(found_nI) == rows(x_BI[expected_B])
    assert len(all_models(cnf, 6, limit=2)[0]) == 2
    assert not all_models(cnf, 6, limit=2)[1]
    assert all_models(cnf, 6, limit=len(found_nI))[1]


def test_a_planted_digit_is_recovered() -> None:
    """All pixels but 8 are given; the solutions are those of brute force, the digit among them."""
    classifier = load_zoo("digits_binarised")
    layers = layers_of(classifier)
    network = NetworkCnf(layers)
    planted_I = first_model(network.of_class(3, margin=6), 64)
    assert planted_I is not None
    free = [10, 19, 27, 28, 36, 37, 45, 54]
    x_BI = planted_I.repeat(256, 1)
    x_BI[:, free] = every_input(8)
    expected = x_BI[integer_logits(layers, x_BI).argmax(dim=1) == 3]
    cnf = network.of_class(3)
    known = set(range(64)) - set(free)
    cnf.clauses += [[int(planted_I[pixel]) * (pixel + 1)] for pixel in known]
    found_nI, complete = all_models(cnf, 64)
    assert complete
    assert rows(found_nI) == rows(expected)
    assert tuple(planted_I.tolist()) in rows(found_nI)


def test_the_largest_margin_is_that_of_brute_force() -> None:
    layers = layers_of(tiny())
    logits_BN = integer_logits(layers, every_input(9))
    for label in range(3):
        best = largest_margin(NetworkCnf(layers), label)
        expected = max(m for m in range(20) if bool(with_margin(logits_BN, label, m).any()))
        assert best is not None
        assert best[0] == expected
        assert bool(with_margin(integer_logits(layers, best[1][None]), label, expected).all())


def test_proved_margins_and_enumerated_images_are_printed(
    compose: Compose, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    classifier = tiny()
    logits_BN = integer_logits(layers_of(classifier), every_input(9))
    method = SatInversion(CONDITIONING, classifier, search="all", limit=7, certify=True)
    trainer = partial(make_trainer, compose("trainer.precision=32-true"))
    method.fit(FitContext(run_dir=RunDir(tmp_path), loggers=[], make_trainer=trainer))
    method.draw(CONDITIONING.of_labels(torch.tensor([0, 1, 2])))
    lines = capsys.readouterr().err.splitlines()
    for label in range(3):
        most = max(m for m in range(20) if bool(with_margin(logits_BN, label, m).any()))
        assert f"method=sat: class {label} has a margin of at most {most} (proved)" in lines
        assert f"method=sat: class {label} has more than 7 inputs" in lines


def test_a_class_without_inputs_is_proved_and_refused() -> None:
    classifier = tiny()
    with torch.no_grad():
        classifier.network.head.parametrizations.bias.original[1] = -100
    network = NetworkCnf(layers_of(classifier))
    assert first_model(network.of_class(1), 9) is None
    assert largest_margin(network, 1) is None
    assert all_models(network.of_class(1), 9)[1]
    with pytest.raises(InputError, match=r"provably assigns no input to class 1 \(unsatisfiable"):
        SatInversion(CONDITIONING, classifier)
    without = Conditioning(3, 3, classes=[0, 2])
    assert SatInversion(without, classifier).draw(without.sample(4)).shape == (4, 1, 3, 3)


def test_the_sampler_reaches_all_solutions_about_equally_often() -> None:
    network = NetworkCnf(layers_of(tiny()))
    cnf = network.of_class(2, margin=2)
    solutions = rows(all_models(cnf, 9)[0])
    drawn_nI = random_models(cnf, 9, count=40 * len(solutions), seed=0)
    assert rows(drawn_nI) == solutions
    _, count_s = drawn_nI.unique(dim=0, return_counts=True)
    assert count_s.max() < 3 * 40


def test_bits_that_no_clause_contains_are_drawn_too() -> None:
    cnf = Cnf(3)
    cnf.clauses.append([2])
    drawn_nI = random_models(cnf, 3, count=50, seed=1)
    assert rows(drawn_nI) == {(a, 1, c) for a in (-1, 1) for c in (-1, 1)}


def test_rejection_and_the_formula_have_the_same_solutions() -> None:
    classifier = tiny()
    method = SatInversion(CONDITIONING, classifier, margin=2, least_bright=3, most_bright=6)
    x_BI = every_input(9)
    logits_BN = integer_logits(layers_of(classifier), x_BI)
    for label in range(3):
        expected = rows(all_models(method.formula(label), 9)[0])
        assert rows(x_BI[method.solves(x_BI, label, logits_BN)]) == expected
        assert len(expected) > 5
    torch.manual_seed(0)
    x_BCHW = method.draw(CONDITIONING.of_labels(torch.tensor([label] * 1000)))
    drawn = rows((2 * x_BCHW - 1).flatten(1).long())
    assert drawn == expected  # 1000 uniform draws reach all solutions of the last class


def test_rare_solutions_are_left_to_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sat, "PROPOSALS", 0)
    method = SatInversion(CONDITIONING, tiny())
    always = SatInversion(CONDITIONING, tiny(), search="cmsgen")
    condition = CONDITIONING.of_labels(torch.tensor([0, 1, 2, 0]))
    torch.manual_seed(0)
    drawn_BCHW = method.draw(condition)
    torch.manual_seed(0)
    assert torch.equal(always.draw(condition), drawn_BCHW)
    assert torch.equal(method.classifier(drawn_BCHW).argmax(dim=1), condition.label_B)


@pytest.mark.parametrize("search", ["random", "cmsgen"])
def test_drawn_images_have_the_requested_classes(search: str) -> None:
    classifier = tiny()
    method = SatInversion(CONDITIONING, classifier, search=search, margin=2)
    condition = CONDITIONING.sample(60)
    torch.manual_seed(5)
    x_BCHW = method.draw(condition)
    assert set(x_BCHW.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(classifier(x_BCHW).argmax(dim=1), condition.label_B)
    torch.manual_seed(5)
    assert torch.equal(method.draw(condition), x_BCHW)
    assert not torch.equal(method.draw(condition), x_BCHW)
    cost = method.cost()
    assert (cost.image_steps, cost.forwards, cost.backwards) == (180, 0, 0)
    assert cost.seconds > 0
    assert method.max_images is None


def test_enumerated_images_repeat_only_after_all_were_drawn() -> None:
    classifier = tiny()
    method = SatInversion(CONDITIONING, classifier, search="all", limit=7)
    assert method.max_images == 21
    x_BCHW = method.draw(CONDITIONING.of_labels(torch.tensor([1] * 14)))
    distinct, count_s = x_BCHW.unique(dim=0, return_counts=True)
    assert (len(distinct), set(count_s.tolist())) == (7, {2})
    assert len(x_BCHW[:7].unique(dim=0)) == 7


def test_networks_that_are_not_binarised_are_refused() -> None:
    spec = DataSpec("tiny", 3, 1, 3, (0.4,), (0.3,), ("a", "b", "c"))
    classifier = FrozenClassifier(MLP(3, 1, 3, widths=(4,)), spec)
    with pytest.raises(
        InputError,
        match=r"^method=sat: needs a binarised network .* MLP; method=generator and .* do without$",
    ):
        SatInversion(CONDITIONING, classifier)
    classifier = tiny()
    classifier.network.threshold = 5.0
    with pytest.raises(InputError, match=r"^method=sat: needs a bit for each pixel, .*=5.0 is not"):
        SatInversion(CONDITIONING, classifier)


def test_a_run_reaches_an_accuracy_of_one(compose: Compose, job_dir: Path) -> None:
    sizes = (f"application.{key}=20" for key in ("eval_samples", "eval_batch_size", "keep_samples"))
    cfg = compose("method=sat", "data=digits", "classifier.zoo=digits_binarised", *sizes)
    metrics = run(cfg, job_dir)
    assert metrics[names.INVERSION_ACCURACY] == 1.0
    assert metrics[names.CLASSIFIER_BACKWARDS] == 0
    images = load_file(job_dir / "samples" / "inverted.safetensors")["images"]
    assert images.shape == (20, 1, 8, 8)
    assert set(images.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(InputError, match=r"^method.margin=99: the network provably assigns no "):
        run(
            compose("method=sat", "method.margin=99", "classifier.zoo=digits_binarised"),
            job_dir.with_name("other"),
        )


def test_gradients_invert_a_binarised_network(compose: Compose, job_dir: Path) -> None:
    sizes = (f"application.{key}=40" for key in ("eval_samples", "eval_batch_size", "keep_samples"))
    digits = ("data=digits", "classifier.zoo=digits_binarised")
    metrics = run(compose("method=gradient", "method.steps=30", *digits, *sizes), job_dir)
    assert metrics[names.INVERSION_ACCURACY_HOT] > 0.9
