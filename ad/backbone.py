"""Load a timm network, fill it with weights that are what they say, and tap its layers."""

import contextlib
import difflib
import pickle
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ad.determinism import seeded_torch, sha256_file


class _LastLayerReached(Exception):
    """Raised in a hook to leave the forward pass; the layers behind are not run."""


@dataclass(frozen=True)
class LayerInfo:
    """A layer that is read: its module name, channels, and stride to the input in pixels."""

    name: str
    channels: int
    reduction: int


class Backbone:
    """A frozen network that returns the maps of the layers asked for, shallow before deep.

    Parameters
    ----------
    model : nn.Module
        A timm model with ``feature_info``.
    layers : sequence of str or int
        Names as timm's ``feature_info`` gives them (``layer3``), or stage numbers.
    weights_source : str
        Where the weights came from, for the report.
    weights_sha256 : str or None
        Hash of the weights file; ``None`` for random weights.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str | int],
        weights_source: str,
        weights_sha256: str | None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.layers = resolve_layers(model, layers)
        self.weights_source = weights_source
        self.weights_sha256 = weights_sha256
        self._maps = threading.local()  # several threads share the network, not its outputs
        for layer in self.layers:
            self.model.get_submodule(layer.name).register_forward_hook(self._tap(layer.name))

    def _tap(self, name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            self._maps.found[name] = output
            if name == self.layers[-1].name:
                raise _LastLayerReached

        return hook

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Map images (n, 3, h, w) to one (n, channels, h / reduction, w / reduction) a layer."""
        self._maps.found = {}
        with contextlib.suppress(_LastLayerReached):
            self.model(images)
        maps = [self._maps.found[layer.name] for layer in self.layers]
        self._maps.found = {}
        for layer, values in zip(self.layers, maps, strict=True):
            if values.ndim != 4:
                raise ValueError(
                    f"backbone.layers: {layer.name} gives shape {tuple(values.shape)}, not "
                    f"(n, channels, h, w); choose a convolutional network"
                )
        return maps


def resolve_layers(model: nn.Module, layers: Sequence[str | int]) -> list[LayerInfo]:
    """Look layers up in ``model.feature_info``; return them shallow before deep.

    Raises
    ------
    ValueError
        When the network has no such layer; the message lists those it has.
    """
    stages = [
        LayerInfo(str(info["module"]), int(info["num_chs"]), int(info["reduction"]))
        for info in model.feature_info
    ]
    names = [stage.name for stage in stages]
    chosen = set()
    for layer in layers:
        known = layer in names if isinstance(layer, str) else layer < len(stages)
        if not known:
            listed = ", ".join(f"{number} = {name}" for number, name in enumerate(names))
            raise ValueError(f"backbone.layers: no layer {layer!r}; the network has {listed}")
        index = names.index(layer) if isinstance(layer, str) else layer
        if index in chosen:
            raise ValueError(f"backbone.layers: {layer!r} is asked for twice")
        chosen.add(index)
    return [stages[index] for index in sorted(chosen)]


def _needed_keys(model: nn.Module, last_layer: str) -> list[str]:
    """List the state-dict keys of every module that runs up to ``last_layer``."""
    used: list[str] = []
    handles = []

    def note(name: str) -> Callable[[nn.Module, tuple], None]:
        def hook(module: nn.Module, _inputs: tuple) -> None:
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            used.extend(f"{name}.{key}" if name else key for key, _ in own)

        return hook

    def stop(_module: nn.Module, _inputs: tuple, _output: object) -> None:
        raise _LastLayerReached

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(note(name)))
    handles.append(model.get_submodule(last_layer).register_forward_hook(stop))
    with contextlib.suppress(_LastLayerReached), torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    persistent = model.state_dict().keys()
    return [
        key
        for key in dict.fromkeys(used)
        if key in persistent and not key.endswith("num_batches_tracked")
    ]


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` or ``.pth`` file; nothing in it is executed.

    A training checkpoint's wrapping (``state_dict``, ``model``, a ``module.`` prefix) is removed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"backbone.weights: {path} does not exist; put the file there, "
            f"or 'dvc pull' if it is the repository's own"
        )
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition(". ")[0].splitlines()[0]
        raise ValueError(
            f"backbone.weights: {path} is no readable weights file ({reason})"
        ) from None
    for wrapping in ("state_dict", "model"):
        if isinstance(state.get(wrapping), dict):
            state = state[wrapping]
    return {
        key.removeprefix("module."): value
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def fill(model: nn.Module, state: dict[str, Tensor], *, last_layer: str, source: str) -> None:
    """Copy weights into every part of ``model`` that runs up to ``last_layer``.

    Keys that are not needed (a classifier, deeper layers) are passed over.

    Raises
    ------
    ValueError
        When a needed key is missing or of another shape; the message lists them.
    """
    own = model.state_dict()
    needed = _needed_keys(model, last_layer)
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
    # Half-precision files are widened; the network runs in float32.
    model.load_state_dict({key: state[key].to(own[key].dtype) for key in needed}, strict=False)


def hub_weights(model: nn.Module, name: str) -> Path:
    """Return the local copy of timm's pretrained weights, fetched once if there is a network.

    Raises
    ------
    ConnectionError
        Without a network: which file to fetch elsewhere and where to put it.
    """
    config = model.pretrained_cfg
    repository = config.get("hf_hub_id")
    if not repository:
        raise ValueError(f"backbone.weights=hub: timm names no hub weights for {name!r}")
    try:
        return Path(hf_hub_download(repository, "model.safetensors", local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        if not getproxies():  # without a network the hub's client would retry for half a minute
            socket.create_connection((urlsplit(ENDPOINT).hostname, 443), timeout=10).close()
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (HfHubHTTPError, httpx.HTTPError, OSError):
        tag = repository.rpartition("/")[2]
        raise ConnectionError(
            f"backbone.weights=hub: {repository} cannot be reached. On a connected machine fetch "
            f"{ENDPOINT}/{repository}/resolve/main/model.safetensors , save it here as "
            f"weights/{tag}.safetensors and set backbone.weights to that path"
        ) from None


def load_backbone(
    name: str, *, weights: str, layers: Sequence[str | int], seed: int = 0
) -> Backbone:
    """Build a timm network and fill it with the weights asked for, or fail.

    Parameters
    ----------
    name : str
        Any timm model with feature maps (``resnet18``, ``wide_resnet101_2``, ...).
    weights : str
        The path of a ``.safetensors`` or ``.pth`` file, ``"hub"`` for timm's pretrained tag, or
        ``"random"``.  There is no fallback from one to another.
    layers : sequence of str or int
        The layers to read.
    seed : int
        Seed of random weights; file and hub weights ignore it.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(
            f"backbone.name={name!r} is no timm model; near it are {', '.join(close) or 'none'}"
        )
    with seeded_torch(seed):
        model = timm.create_model(name, pretrained=False).eval()
    if not getattr(model, "feature_info", None):
        raise ValueError(f"backbone.name={name!r} lists no feature maps; choose another network")
    last_layer = resolve_layers(model, layers)[-1].name
    if weights == "random":
        return Backbone(model, layers, "random", None)
    path = hub_weights(model, name) if weights == "hub" else Path(weights)
    source = model.pretrained_cfg["hf_hub_id"] if weights == "hub" else path.name
    fill(model, read_state_dict(path), last_layer=last_layer, source=source)
    return Backbone(model, layers, source, sha256_file(path))
