"""The network of signals, and what the project's networks refuse."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.classifiers.build import build_network
from netinv_lightning.classifiers.networks import SignalFCN
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError


def test_the_network_of_signals_averages_over_positions() -> None:
    network = SignalFCN(3, 2, (40,), widths=[4, 5], kernels=[5, 3]).eval()
    assert sum(p.numel() for p in network.parameters()) == 4 * 2 * 5 + 8 + 5 * 4 * 3 + 10 + 18
    x_BCL = torch.zeros(2, 2, 40)
    x_BCL[0, :, 10:14] = x_BCL[1, :, 22:26] = 1.0  # the same pulse, moved
    logits_BN = network(x_BCL)
    assert logits_BN.shape == (2, 3)
    torch.testing.assert_close(logits_BN[0], logits_BN[1])


@pytest.mark.parametrize(
    ("sides", "network", "said"),
    [
        ((), "SignalFCN", "takes signals, but the data are tables. Set classifier=mlp"),
        ((28, 28), "SignalFCN", "takes signals, but the data are images. Set classifier=cnn"),
        ((64,), "CNN", "takes images, but the data are signals. Set classifier=signal_fcn"),
    ],
)
def test_networks_refuse_inputs_of_another_kind(
    sides: tuple[int, ...], network: str, said: str
) -> None:
    spec = DataSpec("mine", 3, 1, sides, (0.0,), (1.0,), ("a", "b", "c"))
    description = {"_target_": f"netinv_lightning.classifiers.networks.{network}"}
    with pytest.raises(InputError, match=said):
        build_network(description, spec)
