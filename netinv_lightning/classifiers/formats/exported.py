"""Read a program of `torch.export` (.pt2) as a network, without running code of the file.

`torch.export.load` evaluates expressions and guards of the file as Python, and unpickles. Here the
graph is read as data instead: a list of ATen operations with their arguments. Convolutions, linear
layers and BatchNorm become modules, so that features and BatchNorm statistics can be recorded.

The format of the archive is defined in PyTorch 2.9 and later by torch/_export/serde/schema.py and
torch/export/pt2_archive.
"""

from __future__ import annotations

import json
import operator
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.formats.described import Described, square
from netinv_lightning.classifiers.formats.program import Name, Operation, Program
from netinv_lightning.classifiers.formats.recognise import archive_names, is_program
from netinv_lightning.errors import InputError, one_line

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format,
}  # fmt: skip
ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "ge", "gt", "le", "lt")
SKIPPED = ("_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size")
"""Assertions about shapes and types, which are skipped."""
WITHOUT_TENSORS = ("arange", "full", "zeros", "ones", "scalar_tensor")
"""Harmless operations that take no tensor. Others, such as `from_file`, are refused."""
INTERNAL = re.compile(
    r"_softmax|_log_softmax|_to_copy|_unsafe_view|_upsample_\w+|_adaptive_avg_pool2d"
    r"|_scaled_dot_product_\w+|_native_batch_norm_legit_no_training"
)
"""Allowed operations with a leading underscore. Others are refused: they may not check their
arguments."""
AGAIN = "export it again: torch.export.save(torch.export.export(network.eval(), ...), FILE)"


