"""ONNX files: the same logits, and names and places that stay inside the file's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.formats.described import read_described
from netinv_lightning.errors import InputError

onnx = pytest.importorskip("onnx", reason="skipped: needs the extra onnx")
pytest.importorskip("onnx2torch", reason="skipped: needs the extra onnx")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(507, 10)
    ).eval()


def written(path: Path, batch: str | int = "batch", **names: str) -> Any:
    """Write `network()` as an ONNX file with nodes of the given names."""
    helper, made = onnx.helper, network()
    weights = [
        onnx.numpy_helper.from_array(tensor.numpy(), name)
        for name, tensor in made.state_dict().items()
        if not name.endswith("tracked")
    ]
    bn = ["1.weight", "1.bias", "1.running_mean", "1.running_var"]
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], strides=[2, 2], **names),
        helper.make_node("BatchNormalization", ["a", *bn], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "4.weight", "4.bias"], ["y"], transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", onnx.TensorProto.FLOAT, [batch, 1, 28, 28])],
        [value("y", onnx.TensorProto.FLOAT, [batch, 10])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, path)
    return model


@pytest.mark.parametrize("batch", ["batch", 2])
def test_an_onnx_file_returns_the_same_logits(batch: str | int, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    written(path, batch)
    frozen = load_classifier(
        netinv_lightning.compose(["data=mnist", "classifier=checkpoint", f"classifier.path={path}"])
    )
    x_BCHW = torch.rand(5, 1, 28, 28)
    expected = network()((x_BCHW - 0.1307) / 0.3081)
    # onnx2torch converts the numbers unchanged; only the order of additions may differ.
    torch.testing.assert_close(frozen(x_BCHW), expected, rtol=1e-5, atol=1e-5)
    assert frozen.feature_dims == {"penultimate": 507}
    assert [list(bn.running_mean) for bn in frozen.batch_norms.values()] == [[0, 0, 0]]


def test_a_name_of_a_node_is_never_source(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    name = f"a') or __import__('pathlib').Path('{proof}').touch() or getattr(self, 'a"
    written(tmp_path / "evil.onnx", name=name.replace(".", "\N{FULLWIDTH FULL STOP}"))
    written(tmp_path / "evil2.onnx", name='a", exec("raise SystemExit") or "')
    for file in ("evil.onnx", "evil2.onnx"):
        found = read_described(tmp_path / file)
        assert found.network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
        assert next(name for name, _ in found.network.named_children()) == "conv_0"
    assert not proof.exists()


def test_tensors_of_other_folders_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = written(path)
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    x_BCHW = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(read_described(path).network(x_BCHW), network()(x_BCHW))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"0.weight is stored in ../../etc/passwd. Move that file"):
        read_described(path)


def test_a_damaged_or_unknown_onnx_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07garbage")
    with pytest.raises(InputError, match=r"is not a complete ONNX file|takes 0 inputs"):
        read_described(path)
    model = written(path)
    model.graph.node[2].op_type = "NoSuchOperation"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="onnx2torch cannot convert it"):
        read_described(path)
