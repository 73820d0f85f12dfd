"""`n_generators=K` trains K generators at once, with the same result as separate training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.base import NonFiniteError
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.ensemble import GeneratorEnsemble
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.run import run

Compose = Callable[..., DictConfig]


def weights(run_dir: Path) -> dict[str, Tensor]:
    content: dict[str, Tensor] = torch.load(
        run_dir / "checkpoints" / "last.ckpt", weights_only=True
    )["state_dict"]
    return content


def of_generator(state: dict[str, Tensor], g: int) -> dict[str, Tensor]:
    prefix = f"generators.{g}."
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


EXTRA = {
    "default": (3, ()),
    "perturbed": (2, ("loss=reconstruction", "perturbation.norm=l1", "classifier.zoo=mnist_mlp")),
    "label": (2, ("conditioning=label", "classifier.zoo=mnist_mlp")),
}
"""Number of generators, and further overrides."""


@pytest.mark.parametrize(("generators", "extra"), EXTRA.values(), ids=EXTRA.keys())
def test_each_generator_equals_the_one_trained_alone(
    compose: Compose, tmp_path: Path, generators: int, extra: tuple[str, ...]
) -> None:
    """Use no dropout and double precision, because Adam amplifies rounding errors."""
    few = ("application.steps=4", "application.eval_samples=20")
    extra = ("generator.dropout=0", "trainer.precision=64-true", *few, *extra)
    run(compose(f"n_generators={generators}", "seed=5", *extra), tmp_path / "all")
    for g in range(generators):
        run(compose(f"seed={5 + g}", *extra), tmp_path / str(g))
        together, alone = (
            of_generator(weights(tmp_path / "all"), g),
            of_generator(weights(tmp_path / str(g)), 0),
        )
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, rtol=1e-6, atol=1e-9, msg=name)
    a, b = (of_generator(weights(tmp_path / "all"), g) for g in (0, 1))
    assert not torch.allclose(a["to_image.0.weight"], b["to_image.0.weight"], atol=1e-3)


def test_generators_drop_different_channels(compose: Compose) -> None:
    module = make_module(compose("n_generators=2", "generator.dropout=0.5"))
    for name, value in module.generators[0].state_dict().items():
        module.generators[1].state_dict()[name].copy_(value)
    condition = module.conditioning.sample(6)
    latents = [torch.ones(6, module.generator.latent_dim)] * 2
    a_BCHW, b_BCHW = module.generators(latents, [condition] * 2)
    assert not torch.equal(a_BCHW, b_BCHW)


def test_the_vectorised_pass_gives_the_same_images(compose: Compose) -> None:
    one, other = (make_module(compose("n_generators=2", "generator.dropout=0")) for _ in range(2))
    z_GBZ = torch.randn(2, 6, one.generator.latent_dim)
    conditions = [one.conditioning.sample(6) for _ in range(2)]
    x_GBCHW = one.generators(list(z_GBZ), conditions)
    for g in range(2):
        torch.testing.assert_close(x_GBCHW[g], other.generators[g](z_GBZ[g], conditions[g]))
    for (name, buffer), (_, expected) in zip(
        one.generators.named_buffers(), other.generators.named_buffers(), strict=True
    ):
        torch.testing.assert_close(buffer, expected, msg=name)
    assert one.generators[1].stage1[1].num_batches_tracked == 1


def test_samples_and_metrics_are_reported_per_generator(compose: Compose, job_dir: Path) -> None:
    metrics = run(
        compose("n_generators=3", "application.keep_samples=8", "application.eval_samples=100"),
        job_dir,
    )
    samples = load_file(job_dir / "samples" / "inverted.safetensors")
    assert samples["generator"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    of_generators = [metrics[names.generator(names.INVERSION_ACCURACY, g)] for g in range(3)]
    shares = [34, 33, 33]  # shares of 100 samples
    assert metrics[names.INVERSION_ACCURACY] == pytest.approx(
        sum(a * n for a, n in zip(of_generators, shares, strict=True)) / 100
    )
    confusion = json.loads((job_dir / "summary.json").read_text())
    assert confusion[names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]

    loaded = netinv_lightning.load_run(job_dir)
    images = [loaded.sample([3], seed=1, generator=g) for g in range(3)]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[2], loaded.sample([3], seed=1, generator=2))


def test_the_error_names_the_non_finite_generator(
    compose: Compose, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = InversionModule._record

    def break_generator_1(module: InversionModule, values_GV: Tensor) -> None:
        record(module, values_GV * torch.tensor([[1.0], [float("nan")]]))

    monkeypatch.setattr(InversionModule, "_record", break_generator_1)
    with pytest.raises(NonFiniteError, match="of generator 1 is not finite at step 0"):
        run(compose("n_generators=2"), job_dir)


class MeanColour(nn.Module):
    """Logits are the mean colours of the image, whatever its size."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean(dim=(2, 3))


def test_views_of_different_sizes_get_their_own_outputs() -> None:
    spec = DataSpec("own", 3, 3, 28, (0.0,) * 3, (1.0,) * 3, ("red", "green", "blue"))
    classifier = FrozenClassifier(MeanColour(), spec, feature_layers=())
    views_G = [torch.rand(2, 3, 28, 28), torch.rand(2, 3, 64, 64)]
    outputs_G = GeneratorEnsemble([]).classify(classifier, views_G)
    for view_BCHW, outputs in zip(views_G, outputs_G, strict=True):
        assert torch.allclose(outputs.logits_BN, view_BCHW.mean(dim=(2, 3)))


def test_resized_views_need_a_network_that_takes_any_size(compose: Compose, job_dir: Path) -> None:
    with pytest.raises(
        InputError, match=r"augmentation.resize: \w+ cannot be called with images of"
    ):
        run(compose("augmentation.resize=[32,96]"), job_dir)
    assert not job_dir.exists()
