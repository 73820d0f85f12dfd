"""Find the tensors of a checkpoint that are the weights of a network.

Checkpoints of other projects contain a state dict under some key (`state_dict`, `model`, `net`,
...), next to optimizers and averaged weights. The names of the weights often begin with the
attribute or wrapper that contained the network (`module.`, `model.`, `_orig_mod.`). The state dict
in use is the only one in the file whose names and shapes fit the network after one common prefix is
removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from netinv_lightning.errors import InputError

USUAL = (
    "",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "classifier",
)
"""Usual keys and prefixes of the weights. They are preferred if several state dicts fit, for
example those of the trained and of the averaged weights."""
WRAPPERS = ("_orig_mod.", "module.")
"""Parts of names that torch.compile and DataParallel add, also in the middle."""
COUNTER = "num_batches_tracked"
PROFILED = ("total_ops", "total_params")
"""Buffers that profilers add to a state dict."""
DEPTH = 3


def state_dicts(content: object, path: tuple[str, ...] = ()) -> dict[str, dict[str, Tensor]]:
    """Return the mappings from names to tensors in a checkpoint, by their nested keys."""
    if not isinstance(content, Mapping):
        return {}
    own = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    found = {".".join(path): own} if own else {}
    if len(path) < DEPTH:
        for key, value in content.items():
            if isinstance(key, str):
                found |= state_dicts(value, (*path, key))
    return found


def match(
    found: Mapping[str, dict[str, Tensor]], network: nn.Module, where: str
) -> tuple[dict[str, Tensor], str]:
    """Return the state dict that fits `network`, and one line about how its names changed.

    Args:
        found: State dicts by their nested keys.
        network: The network.
        where: The key and its value, for messages.

    Raises:
        InputError: if several fit and none of them is where the weights usually are.
    """
    own = list(network.state_dict())
    fitting: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, weights in found.items():
        for prefix, renamed in _renamed(weights, own):
            if ((key, "") not in fitting) and not differences(network, renamed):
                fitting[key, prefix] = renamed
    if not fitting:  # `fill` reports how the most similar one differs
        return min(
            (renamed for weights in found.values() for _, renamed in _renamed(weights, own)),
            key=lambda renamed: len({*own} ^ {*renamed}),
        ), ""
    places = list(fitting)
    if len(places) > 1:
        usual = [
            place
            for place in places
            if all(
                part in USUAL for part in (*place[0].split("."), *place[1].rstrip(".").split("."))
            )
        ]
        if len(usual) != 1:
            places_found = ", ".join(" ".join(filter(None, place)) for place in places)
            raise InputError(
                f"{where}: the weights of several networks fit ({places_found}); save the "
                "state_dict() of one of them alone"
            )
        places = usual + [place for place in places if place not in usual]
    key, prefix = places[0]
    weights = fitting[key, prefix]
    return weights, _line(key, prefix, places[1:], len(found[key]) - len(weights))


def _line(key: str, prefix: str, others: list[tuple[str, str]], left_out: int) -> str:
    parts = [f"the weights are those under its key {key}"] if key else []
    parts += (
        [f"the prefix {prefix} of their names is removed"]
        if prefix and not prefix.startswith("+")
        else []
    )
    parts += [f"their names get the prefix {prefix[1:]}"] if prefix.startswith("+") else []
    parts += (
        [f"{left_out} of its tensors have another prefix and are not used"]
        if left_out and not others
        else []
    )
    parts += (
        [f"not used: {', '.join(' '.join(filter(None, other)) for other in others)}"]
        if others
        else []
    )
    return "; ".join(parts)


def _renamed(weights: dict[str, Tensor], own: list[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the weights under candidate names, with the prefix that was removed."""
    yield "", weights
    plain = dict(weights)
    for wrapper in WRAPPERS:
        if not any(wrapper in name for name in own):
            plain = {name.replace(wrapper, ""): weight for name, weight in plain.items()}
    if plain.keys() != weights.keys():
        removed = [
            wrapper
            for wrapper in WRAPPERS
            if any(wrapper in name for name in weights) and wrapper not in " ".join(own)
        ]
        yield " and ".join(removed), plain
    tail = next((name for name in own if not name.endswith(COUNTER)), "")
    for prefix in dict.fromkeys(
        name[: -len(tail)] for name in plain if tail and name.endswith(f".{tail}")
    ):
        yield (
            prefix,
            {
                name.removeprefix(prefix): weight
                for name, weight in plain.items()
                if name.startswith(prefix)
            },
        )
    first = own[0].partition(".")[0] + "." if own else ""
    if first and all(name.startswith(first) for name in own):
        yield f"+{first}", {first + name: weight for name, weight in plain.items()}


def differences(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Describe how `weights` differ from those of `network` in names and shapes; empty if equal."""
    own = network.state_dict(keep_vars=True)
    places: dict[int, list[str]] = {}
    for name, tensor in own.items():
        places.setdefault(id(tensor), []).append(name)
    given = {
        name
        for names in places.values()
        if any(name in weights for name in names)
        for name in names
    }
    missing = [name for name in own if name not in given and not name.endswith(COUNTER)]
    unexpected = [
        name
        for name in weights
        if name not in own and name.rpartition(".")[2] not in (COUNTER, *PROFILED)
    ]
    reshaped = [
        f"{name} is {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the "
        "network"
        for name in own
        if name in weights and not is_lazy(own[name]) and weights[name].shape != own[name].shape
    ]
    return [
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
        )
        if names
    ]
