"""Networks beside the pipeline's: where their weights are, and which layers are their middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ad.backbone import Backbone, LayerInfo, load_backbone
from ad.determinism import sha256_file
from ad.params import BackboneSettings
from pretrained.sources import PACKAGES, empty_model, hub_weights, package_weights

MIDDLE = (8, 16)  # strides, input pixels


def middle_layers(model: nn.Module, strides: Sequence[int] = MIDDLE) -> list[LayerInfo]:
    """Name the deepest layer of each stride, from timm's ``feature_info``.

    PatchCore reads the middle of a network: shallow layers know edges only, the last ones the
    classes of ImageNet (Roth et al., section 3.1).  Architectures name their stages each in its
    own way, and the same number is another depth in each; the stride to the input is what they
    share.  Strides 8 and 16 are layers 2 and 3 of a ResNet, the paper's choice.

    Raises
    ------
    ValueError
        When the network has no layer of a stride; the message lists those it has.
    """
    stages = [
        LayerInfo(str(info["module"]), int(info["num_chs"]), int(info["reduction"]))
        for info in model.feature_info
    ]
    found = {stage.reduction: stage for stage in stages}  # the last of a stride stays
    missing = [stride for stride in strides if stride not in found]
    if missing:
        listed = ", ".join(f"{stage.name} = {stage.reduction}" for stage in stages)
        raise ValueError(f"no layer of stride {missing[0]}; the network has {listed}")
    return [found[stride] for stride in strides]


@dataclass(frozen=True)
class WeightsFound:
    """Where a network's weights come from.

    Parameters
    ----------
    weights : str
        A file, ``hub``, ``package`` or ``random``, as `ad.backbone.load_backbone` takes it.
    sha256 : str or None
    missing : str
        Why there are none; empty where there are.
    """

    weights: str
    sha256: str | None
    missing: str


def weights_files(name: str, folder: Path) -> list[Path]:
    """List the files that a network's weights are looked for in, in this order."""
    tag = empty_model(name).pretrained_cfg.get("tag")
    stems = [name, *([f"{name}.{tag}"] if tag else [])]
    files = [folder / f"{stem}{suffix}" for stem in stems for suffix in (".safetensors", ".pth")]
    for suffix in (".safetensors", ".pth"):  # of another tag than timm's default
        files += sorted(path for path in folder.glob(f"{name}.*{suffix}") if path not in files)
    return files


def find_weights(
    name: str, folder: Path, *, source: str = "folder", configured: str | None = None
) -> WeightsFound:
    """Look for a network's weights in a folder, in packages, then in the hub if asked for.

    Parameters
    ----------
    name : str
        A timm model.
    folder : path
    source : {"folder", "hub"}
        ``folder`` opens no connection.
    configured : str, optional
        The weights that the pipeline uses for this network: a file or a package comes first.
    """
    files = weights_files(name, folder) if configured != "package" else []
    if configured not in (None, "hub", "package", "random"):
        files.insert(0, Path(configured))
    for path in files:
        if path.is_file():
            return WeightsFound(path.as_posix(), sha256_file(path), "")
    reason = (
        f"no {name}.safetensors or .pth in {folder.as_posix()}/; on a connected machine "
        f"python -m tools.fetch_weights {name} fetches it"
    )
    for kind, wanted, look in (
        ("package", name in PACKAGES, package_weights),
        ("hub", source == "hub", hub_weights),
    ):
        if wanted:
            try:
                return WeightsFound(kind, sha256_file(look(name)), "")
            except (ConnectionError, ValueError) as error:
                reason = str(error)
    return WeightsFound("random", None, reason)


def load_found(name: str, found: WeightsFound, *, seed: int) -> Backbone:
    """Load a network with its middle layers and the weights that were found."""
    layers = [layer.name for layer in middle_layers(empty_model(name))]
    return load_backbone(
        BackboneSettings(name=name, weights=found.weights, layers=layers), seed=seed
    )
