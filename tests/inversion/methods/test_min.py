"""`method=min`: model inversion networks.

Shape suffixes: n images, B batch, C features.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.min import (
    BINS,
    DISPERSION,
    ModelInversionNetworks,
    score_weights,
)
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.methods.test_trained import context

CPU = torch.device("cpu")
SPEC = DataSpec("made_up", 2, 1, 8, (0.5,), (0.2,), ("dark", "bright"))


class Brightness(nn.Module):
    """Logits (0, 10 (m - 1/2)): the score of `bright` grows with the mean pixel m."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 2, bias=False)
        with torch.no_grad():  # normalised pixels are (x - 0.5) / 0.2
            self.layer.weight.copy_(torch.tensor([[0.0], [2 / 64]]).expand(2, 64))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.layer(x_BCHW.flatten(1))


def plain_images() -> Tensor:
    """Images of one grey value each, from 0 to 1, as uint8."""
    return (torch.arange(200) * 255 / 199).round().to(torch.uint8).view(-1, 1, 1, 1).expand(
        -1, 1, 8, 8
    )  # fmt: skip


def method_of(**options: object) -> ModelInversionNetworks:
    return ModelInversionNetworks(
        Conditioning(2, 8, "label"),
        FrozenClassifier(Brightness(), SPEC),
        plain_images,
        seed=0,
        log_every=50,
        **{"steps": 30, "batch_size": 16, "width": 8, "latent_dim": 4, **options},  # type: ignore[arg-type]
    )


def drawn(method: ModelInversionNetworks, labels: list[int], seed: int = 0) -> Tensor:
    with own_randomness(seed, CPU):
        return method.draw(method.conditioning.of_labels(torch.tensor(labels)))


def test_weights_have_the_closed_form_of_the_paper() -> None:
    """Three bins of 100, 1 and 50 scores: 0 (first), in the middle, and 1 (last)."""
    y_n = torch.tensor([0.0] * 100 + [0.525] + [1.0] * 50)
    weight_n = score_weights(y_n, temperature=0.5).double()
    assert float(weight_n.sum()) == pytest.approx(1.0, rel=1e-5)
    share = [100 / 151, 1 / 151, 50 / 151]
    below = [19 / BINS, 9 / BINS, 0.0]
    expected = [
        s / (s + DISPERSION) * math.exp(-b / 0.5) for s, b in zip(share, below, strict=True)
    ]
    found = [float(weight_n[:100].sum()), float(weight_n[100]), float(weight_n[101:].sum())]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other / sum(expected), rel=1e-4)
    equal_n = score_weights(torch.full((7,), 0.3), temperature=0.5)
    torch.testing.assert_close(equal_n, torch.full((7,), 1 / 7))


def test_images_are_drawn_in_proportion_to_their_weights() -> None:
    method = method_of(batch_size=20_000)
    method.prepare()
    index_B = method._weighted(Stream(0))
    label_B = method.label_n[index_B]
    assert float((label_B == 1).float().mean()) == pytest.approx(0.5, abs=0.02)
    weight_n = score_weights(method.score_n, method.temperature)
    for label in (0, 1):
        of_class = method.label_n == label
        expected = (weight_n * method.score_n)[of_class].sum() / weight_n[of_class].sum()
        found = method.score_n[index_B[label_B == label]].mean()
        assert float(found) == pytest.approx(float(expected), abs=0.01)


def test_drawing_returns_the_best_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    method = method_of(candidates=3)
    values = iter([[0.1, 0.9], [0.5, 0.2], [0.3, 0.95]])
    grey = iter([0.1, 0.2, 0.3])

    def candidate(label_B: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        return torch.full((2, 1, 8, 8), next(grey)), torch.tensor(next(values))

    monkeypatch.setattr(method, "_candidate", candidate)
    assert drawn(method, [0, 1])[:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.3])


def test_the_value_of_a_candidate_is_its_score_minus_the_disagreement() -> None:
    """An image of p = 0.8 for its label has value y - |y - 0.8|: 0.8 for any y of 0.8 or more."""
    method = method_of(agreement=1.0)
    mean = 0.5 + math.log(0.8 / 0.2) / 10

    class Grey(nn.Module):
        def forward(self, vector_BV: Tensor) -> Tensor:
            return torch.full((len(vector_BV), 1, 8, 8), mean)

    method.networks["generator"] = Grey()
    _, value_B = method._candidate(torch.ones(400, dtype=torch.long), Stream(0))
    y_B = 0.5 + 0.5 * _second_draw(400, method.latent_dim)
    torch.testing.assert_close(value_B, y_B - (y_B - 0.8).abs(), rtol=1e-4, atol=1e-5)
    assert float(value_B.max()) == pytest.approx(0.8, rel=1e-4)


def _second_draw(count: int, latent: int) -> Tensor:
    stream = Stream(0)
    stream.normal(count, latent)
    return stream.uniform(count)


def test_images_get_the_requested_class(tmp_path: Path) -> None:
    method = method_of(steps=250, lr=3e-3)
    method.fit(context(tmp_path / "run"))
    label_B = torch.tensor([0, 1] * 20)
    x_BCHW = drawn(method, label_B.tolist())
    assert method.classifier(x_BCHW)[label_B == 1].diff(dim=1).mean() > 1
    assert x_BCHW[label_B == 1].mean() > x_BCHW[label_B == 0].mean() + 0.05
    assert method.cost().backwards == 0
    assert method.cost().forwards == 200 + 250 * 16 + 8 * 40
    loaded = method_of(steps=250, lr=3e-3)
    loaded.load(tmp_path / "run", channels_last=True)
    assert torch.equal(drawn(loaded, [0, 1, 1]), drawn(method, [0, 1, 1]))
    assert not torch.equal(drawn(method, [0, 1, 1], seed=1), drawn(method, [0, 1, 1]))


def test_multi_label_networks_are_refused() -> None:
    classifier = FrozenClassifier(Brightness(), SPEC, output_kind="multi_label")
    with pytest.raises(InputError, match=r"^method=min: needs one label per image"):
        ModelInversionNetworks(Conditioning(2, 8, "vector"), classifier, plain_images, 0, 10)
