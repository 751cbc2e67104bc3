"""Weights into a network: every key that runs is filled, and with what can be weights."""

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import timm
import torch
from torch import Tensor, nn


class LastLayerReached(Exception):
    """Raised in a hook to leave the forward pass; the layers behind are not run."""


def needed_keys(model: nn.Module, last_layer: str) -> list[str]:
    """List the state-dict keys of every module that runs up to ``last_layer``."""
    used: list[str] = []
    handles = []

    def note(name: str) -> Callable[[nn.Module, tuple], None]:
        def hook(module: nn.Module, _inputs: tuple) -> None:
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            used.extend(f"{name}.{key}" if name else key for key, _ in own)

        return hook

    def stop(_module: nn.Module, _inputs: tuple, _output: object) -> None:
        raise LastLayerReached

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(note(name)))
    handles.append(model.get_submodule(last_layer).register_forward_hook(stop))
    with contextlib.suppress(LastLayerReached), torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    persistent = model.state_dict().keys()
    return [
        key
        for key in dict.fromkeys(used)
        if key in persistent and not key.endswith("num_batches_tracked")
    ]


def _fault(values: Tensor, own: Tensor) -> str | None:
    """Say what keeps values of the right shape from being weights, if anything."""
    if values.layout != torch.strided or values.is_meta:
        return "sparse, or without values"
    if own.is_floating_point() and not values.is_floating_point():
        return f"of {str(values.dtype).removeprefix('torch.')}"
    if not values.float().isfinite().all():
        return "not finite"
    if values.ndim > 1 and not values.any():
        return "all zero"
    return None


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def fill(model: nn.Module, state: Mapping[str, Tensor], needed: Sequence[str], source: str) -> None:
    """Copy the needed weights into ``model``; others (a classifier, deeper layers) are passed over.

    Raises
    ------
    ValueError
        When a needed key is missing, of another shape, or holds no weights; the message lists them.
    """
    own = model.state_dict()
    missing = [key for key in needed if key not in state]
    if missing:
        raise ValueError(
            f"backbone.weights: {source} leaves {len(missing)} of {len(needed)} needed keys "
            f"unfilled: {_listed(missing)}; is it another architecture's file?"
        )
    differing = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in needed
        if state[key].shape != own[key].shape
    ]
    if differing:
        raise ValueError(
            f"backbone.weights: {source} has {len(differing)} of {len(needed)} needed keys in "
            f"another shape: {_listed(differing)}; is it another architecture's file?"
        )
    faults = [f"{key} is {fault}" for key in needed if (fault := _fault(state[key], own[key]))]
    if faults:
        raise ValueError(
            f"backbone.weights: {source} has {len(faults)} of {len(needed)} needed keys without "
            f"usable weights: {_listed(faults)}; fetch or export the file again"
        )
    # Half-precision files are widened; the network runs in float32.
    model.load_state_dict({key: state[key].to(own[key].dtype) for key in needed}, strict=False)


def leave_out(model: nn.Module, needed: Sequence[str]) -> None:
    """Free the weights of layers that are not run; a wide network has half of its own there."""
    for name, parameter in model.named_parameters():
        if name not in needed:
            parameter.data = parameter.data.new_empty(0)


def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw uniform weights (He et al., 2015, eq. 10), without biases, from PCG64's raw stream.

    Whole numbers and one product each, so they are the same on every machine; the initialisers of
    libraries take logarithms, whose last digits are not.
    """
    stream = np.random.PCG64(seed)
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            continue
        if parameter.ndim > 1:
            drawn = (stream.random_raw(parameter.numel()) >> np.uint64(43)).astype(np.float64)
            drawn -= 2**20
            drawn *= math.sqrt(6 / parameter[0].numel()) / 2**20
            parameter.data = torch.from_numpy(drawn.astype(np.float32)).view(parameter.shape)
        elif name.endswith("bias"):
            parameter.data.zero_()


# Names in a block of the packages' networks and in timm's; the first block does not expand.
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def rename_package_keys(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give a package's weights timm's names, by rules; every key of both sides must be met.

    Raises
    ------
    ValueError
        When a key is left over on either side.
    """
    places = [
        f"blocks.{stage}.{number}"
        for stage, blocks in enumerate(model.blocks)
        for number in range(len(blocks))
    ]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", key)
        number, part, entry = match.groups() if match else (None, "", "")
        if number is None:
            prefix, names = "", _OUTSIDE
        else:
            expands = f"_blocks.{number}._expand_conv.weight" in state
            prefix, names = f"{places[int(number)]}.", _EXPANDING if expands else _PLAIN
        renamed[f"{prefix}{names[part]}.{entry}" if part in names else key] = value
    left = sorted(renamed.keys() ^ model.state_dict().keys())
    if left or len(renamed) < len(state):
        raise ValueError(f"backbone.weights=package: keys without a partner: {_listed(left)}")
    return renamed


def pretrained_config(model: nn.Module, source: str) -> Mapping[str, object]:
    """Return what timm says of weights: of the tag in a file's name, else of the default tag.

    ``resnet50.a1_in1k.safetensors`` names its tag behind the architecture's name.
    """
    config = model.pretrained_cfg
    architecture, tag = config.get("architecture", ""), source.split(".")[1:2]
    full = f"{architecture}.{tag[0]}" if source.startswith(f"{architecture}.") else ""
    known = timm.models.get_pretrained_cfg(full) if timm.models.is_model_pretrained(full) else None
    return config if known is None else known.to_dict()
