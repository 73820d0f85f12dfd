"""Weights in files of other programs: state dicts, other files, and code that is never executed."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netinv_lightning.classifiers.checkpoints import (
    fill,
    load_weights,
    read_card,
)
from tests.classifiers.small_weights import refusal, same, small


class Bomb:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.target,)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy.pt"])
def test_truncated_weights_give_one_line(kind: str, keep: int, tmp_path: Path) -> None:
    path = tmp_path / f"mine.{kind}"
    if kind == "safetensors":
        save_file(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "pt")
    path.write_bytes(path.read_bytes()[:keep])
    assert read_card(path) is None
    assert str(path) in refusal(load_weights, path)


@pytest.mark.parametrize(
    "content", [b"hello\n", b"junkjunk", b"\x80\x02junk.", b"{}", b"\x93NUMPY\x01\x00"]
)
def test_missing_files_and_other_kinds_of_files_give_one_line(
    content: bytes, tmp_path: Path
) -> None:
    for name in ("mine.pt", "mine.safetensors", "mine"):
        assert "there is no such file" in refusal(load_weights, tmp_path / name)
        assert "there is no such file" in refusal(read_card, tmp_path / name)
        (tmp_path / name).write_bytes(content)
        refusal(load_weights, tmp_path / name)


@pytest.mark.parametrize(
    "wrap",
    [OrderedDict, dict, lambda state: {"state_dict": state, "epoch": 3}],
    ids=["ordered", "dict", "lightning"],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_state_dicts_of_torch_and_lightning_are_read(
    wrap: Callable[[OrderedDict], dict], suffix: str, tmp_path: Path
) -> None:
    torch.save(wrap(small().state_dict()), tmp_path / f"mine{suffix}")
    fill(other := small(seed=1), load_weights(tmp_path / f"mine{suffix}"), "")
    assert same(other, small())


def test_code_in_a_pt_file_is_never_executed(tmp_path: Path) -> None:
    path, target = tmp_path / "mine.pt", tmp_path / "made by the bomb"
    for zipped in (True, False):
        torch.save(
            {"weight": torch.ones(2), "more": Bomb(target)},
            path,
            _use_new_zipfile_serialization=zipped,
        )
        assert "could run code" in refusal(load_weights, path)
    path.write_bytes(pickle.dumps(Bomb(target)))
    refusal(load_weights, path)
    torch.save(small(), path)  # a whole module contains code too
    assert "state_dict()" in refusal(load_weights, path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # the pickle does create the folder


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(2),
        [torch.ones(2)],
        {"weight": 3},
        {"state_dict": {"weight": [1.0]}},
        {0: torch.ones(2)},
    ],
)
def test_content_other_than_a_state_dict_gives_one_line(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "mine.pt")
    assert "contains no state dict" in refusal(load_weights, tmp_path / "mine.pt")


def test_weights_of_another_architecture_are_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights = {
        "0.weight": torch.ones(4, 3),
        "1.weight": torch.ones(2, 5),
        "a": torch.ones(1),
        "b": torch.ones(1),
        "c": torch.ones(1),
    }
    message = refusal(fill, network, weights, "classifier.path=mine.pt")
    assert "1 missing (0.bias)" in message
    assert "3 unexpected (a, b, ...)" in message
    assert "1 of another shape (1.weight is (2, 5) in the file, (2, 4) in the network)" in message
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
