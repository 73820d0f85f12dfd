"""`loss=natural` chooses its terms by what the network has, and explicit keys win."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN, ViT
from netinv_lightning.data.specs import MNIST, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import make_module
from netinv_lightning.runs.notices import notices_of_a_run
from netinv_lightning.runs.resume import resumed_config

Compose = Callable[..., DictConfig]

ALWAYS = ["kl", "ce", "cosine", "orthogonality"]
WITHOUT = ["pixel_statistics", "spectrum"]


class GroupNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3, 2), nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(x_BCHW)).relu().mean((2, 3)))


def small_vit() -> FrozenClassifier:
    torch.manual_seed(0)
    return FrozenClassifier(ViT(10, 1, 28, patch=7, dim=8, depth=1, heads=2, stem=0), MNIST)


def small_cnn() -> FrozenClassifier:
    torch.manual_seed(0)
    return FrozenClassifier(CNN(10, 1, 28, stages=[[4]], hidden=4), MNIST)


def terms_of(cfg: DictConfig, classifier: FrozenClassifier) -> list[str]:
    return make_module(cfg, classifier).objective.names


def test_with_batch_norm_the_terms_are_those_of_before(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose("loss=natural")
    with notices_of_a_run():
        make_module(cfg, small_cnn())
    weight = {"weight": 1.0}
    names = [*ALWAYS, "batch_norm", "class_spread"]
    assert OmegaConf.to_container(cfg.loss) == {name: weight for name in names}
    assert list(cfg.loss) == names
    assert (
        "loss: CNN has BatchNorm statistics; uses batch_norm; leaves out pixel_statistics, "
        "spectrum\n"
    ) in capsys.readouterr().err


def test_without_batch_norm_other_priors_take_its_place(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose("loss=natural")
    with notices_of_a_run():
        assert terms_of(cfg, small_vit()) == [*ALWAYS, *WITHOUT, "class_spread"]
    assert (
        "loss: ViT has no BatchNorm statistics; uses pixel_statistics, spectrum; leaves out "
        "batch_norm\n"
    ) in capsys.readouterr().err
    # What was chosen is stored, and is not chosen again.
    assert all("when" not in options for options in cfg.loss.values())
    assert terms_of(cfg.copy(), small_vit()) == list(cfg.loss)


def test_a_network_without_tokens_has_no_patch_similarity(compose: Compose) -> None:
    conditional = "+loss.patch_similarity={weight: 0.1, when: no_batch_norm}"
    frozen = FrozenClassifier(GroupNormNet(), MNIST)
    without = terms_of(compose("loss=natural", conditional), frozen)
    assert without == [*ALWAYS, *WITHOUT, "class_spread"]
    tokens = terms_of(compose("loss=natural", conditional), small_vit())
    assert tokens == [*without, "patch_similarity"]


def test_unknown_normalisation_has_no_pixel_statistics(compose: Compose) -> None:
    spec = DataSpec("own", 10, 1, 28, (0.0,), (1.0,), tuple("0123456789"))
    terms = terms_of(compose("loss=natural"), FrozenClassifier(GroupNormNet(), spec))
    assert "pixel_statistics" not in terms


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("loss.spectrum.weight=2", {"spectrum": 2.0}),
        ("~loss.pixel_statistics", {"pixel_statistics": None}),
        ("+loss.variation={weight: 0.5}", {"variation": 0.5}),
        ("~loss.batch_norm.when", {"batch_norm": 1.0}),
    ],
)
def test_explicit_keys_win(
    compose: Compose, override: str, changed: dict[str, float | None]
) -> None:
    plain, cfg = compose("loss=natural"), compose("loss=natural", override)
    for one in (plain, cfg):
        make_module(one, small_vit())
    expected = {name: options.weight for name, options in plain.loss.items()} | changed
    found = {name: options.weight for name, options in cfg.loss.items()}
    assert found == {name: weight for name, weight in expected.items() if weight is not None}


def test_a_step_of_a_vit_has_gradients_of_all_terms(compose: Compose) -> None:
    cfg = compose("loss=natural", "+loss.patch_similarity={weight: 0.1}")
    module = make_module(cfg, small_vit())
    recorded: list[Tensor] = []
    module._record = recorded.append  # type: ignore[method-assign]
    module.training_step(None, 0).backward()
    values = dict(zip(module.columns, recorded[0][0].tolist(), strict=True))
    assert all(values[f"loss/{name}"] > 0 for name in [*WITHOUT, "patch_similarity"])
    assert all(weight.grad is not None for weight in module.generators.parameters())


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("loss.spectrum.when=always", r"loss.spectrum.when=always: .*batch_norm"),
        ("+loss.spectrum.slope=-1", "loss.spectrum.slope=-1: must be 0 or more"),
        (
            "+loss.patch_similarity={weight: 1, tokens: 1}",
            "loss.patch_similarity.tokens=1: must be 2 or more",
        ),
        (
            "+loss.patch_similarity={weight: 1, bandwidth: 0}",
            "loss.patch_similarity.bandwidth=0: must be from",
        ),
        ("+loss.pixel_statistics.pixels=1", "loss.pixel_statistics.pixels: the term has no such"),
    ],
)
def test_wrong_values_give_one_line(compose: Compose, override: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        compose("loss=natural", override)


@pytest.mark.parametrize(
    ("term", "line"),
    [
        ("patch_similarity", "needs tokens .* before LayerNorm layers, which CNN does not have"),
        ("pixel_statistics", "needs a known normalisation"),
    ],
)
def test_a_term_that_does_not_fit_is_refused(compose: Compose, term: str, line: str) -> None:
    spec = DataSpec("own", 10, 1, 28, (0.0,), (1.0,), tuple("0123456789"))
    frozen = FrozenClassifier(CNN(10, 1, 28, stages=[[4]], hidden=4), spec)
    with pytest.raises(InputError, match=rf"loss\.{term}: {line}.*~loss\.{term}"):
        make_module(compose(f"+loss.{term}={{weight: 1}}"), frozen)


def test_a_repeated_command_resumes_with_the_chosen_terms(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = compose("loss=natural")
    make_module(saved, small_vit())
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "config.yaml").write_text(OmegaConf.to_yaml(saved, resolve=True))
    again = ["loss=natural", "resume=started"]
    resumed = resumed_config(compose(*again), again)
    assert OmegaConf.to_container(resumed.loss) == OmegaConf.to_container(saved.loss)
    other = [*again, "loss.spectrum.weight=2"]
    with pytest.raises(InputError, match=r"loss\.spectrum\.weight cannot be changed"):
        resumed_config(compose(*other), other)
