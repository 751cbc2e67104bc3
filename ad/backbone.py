"""Load a timm network with its weights and tap its layers."""

import contextlib
import difflib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ad.determinism import seeded_torch, sha256_file
from ad.images import InputRule, input_rule
from ad.params import BackboneSettings, Image
from ad.filling import (
    LastLayerReached,
    draw_weights,
    fill,
    leave_out,
    needed_keys,
    pretrained_config,
    rename_package_keys,
)
from ad.weights import hub_weights, package_weights, read_state_dict


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
        self.config = pretrained_config(model, weights_source)
        self._maps = threading.local()  # several threads share the network, not its outputs
        for layer in self.layers:
            self.model.get_submodule(layer.name).register_forward_hook(self._tap(layer.name))

    def _tap(self, name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            found = getattr(self._maps, "found", None)
            if found is None:  # called by others
                return
            found[name] = output
            if name == self.layers[-1].name:
                raise LastLayerReached

        return hook

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return next(self.model.parameters()).device

    def input_rule(self, image: Image) -> InputRule:
        """Say how a picture becomes this network's input: as in its training, or as set."""
        return input_rule(image, self.config)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Map images (n, 3, h, w) to one (n, channels, h / reduction, w / reduction) a layer."""
        self._maps.found = {}
        with contextlib.suppress(LastLayerReached):
            self.model(images)
        maps = [self._maps.found[layer.name] for layer in self.layers]
        self._maps.found = None
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


def create_model(name: str) -> nn.Module:
    """Build a timm network whose weights are still to be filled or drawn.

    Raises
    ------
    ValueError
        When timm has no such network, or it has no feature maps.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(
            f"backbone.name={name!r} is no timm model; near it are {', '.join(close) or 'none'}"
        )
    with seeded_torch(0):
        model = timm.create_model(name, pretrained=False).eval()
    if not getattr(model, "feature_info", None):
        raise ValueError(f"backbone.name={name!r} lists no feature maps; choose another network")
    return model


def load_backbone(settings: BackboneSettings, *, seed: int = 0, root: Path = Path()) -> Backbone:
    """Build a timm network and fill it with the weights asked for, or fail.

    Parameters
    ----------
    settings : BackboneSettings
        ``weights`` is the path of a ``.safetensors`` or ``.pth`` file, ``hub`` for timm's
        pretrained tag, ``package`` for an installed package, or ``random``.  There is no fallback
        from one to another.
    seed : int
        Seed of random weights; others ignore it.
    root : path
        Folder that a weights file's path is relative to.
    """
    name, weights = settings.name, settings.weights
    model = create_model(name)
    needed = needed_keys(model, resolve_layers(model, settings.layers)[-1].name)
    leave_out(model, needed)
    if weights == "random":
        draw_weights(model, seed)
        return Backbone(model, settings.layers, "random", None)
    if weights == "package":
        path = package_weights(name)
        state, source = rename_package_keys(read_state_dict(path), model), path.name
    elif weights == "hub":
        path = hub_weights(name)
        state, source = read_state_dict(path), model.pretrained_cfg["hf_hub_id"]
    else:
        path = root / weights
        state, source = read_state_dict(path), path.name
    fill(model, state, needed, source)
    return Backbone(model, settings.layers, source, sha256_file(path))
