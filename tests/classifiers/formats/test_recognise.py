"""Files are recognised, and checked without torch, before anything is loaded."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import netinv_lightning
from netinv_lightning.applications.weights_check import check_classifier
from netinv_lightning.classifiers.formats.recognise import format_of, is_torchscript
from netinv_lightning.errors import InputError


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, "{}")
    return path


def test_formats_are_recognised_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    script = archive(tmp_path / "script.pt", "script/code/a.py", "script/constants.pkl")
    assert format_of(tmp_path / "hf") == "Hugging Face"
    assert format_of(tmp_path / "empty") is None
    assert format_of(tmp_path / "net.ONNX") == "ONNX"
    assert format_of(archive(tmp_path / "program.pt", "a/models/model.json")) == "torch.export"
    assert format_of(archive(tmp_path / "weights.pt", "a/data.pkl", "a/data/0")) is None
    assert format_of(script) is None
    assert is_torchscript(script)


@pytest.mark.parametrize("choice", ["checkpoint", "hf"])
def test_a_file_that_describes_itself_needs_its_path_only(choice: str, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    archive(tmp_path / "net.pt2", "a/models/model.json")
    for name in ("hf", "net.pt2"):
        path = f"classifier.path={tmp_path / name}"
        cfg = netinv_lightning.compose([f"classifier={choice}", path])
        assert check_classifier(cfg) == {}
    (tmp_path / "net.onnx").touch()
    for name, said in (
        ("net.onnx", "the file is empty"),
        ("no.onnx", "there is no such file"),
        ("", "is a folder"),
    ):
        path = f"classifier.path={tmp_path / name}"
        with pytest.raises(InputError, match=said):
            check_classifier(netinv_lightning.compose([f"classifier={choice}", path]))


def test_torchscript_without_a_network_names_the_choice(tmp_path: Path) -> None:
    path = archive(tmp_path / "script.pt", "script/code/a.py")
    cfg = netinv_lightning.compose(["classifier=checkpoint", f"classifier.path={path}"])
    with pytest.raises(InputError, match="if you trust the code in the file, classifier=torch"):
        check_classifier(cfg)