def read_exported(path: Path) -> Described:
    """Read a program of `torch.export` from its archive.

    Raises:
        InputError: if the archive is damaged, was written by PyTorch before 2.9, or contains
            pickled objects or an operation other than those of ATen on tensors.
    """
    where = f"classifier.path={path}"
    graphs = [name for name in archive_names(path) if is_program(name)]
    if len(graphs) != 1:
        raise InputError(
            f"{where}: contains {len(graphs)} programs of torch.export in the format of PyTorch "
            f"2.9 or later; must contain one; {AGAIN}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(Archive(archive, path.stat().st_size), graphs[0])
    except InputError as error:
        raise InputError(f"{where}: {error}; {AGAIN}") from error
    except Exception as error:  # damaged content may raise anything
        raise InputError(
            f"{where}: is not a complete program of torch.export "
            f"({type(error).__name__}: {one_line(error)[:160]}); {AGAIN}"
        ) from error


class Archive:
    """Reads the members of an archive; a member larger than the file itself is refused."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.size = archive, size

    def read(self, name: str) -> bytes:
        if self.archive.getinfo(name).file_size > self.size:
            raise InputError(f"its part {name} is compressed")
        return self.archive.read(name)

    def tensors(self, root: str, kind: str, model: str) -> dict[str, Tensor]:
        """Return the weights or constants by their names."""
        config = json.loads(self.read(f"{root}data/{kind}/{model}_{kind}_config.json"))["config"]
        return {name: self._tensor(f"{root}data/{kind}/", name, e) for name, e in config.items()}

    def _tensor(self, folder: str, name: str, entry: Mapping[str, Any]) -> Tensor:
        if entry["use_pickle"]:
            raise InputError(f"{name} is pickled, and unpickling could run code")
        meta = entry["tensor_meta"]
        sizes, strides = ([int(s["as_int"]) for s in meta[key]] for key in ("sizes", "strides"))
        raw, dtype = self.read(folder + entry["path_name"]), DTYPES[meta["dtype"]]
        if not raw:
            return torch.zeros(sizes, dtype=dtype)
        flat = torch.frombuffer(bytearray(raw), dtype=dtype)
        offset = int(meta["storage_offset"]["as_int"])
        return flat.as_strided(sizes, strides, offset).clone()


def _read(archive: Archive, name: str) -> Described:
    root, model = name.removesuffix(f"models/{Path(name).name}"), Path(name).stem
    content = json.loads(archive.read(name))["graph_module"]
    graph, signature = content["graph"], content["signature"]
    stored = archive.tensors(root, "weights", model) | archive.tensors(root, "constants", model)
    inputs, weights = _inputs(signature["input_specs"], stored)
    if len(inputs) != 1:
        raise InputError(f"the program takes {len(inputs)} inputs; must take only the images")
    outputs = [value for spec in signature["output_specs"] for value in _output(spec)]
    steps = [step for node in graph["nodes"] if (step := _operation(node)) is not None]
    program = Program(inputs[0], weights, steps, outputs)
    shapes = {
        value: tuple(size.get("as_int") for size in meta["sizes"])
        for value, meta in graph["tensor_values"].items()
    }
    facts: dict[str, Any] = square(shapes[inputs[0]])
    if len(outputs) == 1 and len(shape := shapes[outputs[0]]) == 2 and shape[1]:
        facts["num_classes"] = max(shape[1], 2)
    batch = shapes[inputs[0]][0]
    if batch is not None:
        _check_batches(program, shapes[inputs[0]], int(batch))
    return Described(program.eval(), facts, "the exported program")


def _inputs(
    specs: list[Mapping[str, Any]], stored: Mapping[str, Tensor]
) -> tuple[list[str], dict[str, tuple[str, Tensor]]]:
    """Return the names of the user's inputs; and the name and value of each weight."""
    images, weights = [], {}
    for spec in specs:
        ((kind, content),) = spec.items()
        names = {
            "parameter": "parameter_name",
            "buffer": "buffer_name",
            "tensor_constant": "tensor_constant_name",
        }
        if kind == "user_input":
            images.append(content["arg"]["as_tensor"]["name"])
        elif kind in names:
            name = content[names[kind]]
            weights[content["arg"]["name"]] = (name, stored[name])
        else:
            raise InputError(f"the program has an input of the unsupported kind {kind}")
    return images, weights


def _output(spec: Mapping[str, Any]) -> list[str]:
    """Return a list with the name of an output; empty if the output is not a tensor."""
    ((kind, content),) = spec.items()
    if kind != "user_output":
        raise InputError(
            f"the program has an output of the kind {kind}, which occurs in training mode; call "
            "eval() before the export"
        )
    return [content["arg"]["as_tensor"]["name"]] if "as_tensor" in content["arg"] else []


def _operation(node: Mapping[str, Any]) -> Operation | None:
    """Return one operation of the program; None for an assertion."""
    target = str(node["target"])
    results = [name for output in node["outputs"] for name in _names(output)]
    arguments = {str(i["name"]) or f"_{n}": i["arg"] for n, i in enumerate(node["inputs"])}
    values = {name: _argument(argument) for name, argument in arguments.items()}
    if found := ATEN.fullmatch(target):
        if found[1] in SKIPPED:
            return None
        call = getattr(getattr(torch.ops.aten, found[1]), found[2])
        of_tensors = any("Tensor" in str(argument.type) for argument in call._schema.arguments)
        hidden = found[1].startswith("_") and not INTERNAL.fullmatch(found[1])
        if hidden or not (of_tensors or found[1] in WITHOUT_TENSORS):
            raise InputError(f"the operation {target} is not supported: it may not be safe")
        return Operation(found[1], call, values, results, by_name=True)
    if target.startswith("_operator.") and (name := target.partition(".")[2]) in ARITHMETIC:
        return Operation(name, getattr(operator, name), values, results, by_name=False)
    raise InputError(f"the operation {target} is not an ATen operation")


def _names(output: Mapping[str, Any]) -> list[str]:
    ((kind, value),) = output.items()
    if kind == "as_tensor":
        return [value["name"]]
    if kind == "as_tensors":
        return [entry["name"] for entry in value]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return [value["as_name"]]
    if kind == "as_none":
        return [""]
    raise InputError(f"an output of the kind {kind} is not supported")


def _argument(argument: Mapping[str, Any]) -> Any:
    """Return an argument: a plain value, or a `Name`, or a list of both."""
    ((kind, value),) = argument.items()
    if kind == "as_none":
        return None
    if kind in ("as_tensor", "as_tensors", "as_optional_tensor", "as_optional_tensors"):
        return [_tensor(v) for v in value] if isinstance(value, list) else _tensor(value)
    if kind.startswith("as_sym_"):
        return [_symbol(v) for v in value] if isinstance(value, list) else _symbol(value)
    if kind == "as_scalar_type":
        return DTYPES[value]
    if kind == "as_memory_format":
        return MEMORY_FORMATS[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_device":
        return torch.device("meta")  # replaced by the device of the images
    if kind == "as_float":
        return float(value)  # infinity is stored as a string
    if kind in ("as_int", "as_bool", "as_string", "as_ints", "as_floats", "as_bools"):
        return value
    raise InputError(f"an argument of the kind {kind} is not supported")


def _tensor(value: Mapping[str, Any]) -> Name | None:
    if value.get("as_none"):
        return None
    return Name(value["as_tensor"]["name"] if "as_tensor" in value else value["name"])


def _symbol(value: Mapping[str, Any]) -> Any:
    return Name(value["as_name"]) if "as_name" in value else next(iter(value.values()))


@torch.no_grad()
def _check_batches(program: Program, shape: tuple[Any, ...], batch: int) -> None:
    """Check that a program that was exported with a fixed batch size works with other sizes.

    Raises:
        InputError: if it does not.
    """
    x_BCHW = torch.rand(2 * batch + 1, *shape[1:], generator=torch.Generator().manual_seed(0))
    alone = program(x_BCHW[:batch])
    try:
        together = program(x_BCHW)
        same = all(
            torch.allclose(two[:batch], one, rtol=1e-3, atol=1e-4)
            for one, two in zip(_listed(alone), _listed(together), strict=True)
        )
    except Exception:  # the export may have fixed some shapes
        same = False
    if not same:
        raise InputError(
            f"the program takes batches of exactly {batch} images; export it with "
            "dynamic_shapes=({0: torch.export.Dim('batch')},)"
        )


def _listed(output: Any) -> list[Tensor]:
    return list(output) if isinstance(output, tuple) else [output]
