"""The base of methods that train networks: the same bytes after a kill, and its checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning import compose
from netinv_lightning.errors import InputError, Preempted
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.methods.trained import CHECKPOINT, TrainedInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.trainer import make_trainer
from tests.inversion.methods.small_attacks import frozen, small_mlp


class Decoder(TrainedInversion):
    """A linear decoder of logits, trained on noise."""

    batch_size, seed = 8, 3

    def __init__(self, stops_after: int | None = None) -> None:
        classifier = frozen(small_mlp())
        super().__init__(
            Conditioning(3, 4, "label"), classifier, Objective({"ce": {"weight": 1.0}}),
            steps=6, lr=0.01, init_std=0.0, log_every=2,
        )  # fmt: skip
        torch.manual_seed(1)
        self.networks = nn.ModuleDict({"decoder": nn.Linear(3, 16)})
        self.stops_after = stops_after

    def score(self, step: int, stream: Stream) -> tuple[Tensor, Tensor]:
        if step == self.stops_after:
            raise Preempted("stopped")
        x_BCHW = stream.uniform(self.batch_size, 1, 4, 4)
        logits_BN = self.classifier(x_BCHW).detach()
        loss = F.mse_loss(self.networks["decoder"](logits_BN), x_BCHW.flatten(1))
        return loss, torch.stack([loss.detach()] * 3)

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        with torch.no_grad():
            rows: Tensor = self.networks["decoder"](condition.target_BN).clamp(0, 1)
        return rows.view(-1, 1, 4, 4)


def context(folder: Path, resuming: bool = False) -> FitContext:
    folder.mkdir(exist_ok=True)
    return FitContext(
        run_dir=RunDir(folder, resuming),
        loggers=[],
        make_trainer=partial(make_trainer, compose(["trainer.precision=32-true"])),
        checkpoint_every=2,
    )


def weights(method: Decoder) -> dict[str, Tensor]:
    return dict(method.networks.state_dict())


def test_a_killed_training_continues_bit_by_bit(tmp_path: Path) -> None:
    straight = Decoder()
    straight.fit(context(tmp_path / "straight"))
    killed = Decoder(stops_after=5)
    with pytest.raises(Preempted):
        killed.fit(context(tmp_path / "killed"))
    resumed = Decoder()
    resumed.fit(context(tmp_path / "killed", resuming=True))
    for name, value in weights(straight).items():
        assert torch.equal(weights(resumed)[name], value), name
    assert resumed.cost().forwards == straight.cost().forwards == 48
    assert resumed.cost().steps == 6


def test_load_restores_what_was_trained(tmp_path: Path) -> None:
    trained = Decoder()
    trained.fit(context(tmp_path / "run"))
    assert not torch.equal(weights(trained)["decoder.weight"], weights(Decoder())["decoder.weight"])
    loaded = Decoder()
    loaded.load(tmp_path / "run", channels_last=True)
    condition = trained.conditioning.of_labels(torch.tensor([0, 1, 2]))
    assert torch.equal(loaded.draw(condition), trained.draw(condition))
    assert loaded.draw(condition).shape == (3, 1, 4, 4)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_missing_or_damaged_checkpoint_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "checkpoints").mkdir()
    if content is not None:
        (tmp_path / "checkpoints" / CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match=r"method\.ckpt: does not contain the networks") as caught:
        Decoder().load(tmp_path, channels_last=False)
    assert "\n" not in str(caught.value)
