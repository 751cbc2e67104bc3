"""Locally aware patch features (Roth et al., 2022, section 3.1) of every image, once, to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ad.backbone import Backbone
from ad.determinism import resolve_device
from ad.files import array_writer
from ad.images import InputRule, network_input
from ad.parallel import chunk_map
from ad.params import Patch, Runtime
from ad.progress import progress_bar

GIGABYTE = 1e9
PROCESS_BYTES = 0.7e9  # Python, PyTorch and timm, measured after their import on Linux
LARGE = 256  # side of an image, pixels; memory for a larger one is estimated at this one first
CPU_CHUNK = 4  # images a thread takes at a time: more gains no speed on a CPU and costs memory


def feature_dim(patch: Patch, channels: Sequence[int]) -> int:
    """Return the dimension of a patch feature from layers of so many channels."""
    if patch.target_dim is not None:
        return patch.target_dim
    return sum(patch.pretrain_dim or each for each in channels)


def pool_neighbourhoods(maps: Tensor, *, size: int, dim: int) -> Tensor:
    """Describe each position by its ``size`` x ``size`` neighbourhood, pooled to ``dim`` values.

    The neighbourhood is flattened channel by channel and brought to ``dim`` by adaptive average
    pooling, as the ``MeanMapper`` of the authors' implementation does; positions outside the map
    count as zeros.

    Parameters
    ----------
    maps : Tensor, shape (n, channels, h, w), float32

    Returns
    -------
    Tensor, shape (n, dim, h, w), float32
    """
    n, channels, height, width = maps.shape
    if channels % dim == 0:
        # Whole channels fall into each bin: a box filter, then a mean over channels.
        means = F.avg_pool2d(maps, size, stride=1, padding=size // 2, count_include_pad=True)
        return means.reshape(n, dim, channels // dim, height, width).mean(dim=2)
    patches = F.unfold(maps, size, padding=size // 2)  # (n, channels * size**2, h * w)
    flat = patches.transpose(1, 2).reshape(n * height * width, 1, -1)
    pooled = F.adaptive_avg_pool1d(flat, dim)  # (n * h * w, 1, dim)
    return pooled.reshape(n, height, width, dim).permute(0, 3, 1, 2)


def patch_features(maps: Sequence[Tensor], patch: Patch) -> Tensor:
    """Join the maps of several layers into one feature a patch (Roth et al., eq. 1 to 3).

    Each layer is pooled over neighbourhoods to ``pretrain_dim`` and resized (bilinear) to the
    finest grid; the layers, one behind the other, are pooled to ``target_dim``.  Pooling
    comes before resizing here: both are linear, on different axes, so the result is the authors'
    to rounding, and the coarse grid is smaller.

    Parameters
    ----------
    maps : sequence of Tensor, each (n, channels, h, w), float32
        Shallow before deep; the first has the finest grid.

    Returns
    -------
    Tensor, shape (n, h, w, dim), float32
        ``dim`` is `feature_dim` of the layers' channels.
    """
    n, _, height, width = maps[0].shape
    layers = []
    for values in maps:
        dim = patch.pretrain_dim or values.shape[1]
        pooled = pool_neighbourhoods(values, size=patch.size, dim=dim)
        if pooled.shape[-2:] != (height, width):
            pooled = F.interpolate(
                pooled, size=(height, width), mode="bilinear", align_corners=False
            )
        layers.append(pooled.permute(0, 2, 3, 1))
    joined = torch.cat(layers, dim=-1) if len(layers) > 1 else layers[0]
    dim = feature_dim(patch, [values.shape[1] for values in maps])
    if joined.shape[-1] == dim:
        return joined.contiguous()
    flat = joined.reshape(n * height * width, 1, -1)
    return F.adaptive_avg_pool1d(flat, dim).reshape(n, height, width, dim)


@dataclass(frozen=True)
class ExtractionPlan:
    """What one pass gives and needs: patches, their dimension, images at a time, and bytes."""

    grid: tuple[int, int]
    feature_dim: int
    chunk: int
    bytes_per_image: int
    fixed_bytes: int


def _measure(backbone: Backbone, patch: Patch, size: int) -> tuple[tuple[int, int], int, int]:
    """Send one image of zeros through the network; return grid, feature dimension and bytes."""
    largest = 0

    def weigh(_module: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal largest
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [module for module in backbone.model.modules() if not any(module.children())]
    handles = [module.register_forward_hook(weigh) for module in leaves]
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    grid = (maps[0].shape[2], maps[0].shape[3])
    channels = [m.shape[1] for m in maps]
    dim = feature_dim(patch, channels)
    unfolded = sum(m.numel() * patch.size**2 for m in maps)
    pooled = grid[0] * grid[1] * (sum(patch.pretrain_dim or c for c in channels) + dim)
    # Factor 3: a residual block keeps its input beside a layer's input and output, with the
    # workspace of a library's layers.
    return grid, dim, 3 * largest + 4 * (2 * unfolded + 2 * pooled)


def plan_extraction(
    backbone: Backbone, patch: Patch, size: int, runtime: Runtime, *, batch_size: int
) -> ExtractionPlan:
    """Measure one image's maps and choose how many images fit the memory at a time.

    Parameters
    ----------
    size : int
        Side of the network's input, pixels.  What decoding takes is held against the same limit by
        the check of the inputs.

    Raises
    ------
    MemoryError
        When not even one image a thread fits ``runtime.memory_gb``; the message says what would.
    """
    on_cpu = resolve_device(runtime.device) == "cpu"
    workers = torch.get_num_threads() if on_cpu else 1
    held = (*backbone.model.parameters(), *backbone.model.buffers())
    fixed = int(PROCESS_BYTES + 2 * sum(t.numel() * t.element_size() for t in held))

    def fit(bytes_per_image: float) -> int:
        fitting = int((runtime.memory_gb * GIGABYTE - fixed) / (bytes_per_image * workers))
        if fitting < 1:
            needed = (fixed + bytes_per_image * workers) / GIGABYTE
            raise MemoryError(
                f"runtime.memory_gb={runtime.memory_gb} is too small: {workers} thread(s) at image "
                f"size {size} need {needed:.2f}; raise it, or lower runtime.threads or image.size"
            )
        return fitting

    if size > LARGE:  # refused before a pass that may take minutes, and more memory than that
        fit(_measure(backbone, patch, LARGE)[2] * (size / LARGE) ** 2)
    grid, dim, bytes_per_image = _measure(backbone, patch, size)
    chunk = min(fit(bytes_per_image), batch_size, CPU_CHUNK if on_cpu else batch_size)
    return ExtractionPlan(grid, dim, chunk, bytes_per_image, fixed)


def extract_features(
    backbone: Backbone,
    pictures: Sequence[Path | np.ndarray],
    output: Path,
    patch: Patch,
    rule: InputRule,
    runtime: Runtime,
    batch_size: int = 32,
) -> tuple[int, int, int, int]:
    """Send every image through the network once and write its patch features as they come.

    While one thread decodes images, another runs the network.  Each image's numbers depend
    neither on the number of threads nor on its neighbours in the list.

    Parameters
    ----------
    backbone : Backbone
    pictures : sequence of path or array of uint8, shape (size, size, 3)
        Image files, or pixels of the network's size; row i of the result belongs to entry i.
    output : path
        ``.npy`` file of float32, shape (n_images, h, w, dim).
    patch : Patch
    rule : InputRule
    runtime : Runtime
        ``memory_gb`` limits resident memory, the mapped output not counted.
    batch_size : int
        Most images at a time on a GPU; an upper limit on a CPU.

    Returns
    -------
    tuple of int
        The result's shape.
    """
    device = resolve_device(runtime.device)
    plan = plan_extraction(backbone, patch, rule.size, runtime, batch_size=batch_size)
    shape = (len(pictures), *plan.grid, plan.feature_dim)
    backbone.model.to(device=device, memory_format=torch.channels_last)

    def network_inputs(some: Sequence[Path | np.ndarray]) -> Tensor:
        # A short last chunk is filled up: another batch size may take another kernel.
        filled = np.zeros((plan.chunk, 3, rule.size, rule.size), dtype=np.float32)
        for row, picture in enumerate(some):
            in_memory = isinstance(picture, np.ndarray)
            filled[row] = rule.normalised(picture) if in_memory else network_input(picture, rule)
        return torch.from_numpy(filled).to(device, memory_format=torch.channels_last)

    with array_writer(output, shape, np.float32) as result:

        def one_chunk(start: int) -> int:
            some = pictures[start : start + plan.chunk]
            with torch.inference_mode():
                features = patch_features(backbone(network_inputs(some)), patch)
            result[start : start + len(some)] = features[: len(some)].cpu().numpy()
            return len(some)

        with (
            chunk_map(None if device == "cpu" else 2) as run,
            progress_bar(len(pictures), "extract", "image") as progress,
        ):
            for count in run(one_chunk, range(0, len(pictures), plan.chunk)):
                progress.update(count)
    return shape


def features_of(
    backbone: Backbone,
    pictures: Sequence[Path | np.ndarray],
    patch: Patch,
    rule: InputRule,
    runtime: Runtime,
) -> np.ndarray:
    """Extract the features of a few images into memory; see `extract_features`."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "features.npy"
        extract_features(backbone, pictures, output, patch, rule, runtime)
        return np.load(output, allow_pickle=False)
