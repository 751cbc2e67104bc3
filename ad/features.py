"""Locally aware patch features (Roth et al., 2022, section 3.1) of every image, once, to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ad.backbone import Backbone
from ad.files import array_writer
from ad.images import network_input
from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.winograd import WinogradConv2d, use_winograd

GIGABYTE = 1e9
PROCESS_BYTES = 0.7e9  # Python, PyTorch and timm, measured after their import on Linux
CPU_CHUNK = 4  # images a thread takes at a time: more gains no speed on a CPU and costs memory


@dataclass(frozen=True)
class PatchSettings:
    """How maps become patch features.

    Parameters
    ----------
    size : int
        Side of the neighbourhood, odd; 3 in the paper.
    pretrain_dim : int or None
        Dimension that each layer's neighbourhoods are pooled to; ``None`` keeps one value a
        channel, the mean over its neighbourhood.
    target_dim : int or None
        Dimension of a patch feature, all layers together; ``None`` keeps the layers' dimensions
        one behind the other.
    """

    size: int
    pretrain_dim: int | None
    target_dim: int | None

    def layer_dim(self, channels: int) -> int:
        """Return the dimension that a layer of so many channels is pooled to."""
        return channels if self.pretrain_dim is None else self.pretrain_dim

    def feature_dim(self, channels: Sequence[int]) -> int:
        """Return the dimension of a patch feature from layers of so many channels."""
        if self.target_dim is not None:
            return self.target_dim
        return sum(self.layer_dim(each) for each in channels)


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


def patch_features(maps: Sequence[Tensor], settings: PatchSettings) -> Tensor:
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
        ``dim`` is ``settings.feature_dim`` of the layers' channels.
    """
    n, _, height, width = maps[0].shape
    layers = []
    for values in maps:
        dim = settings.layer_dim(values.shape[1])
        pooled = pool_neighbourhoods(values, size=settings.size, dim=dim)
        if pooled.shape[-2:] != (height, width):
            pooled = F.interpolate(
                pooled, size=(height, width), mode="bilinear", align_corners=False
            )
        layers.append(pooled.permute(0, 2, 3, 1))
    joined = torch.cat(layers, dim=-1) if len(layers) > 1 else layers[0]
    dim = settings.feature_dim([values.shape[1] for values in maps])
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


def plan_extraction(
    backbone: Backbone,
    settings: PatchSettings,
    *,
    image_size: int,
    batch_size: int,
    memory_gb: float,
    threads: int,
    device: str,
) -> ExtractionPlan:
    """Measure one image's maps and choose how many images fit the memory at a time.

    On a CPU the network's convolutions are first replaced by faster ones
    (`ad.winograd.use_winograd`), which are measured; a CUDA library brings its own.

    Raises
    ------
    MemoryError
        When not even one image a thread fits ``memory_gb``; the message says what would.
    """
    if device == "cpu":
        use_winograd(backbone.model, keep=[layer.name for layer in backbone.layers])
    largest = workspace = 0

    def weigh(module: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal largest, workspace
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))
        if isinstance(module, WinogradConv2d):
            workspace = max(workspace, module.workspace_bytes(inputs[0].shape))

    leaves = [module for module in backbone.model.modules() if not any(module.children())]
    handles = [module.register_forward_hook(weigh) for module in leaves]
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, image_size, image_size))
    for handle in handles:
        handle.remove()
    grid = (maps[0].shape[2], maps[0].shape[3])
    unfolded = sum(m.numel() * settings.size**2 for m in maps)
    channels = [m.shape[1] for m in maps]
    feature_dim = settings.feature_dim(channels)
    pooled = grid[0] * grid[1] * (sum(map(settings.layer_dim, channels)) + feature_dim)
    # Factor 3: a residual block keeps its input beside a layer's input and output, with the
    # workspace of a library's layers.
    bytes_per_image = 3 * largest + workspace + 4 * (2 * unfolded + 2 * pooled)
    held = (*backbone.model.parameters(), *backbone.model.buffers())
    weights = sum(t.numel() * t.element_size() for t in held)
    fixed = int(PROCESS_BYTES + 2 * weights)
    workers = threads if device == "cpu" else 1
    fitting = int((memory_gb * GIGABYTE - fixed) / (bytes_per_image * workers))
    if fitting < 1:
        needed = (fixed + bytes_per_image * workers) / GIGABYTE
        raise MemoryError(
            f"runtime.memory_gb={memory_gb} is too small: {workers} thread(s) at image size "
            f"{image_size} need {needed:.2f}; raise it, or lower runtime.threads or image.size"
        )
    chunk = min(fitting, batch_size, CPU_CHUNK if device == "cpu" else batch_size)
    return ExtractionPlan(grid, feature_dim, chunk, bytes_per_image, fixed)


def extract_features(
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
    device: str = "cpu",
) -> tuple[int, int, int, int]:
    """Send every image through the network once and write its patch features as they come.

    While one thread decodes images, another runs the network.  Each image's numbers depend
    neither on the number of threads nor on its neighbours in the list.

    Parameters
    ----------
    backbone : Backbone
    paths : sequence of path
        Image files; row i of the result belongs to ``paths[i]``.
    output : path
        ``.npy`` file of float32, shape (n_images, h, w, dim).
    settings : PatchSettings
    image_size, image_resize
        See `ad.images.resize_and_crop`; pixels.
    batch_size : int
        Most images at a time on a GPU; an upper limit on a CPU.
    memory_gb : float
        Upper limit of resident memory, in 1e9 bytes, the mapped output not counted.
    threads : int
    device : {"cpu", "cuda"}

    Returns
    -------
    tuple of int
        The result's shape.
    """
    plan = plan_extraction(
        backbone,
        settings,
        image_size=image_size,
        batch_size=batch_size,
        memory_gb=memory_gb,
        threads=threads,
        device=device,
    )
    shape = (len(paths), *plan.grid, plan.feature_dim)
    backbone.model.to(device=device, memory_format=torch.channels_last)
    starts = range(0, len(paths), plan.chunk)

    with array_writer(output, shape, np.float32) as result:

        def one_chunk(start: int) -> int:
            rows = slice(start, min(start + plan.chunk, len(paths)))
            images = np.stack(
                [network_input(p, size=image_size, resize=image_resize) for p in paths[rows]]
            )
            # A short last chunk is filled up: another batch size may take another kernel.
            filled = np.zeros((plan.chunk, *images.shape[1:]), dtype=np.float32)
            filled[: len(images)] = images
            with torch.inference_mode():
                batch = torch.from_numpy(filled).to(device, memory_format=torch.channels_last)
                features = patch_features(backbone(batch), settings)
            result[rows] = features[: len(images)].cpu().numpy()
            return len(images)

        with (
            chunk_map(threads if device == "cpu" else 2) as run,
            progress_bar(len(paths), "extract", "image") as progress,
        ):
            for count in run(one_chunk, starts):
                progress.update(count)
    return shape
