"""Read an ONNX file as a network, through onnx2torch (the extra `onnx`).

An ONNX file is data: nodes of known kinds, and tensors. onnx2torch generates Python source that
contains the names of the nodes; therefore all names are replaced before the conversion. Tensors
that are stored in other files are read only from the folder of the ONNX file.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.formats.described import Described, square
from netinv_lightning.errors import InputError, one_line


def read_onnx(path: Path) -> Described:
    """Read an ONNX file whose only input is the images.

    Raises:
        InputError: if the extra is not installed, the file is damaged, reads tensors from another
            folder, or contains an operation that onnx2torch does not know.
    """
    where = f"classifier.path={path}"
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise InputError(
            f"{where}: ONNX files need an extra; pip install 'netinv_lightning[onnx]'"
        ) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(
            f"{where}: is not a complete ONNX file ({one_line(error)[:160]}); download it again"
        ) from error
    _check_external(model, path, where)
    onnx.load_external_data_for_model(model, str(path.parent))
    weights = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in weights]
    if len(images) != 1:
        raise InputError(f"{where}: takes {len(images)} inputs; must take only the images")
    shape, outputs = _shape(images[0]), [_shape(value) for value in model.graph.output]
    _rename(model)
    try:
        with warnings.catch_warnings(action="ignore"):  # warnings about read-only arrays
            network = convert(model).eval()
    except Exception as error:  # foreign content may raise anything
        raise InputError(
            f"{where}: onnx2torch cannot convert it ({type(error).__name__}: "
            f"{one_line(error)[:200]}); save the state_dict() of the network instead"
        ) from error
    facts: dict[str, Any] = square(shape)
    if len(outputs) == 1 and len(outputs[0]) == 2 and isinstance(outputs[0][1], int):
        facts["num_classes"] = max(outputs[0][1], 2)
    if shape and isinstance(shape[0], int):
        network = _with_any_batch(network, shape, where)
    return Described(network, facts, "the ONNX file")


def _check_external(model: Any, path: Path, where: str) -> None:
    """Refuse tensors outside the folder of the ONNX file: it must not read arbitrary files."""
    from onnx.external_data_helper import _get_all_tensors

    for tensor in _get_all_tensors(model):
        for entry in tensor.external_data:
            beside = path.parent / entry.value
            if entry.key == "location" and (
                Path(entry.value).name != entry.value or beside.is_symlink()
            ):
                raise InputError(
                    f"{where}: its tensor {tensor.name} is stored in {entry.value}. Move that file "
                    "into the folder of the ONNX file, and save the model again"
                )


def _rename(model: Any) -> None:
    """Replace the name of every node by a plain one, because onnx2torch puts it into source."""
    for number, node in enumerate(model.graph.node):
        node.name = f"{'n' if not node.op_type.isalnum() else node.op_type.lower()}_{number}"


def _shape(value: Any) -> tuple[Any, ...]:
    """Return the sizes of an input or output; a size that is not fixed is given by its name."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value else dim.dim_param
        for dim in value.type.tensor_type.shape.dim
    )


@torch.no_grad()
def _with_any_batch(network: nn.Module, shape: tuple[Any, ...], where: str) -> nn.Module:
    """Return the network after checking that it works with other batch sizes than the saved one.

    Raises:
        InputError: if it does not.
    """
    batch = shape[0]
    if not all(isinstance(size, int) for size in shape):
        return network
    x_BCHW = torch.rand(2 * batch + 1, *shape[1:], generator=torch.Generator().manual_seed(0))
    try:
        alone, together = network(x_BCHW[:batch]), network(x_BCHW)
        same = isinstance(alone, Tensor) and torch.allclose(
            together[:batch], alone, rtol=1e-3, atol=1e-4
        )
    except Exception:  # the file may fix some shapes
        same = False
    if not same:
        raise InputError(
            f"{where}: takes batches of exactly {batch} images; export it with a dynamic batch: "
            "torch.onnx.export(..., dynamic_shapes=({0: 'batch'},))"
        )
    return network
