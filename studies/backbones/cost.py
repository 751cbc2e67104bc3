"""What a backbone costs and gives: its weights, its middle layers, memory, time and quality."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import timm
import torch
from torch import Tensor, nn

from ad.backbone import Backbone, LayerInfo, hub_weights, load_backbone
from ad.determinism import sha256_file
from ad.features import PatchSettings, extract_features
from ad.files import atomic_path
from ad.images import IMAGENET_MEAN, IMAGENET_STD

MIDDLE = (8, 16)  # strides, input pixels
PART = 64  # images whose features are mapped at a time; mapped pages count as resident


def empty_model(name: str) -> nn.Module:
    """Build a timm network without memory for its weights, to read what it says of itself."""
    if not timm.is_model(name):
        raise ValueError(f"backbones.names: {name!r} is no timm model")
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False)


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
        A file, ``hub`` or ``random``, as `ad.backbone.load_backbone` takes it.
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
    stems = [name, f"embedded_{name}", *([f"{name}.{tag}"] if tag else [])]
    return [folder / f"{stem}{suffix}" for stem in stems for suffix in (".safetensors", ".pth")]


def find_weights(
    name: str, folder: Path, *, source: str, configured: str | None = None
) -> WeightsFound:
    """Look for a network's weights in a folder, then in the hub if that is asked for.

    Parameters
    ----------
    name : str
        A timm model.
    folder : path
    source : {"folder", "hub"}
        ``folder`` opens no connection.
    configured : str, optional
        The weights that the pipeline uses for this network; a file is looked at first.
    """
    files = [Path(configured)] if configured not in (None, "hub", "random") else []
    files += weights_files(name, folder)
    for suffix in (".safetensors", ".pth"):  # of another tag than timm's default
        files += sorted(folder.glob(f"{name}.*{suffix}"))
    for path in files:
        if path.is_file():
            return WeightsFound(path.as_posix(), sha256_file(path), "")
    if source == "hub":
        try:
            path = hub_weights(empty_model(name), name)
        except (ConnectionError, ValueError) as error:
            return WeightsFound("random", None, str(error))
        return WeightsFound("hub", sha256_file(path), "")
    return WeightsFound(
        "random",
        None,
        f"no {name}.safetensors or .pth in {folder.as_posix()}/; on a connected machine "
        f"python -m tools.fetch_weights {name} fetches it",
    )


def expect_imagenet_input(model: nn.Module) -> bool:
    """Make a network that was trained with another normalisation take the pipeline's input.

    `ad.images.network_input` subtracts ImageNet's mean and divides by its standard deviation;
    some timm weights were trained with others.  A hook in front of the network converts.

    Returns
    -------
    bool
        Whether the network needed it.
    """
    own_mean = np.array(model.pretrained_cfg.get("mean", IMAGENET_MEAN), dtype=np.float32)
    own_std = np.array(model.pretrained_cfg.get("std", IMAGENET_STD), dtype=np.float32)
    if np.allclose(own_mean, IMAGENET_MEAN) and np.allclose(own_std, IMAGENET_STD):
        return False
    scale = torch.from_numpy(IMAGENET_STD / own_std)[:, None, None]
    shift = torch.from_numpy((IMAGENET_MEAN - own_mean) / own_std)[:, None, None]

    def convert(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * scale.to(inputs[0].device) + shift.to(inputs[0].device),)

    model.register_forward_pre_hook(convert)
    return True


def load_for_study(name: str, found: WeightsFound, *, seed: int) -> Backbone:
    """Load a network with its middle layers and the weights that were found."""
    layers = [layer.name for layer in middle_layers(empty_model(name))]
    backbone = load_backbone(name, weights=found.weights, layers=layers, seed=seed)
    expect_imagenet_input(backbone.model)
    return backbone


def peak_resident_bytes() -> int:
    """Return the most memory that this process has held resident, mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def spread_over(n_images: int, n_chosen: int) -> np.ndarray:
    """Choose image numbers evenly over a list; all of them where there are no more."""
    return np.unique(np.linspace(0, n_images - 1, min(n_chosen, n_images)).round().astype(int))


@dataclass(frozen=True)
class Cost:
    """What extraction took.

    Parameters
    ----------
    n_images : int
        Images that were measured.
    seconds_per_image, cpu_seconds_per_image : float
        Decoding included; loading the network is not.
    grid : tuple of int
    feature_dim : int
    feature_bytes_per_image : int
        float32.
    """

    n_images: int
    threads: int
    seconds_per_image: float
    cpu_seconds_per_image: float
    grid: tuple[int, int]
    feature_dim: int
    feature_bytes_per_image: int


def timed_extraction(
    backbone: Backbone,
    paths: Sequence[Path],
    output: Path,
    settings: PatchSettings,
    *,
    image_size: int,
    image_resize: int | None,
    batch_size: int,
    memory_gb: float,
    threads: int,
) -> Cost:
    """Extract features on the CPU (`ad.features.extract_features`) and say what it took.

    The features are written a part after the other, so that no more than one part is mapped into
    memory: the peak does not grow with the number of images.
    """
    wall = cpu = 0.0
    output.parent.mkdir(parents=True, exist_ok=True)
    part_file = output.with_name(f"{output.stem}.part.npy")
    with atomic_path(output) as partial, partial.open("wb") as stream:
        for start in range(0, len(paths), PART):
            before = time.perf_counter(), time.process_time()
            shape = extract_features(
                backbone,
                paths[start : start + PART],
                part_file,
                settings,
                image_size=image_size,
                image_resize=image_resize,
                batch_size=batch_size,
                memory_gb=memory_gb,
                threads=threads,
            )
            wall += time.perf_counter() - before[0]
            cpu += time.process_time() - before[1]
            if start == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(paths), *shape[1:])}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(np.load(part_file, allow_pickle=False).data)
            part_file.unlink()
    n = len(paths)
    return Cost(n, threads, wall / n, cpu / n, shape[1:3], shape[3], 4 * int(np.prod(shape[1:])))


def layers_in_words(layers: Sequence[LayerInfo]) -> list[dict[str, object]]:
    """List layers as plain values for a JSON file."""
    return [asdict(layer) for layer in layers]
