"""Read a folder of Hugging Face: config.json, model.safetensors, preprocessor_config.json.

Folders of `transformers` need the extra `hf`, folders of `timm` the extra `timm`. Nothing is
downloaded. The installed library builds the network from config.json and executes no code of the
folder. The weights are safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netinv_lightning.classifiers.architecture import construct_network
from netinv_lightning.classifiers.checkpoints import fill
from netinv_lightning.classifiers.formats.described import Described
from netinv_lightning.classifiers.outputs import MULTI_LABEL
from netinv_lightning.config.allowed_targets import TIMM
from netinv_lightning.config.description_check import check_network
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.runs.outside_files import read_json

MODEL_TYPES = (
    "beit", "bit", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2",
    "dinov2_with_registers", "focalnet", "hiera", "levit", "mobilenet_v1", "mobilenet_v2",
    "poolformer", "pvt", "pvt_v2", "regnet", "resnet", "segformer", "siglip", "swiftformer",
    "swin", "swinv2", "vit", "vit_msn",
)  # fmt: skip
"""Image classifiers whose constructors read no files; `timm_wrapper` may contact the hub."""
DROPPED = (
    "auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "dtype", "torch_dtype", "_name_or_path", "name_or_path", "transformers_version",
    "experts_implementation", "use_kernels", "architectures",
)  # fmt: skip
"""Keys of config.json that are ignored: they name code, kernels, paths or precisions."""
REFUSED = ("quantization_config", "use_timm_backbone", "use_pretrained_backbone", "backbone")


def read_folder(path: Path) -> Described:
    """Read a folder of transformers or timm.

    Raises:
        InputError: if a file is missing or damaged, the extra is not installed, or the network is
            not an image classifier or needs code of the folder.
    """
    where = f"classifier.path={path}"
    config = _json(path, "config.json", where)
    if "model_type" not in config and "architecture" in config:
        return _timm(path, config, where)
    network = _transformers(config, where)
    fill(network, _weights(path, where), where)
    facts = _facts(config, network) | _preprocessing(path, where)
    return Described(network.eval(), facts, "the Hugging Face folder")


def _json(path: Path, name: str, where: str) -> dict[str, Any]:
    try:
        content = read_json(path / name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{where}: its {name} cannot be read ({one_line(error)}); download the folder again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: its {name} is not a mapping; download the folder again")
    return content


def _timm(path: Path, config: Mapping[str, Any], where: str) -> Described:
    """Read a folder that timm wrote; `pretrained_cfg` describes the images of the network."""
    own = config.get("pretrained_cfg") or {}
    classes = config.get("num_classes", own.get("num_classes"))
    description = {
        "_target_": TIMM,
        "model_name": config["architecture"],
        "num_classes": classes,
        **(config.get("model_args") or {}),
    }
    check_network(description, f"{where}: its config.json")
    network = construct_network(description)
    fill(network, _weights(path, where), where)
    size: tuple[Any, ...] = tuple(own.get("input_size") or ())
    facts = {
        "num_classes": classes,
        "channels": size[0] if len(size) == 3 else None,
        "image_size": size[1] if len(size) == 3 and size[1] == size[2] else None,
        "mean": own.get("mean"),
        "std": own.get("std"),
        "class_names": config.get("label_names"),
    }
    return Described(network.eval(), _plain(facts, where), "the timm folder")


def _transformers(config: Mapping[str, Any], where: str) -> nn.Module:
    """Build the classifier that config.json describes, with untrained weights."""
    kind = str(config.get("model_type"))
    if kind not in MODEL_TYPES:
        raise InputError(
            f"{where}: model_type={kind} is not a supported image classifier; "
            + nearest(kind, MODEL_TYPES, "Or export it: torch.export.save(..., 'FILE.pt2')")
        )
    if named := [key for key in REFUSED if config.get(key)]:
        raise InputError(
            f"{where}: {named[0]}={config[named[0]]} in its config.json is not supported; export "
            "the network: torch.export.save(..., 'FILE.pt2')"
        )
    try:
        from transformers import CONFIG_MAPPING
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    except ImportError as error:
        raise InputError(
            f"{where}: folders of transformers need an extra; pip install 'netinv_lightning[hf]'"
        ) from error
    try:
        settings = CONFIG_MAPPING[kind].from_dict(_without(config))
        made: Any = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(settings)]
        kinds: Sequence[Any] = made if isinstance(made, tuple) else (made,)
        asked = config.get("architectures") or ()
        chosen = next((kind for kind in kinds if kind.__name__ in asked), kinds[0])
        network: nn.Module = chosen._from_config(settings)
    except Exception as error:  # invalid values may raise any error
        raise InputError(
            f"{where}: its config.json describes no network ({type(error).__name__}: "
            f"{one_line(error)[:200]}); download the folder again"
        ) from error
    return network


def _without(node: Any) -> Any:
    """Return config.json without the entries of `DROPPED`, at every depth."""
    if isinstance(node, Mapping):
        return {key: _without(value) for key, value in node.items() if key not in DROPPED}
    return [_without(value) for value in node] if isinstance(node, list) else node


def _weights(path: Path, where: str) -> dict[str, Tensor]:
    """Return the weights in `model.safetensors`, or in its shards."""
    index = path / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (path / names[0]).is_file() and index.is_file():
        names = sorted({str(n) for n in _json(path, index.name, where)["weight_map"].values()})
    weights: dict[str, Tensor] = {}
    for name in names:
        file = path / name
        if not file.is_file() or Path(name).name != name:
            raise InputError(
                f"{where}: {name} is missing; a folder needs safetensors (pickles such as "
                "pytorch_model.bin are not read). Save it with network.save_pretrained(FOLDER)"
            )
        weights |= read_tensors(file, f"{where}: {name}")
    return weights


def _facts(config: Mapping[str, Any], network: Any) -> dict[str, Any]:
    settings = network.config
    facts: dict[str, Any] = {"num_classes": max(int(settings.num_labels), 2)}
    if settings.problem_type == "multi_label_classification":
        facts["output_kind"] = MULTI_LABEL
    names = [settings.id2label.get(label) for label in range(settings.num_labels)]
    if "id2label" in config and all(isinstance(name, str) for name in names):
        facts["class_names"] = names
    for key, fact in (("num_channels", "channels"), ("image_size", "image_size")):
        if isinstance(value := getattr(settings, key, None), int):
            facts[fact] = value
    return facts


def _preprocessing(path: Path, where: str) -> dict[str, Any]:
    """Return mean, standard deviation and size of the images from preprocessor_config.json.

    Mean and standard deviation are for pixels in [0, 1].
    """
    if not (path / "preprocessor_config.json").is_file():
        return {}
    steps = _json(path, "preprocessor_config.json", where)
    facts: dict[str, Any] = {}
    size = steps.get("crop_size") if steps.get("do_center_crop") else None
    side = _side(size) or _side(steps.get("size"))
    if side is not None and steps.get("do_resize", True):
        facts["image_size"] = side
    mean, std = steps.get("image_mean"), steps.get("image_std")
    # Pixels in [0, 255] are multiplied by rescale_factor before they are normalised.
    scale = 255 * steps.get("rescale_factor", 1 / 255) if steps.get("do_rescale", True) else 255.0
    if steps.get("do_normalize", mean is not None) and mean is not None and std is not None:
        facts |= {"mean": [m / scale for m in mean], "std": [s / scale for s in std]}
    elif scale != 1:
        facts |= {"mean": [0.0], "std": [1 / scale]}
    return _plain(facts, where)


def _side(size: Any) -> int | None:
    """Return the side of square images that `size` or `crop_size` describes."""
    if isinstance(size, Mapping):
        height = size.get("height", size.get("shortest_edge"))
        size = height if size.get("width", height) == height else None
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _plain(facts: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the properties that are not None, after checking their types."""
    known = {key: value for key, value in facts.items() if value is not None}
    kinds: dict[str, Any] = {
        "num_classes": int, "channels": int, "image_size": int,
        "mean": float, "std": float, "class_names": str,
    }  # fmt: skip
    for key, value in known.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        fits = (kinds[key], int) if kinds[key] is float else kinds[key]
        if any(isinstance(v, bool) or not isinstance(v, fits) for v in values):
            raise InputError(
                f"{where}: {key}={value} in its config is invalid; download the folder again"
            )
    return known
