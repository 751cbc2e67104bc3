"""Load a timm network with its weights and tap its layers."""

import contextlib
import difflib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ad.determinism import seeded_torch, sha256_file
from ad.images import InputRule, input_rule
from ad.params import BackboneSettings, Image
from ad.weights import (
    draw_weights,
    fill,
    hub_weights,
    package_weights,
    read_state_dict,
    rename_package_keys,
)


class LastLayerReached(Exception):
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
            if len(found) == len(self.layers):
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
        """Map images (n, 3, height, width) to one (n, channels, h, w) a layer.

        Raises
        ------
        ValueError
            When the network does not take this size, or a layer gives no map.
        """
        self._maps.found = found = {}
        try:
            with contextlib.suppress(LastLayerReached):
                self.model(images)
        except torch.OutOfMemoryError:
            raise MemoryError(
                f"backbone.batch_size: {len(images)} images at a time are too many for this GPU; "
                f"lower it"
            ) from None
        except (AssertionError, RuntimeError, ValueError) as error:  # as networks refuse a size
            raise self._refused(images, error) from None
        finally:
            self._maps.found = None
        return [self._as_map(found.get(layer.name), layer, images) for layer in self.layers]

    def _refused(self, images: Tensor, error: Exception) -> ValueError:
        height, width = images.shape[-2:]
        own, reason = self.config["input_size"][-1], " ".join(str(error).split())[:120]
        return ValueError(
            f"backbone.name: the network takes no images of {height} x {width} pixels ({reason}); "
            f"it was trained on {own} x {own}: choose another image.input_size"
        )

    def _as_map(self, values: object, layer: LayerInfo, images: Tensor) -> Tensor:
        """Return what a layer gives as (n, channels, h, w), by what timm says of the layer."""
        shape = tuple(values.shape) if isinstance(values, Tensor) else ()
        last = getattr(self.model, "output_fmt", "") == "NHWC"
        if len(shape) == 4 and shape[3] == layer.channels and (last or shape[1] != shape[3]):
            return values.permute(0, 3, 1, 2)
        if len(shape) == 4 and shape[1] == layer.channels:
            return values
        # A plain transformer's tokens: some that describe no place, then the places row by row.
        grid = [side // layer.reduction for side in images.shape[-2:]]
        first = getattr(self.model, "num_prefix_tokens", None)
        if first is not None and shape[1:] == (first + grid[0] * grid[1], layer.channels):
            return values[:, first:].transpose(1, 2).unflatten(2, grid)
        found = f"shape {shape}" if shape else type(values).__name__
        raise ValueError(
            f"backbone.layers: {layer.name} gives {found}, in which {layer.channels} channels of a "
            f"map cannot be told; choose another layer or network"
        )


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
        try:  # plain vision transformers then take images of any size
            model = timm.create_model(name, pretrained=False, dynamic_img_size=True).eval()
        except TypeError:  # other networks have no such option
            model = timm.create_model(name, pretrained=False).eval()
    modules = dict(model.named_modules())
    if not all(
        info.get("module") in modules for info in getattr(model, "feature_info", None) or [{}]
    ):
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
        Folder that a weights file's path is relative to; ``hub`` keeps its files in ``weights``
        below it.
    """
    name, weights = settings.name, settings.weights
    model = create_model(name)
    needed = needed_keys(model, resolve_layers(model, settings.layers))
    leave_out(model, needed)
    if weights == "random":
        draw_weights(model, seed)
        return Backbone(model, settings.layers, "random", None)
    if weights == "package":
        path = package_weights(name)
        state = rename_package_keys(read_state_dict(path), model)
    else:
        path = hub_weights(name, root / "weights") if weights == "hub" else root / weights
        state = read_state_dict(path)
    fill(model, state, needed, path.name)
    return Backbone(model, settings.layers, path.name, sha256_file(path))


def needed_keys(model: nn.Module, layers: Sequence[LayerInfo]) -> list[str]:
    """List the state-dict keys of every module that runs up to the last of some layers."""
    used: list[str] = []
    reached, handles = set(), []

    def note(name: str, *, finished: bool) -> Callable[..., None]:
        def hook(module: nn.Module, *_arguments: object) -> None:
            # A module that has run may have read its children's weights without calling them.
            own = [*module.named_parameters(recurse=finished)]
            own += module.named_buffers(recurse=finished)
            used.extend(f"{name}.{key}" if name else key for key, _ in own)

        return hook

    def stop(name: str) -> Callable[..., None]:
        def hook(*_arguments: object) -> None:
            reached.add(name)
            if len(reached) == len(layers):
                raise LastLayerReached

        return hook

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(note(name, finished=False)))
        handles.append(module.register_forward_hook(note(name, finished=True)))
    for layer in layers:
        handles.append(model.get_submodule(layer.name).register_forward_hook(stop(layer.name)))
    with contextlib.suppress(LastLayerReached), torch.inference_mode():
        model(torch.zeros(1, *model.pretrained_cfg["input_size"]))
    for handle in handles:
        handle.remove()
    persistent = model.state_dict().keys()
    return [
        key
        for key in dict.fromkeys(used)
        if key in persistent and not key.endswith("num_batches_tracked")
    ]


def leave_out(model: nn.Module, needed: Sequence[str]) -> None:
    """Free the weights of layers that are not run; a wide network has half of its own there."""
    for name, parameter in model.named_parameters():
        if name not in needed:
            parameter.data = parameter.data.new_empty(0)


def pretrained_config(model: nn.Module, source: str) -> Mapping[str, object]:
    """Return what timm says of weights: of the tag in a file's name, else of the default tag.

    ``resnet50.a1_in1k.safetensors`` names its tag behind the architecture's name.
    """
    config = model.pretrained_cfg
    architecture, tag = config.get("architecture", ""), source.split(".")[1:2]
    full = f"{architecture}.{tag[0]}" if source.startswith(f"{architecture}.") else ""
    known = timm.models.get_pretrained_cfg(full) if timm.models.is_model_pretrained(full) else None
    return config if known is None else known.to_dict()
