"""Every image through the network once, its patch features to disk, within a bound of memory."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from ad.backbone import Backbone
from ad.determinism import resolve_device
from ad.features import feature_dim, patch_features
from ad.files import array_writer
from ad.images import InputRule, read_rgb
from ad.parallel import chunk_map
from ad.params import Image, Patch, Runtime
from ad.progress import progress_bar
from ad.tiles import cut, grid_of, join
from ad.exact.engines import exact_float32
from ad.exact.features import WholeForm, make_whole

GIGABYTE = 1e9
PROCESS_BYTES = 0.7e9  # Python, PyTorch and timm, measured after their import on Linux
LARGE = 256  # side of an image, pixels; memory for a larger one is estimated at this one first
CALIBRATION = 16  # images that scales of whole numbers are chosen on
CPU_CHUNK = 4  # images a thread takes at a time: more gains no speed on a CPU and costs memory


@dataclass(frozen=True)
class ExtractionPlan:
    """What an image gives and needs: patches, their dimension, bytes; threads, images a thread."""

    grid: tuple[int, int]
    feature_dim: int
    threads: int
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
        maps = backbone(torch.zeros(1, 3, size, size, device=backbone.device))
    for handle in handles:
        handle.remove()
    grid = (maps[0].shape[2], maps[0].shape[3])
    channels = [m.shape[1] for m in maps]
    dim = feature_dim(patch, channels)
    unfolded = sum(m.numel() * patch.patch_size**2 for m in maps)
    pooled = grid[0] * grid[1] * (sum(patch.pretrain_dim or c for c in channels) + dim)
    # Factor 3: a residual block keeps its input beside a layer's input and output, with the
    # workspace of a library's layers.
    return grid, dim, 3 * largest + 4 * (2 * unfolded + 2 * pooled)


def plan_extraction(
    backbone: Backbone, patch: Patch, rule: InputRule, runtime: Runtime, *, batch_size: int
) -> ExtractionPlan:
    """Measure one image's maps; choose how many threads and images fit the memory at a time.

    Parameters
    ----------
    rule : InputRule
        What decoding takes is held against the same limit by the check of the inputs.

    Raises
    ------
    MemoryError
        When not even one image fits ``runtime.memory_gb``; the message says what would.
    ValueError
        When tiles do not lie on the network's grid.
    """
    size, tiles = rule.size, rule.tiles
    on_cpu = resolve_device(runtime.device) == "cpu"
    held = (*backbone.model.parameters(), *backbone.model.buffers())
    fixed = int(PROCESS_BYTES + 2 * sum(t.numel() * t.element_size() for t in held))

    def fit(bytes_per_image: float) -> int:
        fitting = int((runtime.memory_gb * GIGABYTE - fixed) / bytes_per_image)
        if fitting < 1:
            raise MemoryError(
                f"runtime.memory_gb={runtime.memory_gb} is too small: an image of size {size} "
                f"needs {(fixed + bytes_per_image) / GIGABYTE:.2f}; raise it, or lower image.size"
            )
        return fitting

    if size > LARGE:  # refused before a pass that may take minutes, and more memory than that
        fit(_measure(backbone, patch, LARGE)[2] * (size / LARGE) ** 2)
    cells, dim, bytes_per_image = _measure(backbone, patch, size)
    grid = tuple(grid_of(each, size, tiles) for each in cells)
    if tiles > 1:  # one tile is in the network; all pixels, and the features twice, stay beside it
        bytes_per_image += 3 * rule.side**2 + 8 * grid[0] * grid[1] * dim
    fitting = fit(bytes_per_image)
    threads = min(torch.get_num_threads() if on_cpu else 2, fitting)  # one decodes for a GPU
    chunk = min(fitting // threads, batch_size, CPU_CHUNK if on_cpu else batch_size)
    return ExtractionPlan(grid, dim, threads, chunk, bytes_per_image, fixed)


@dataclass(frozen=True)
class FeatureExtractor:
    """Pixels to patch features, in whole numbers or in float32.

    Parameters
    ----------
    backbone : Backbone
    rule : InputRule
    patch : Patch
    whole : WholeForm or None
        ``None`` for float32.
    device : str
    """

    backbone: Backbone
    rule: InputRule
    patch: Patch
    whole: WholeForm | None = None
    device: str = "cpu"

    @property
    def unit(self) -> float:
        """Return what a difference of 1 between features stands for."""
        return 1.0 if self.whole is None else self.whole.unit

    @property
    def dtype(self) -> np.dtype:
        """Return uint8 (0..127), int8 (-127..127) or float32."""
        if self.whole is None:
            return np.dtype(np.float32)
        return np.dtype(np.int8 if self.whole.signed else np.uint8)

    @property
    def largest_share(self) -> float | None:
        """Return the share of 2 ** 24 that the network's largest sum can reach."""
        return max(self.whole.runner.network.shares().values()) if self.whole else None

    @property
    def engines(self) -> str:
        """Say which engines run how many convolutions; no whole number depends on it."""
        return "float32" if self.whole is None else self.whole.runner.engine

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Map pixels (n, side, side, 3) of uint8 to features (n, h, w, dim)."""
        size, tiles = self.rule.size, self.rule.tiles
        return join([self._of_tile(each) for each in cut(pixels, size, tiles)], size, tiles)

    def _of_tile(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            maps = self.maps(np.ascontiguousarray(pixels))
            found = self.whole.features(maps) if self.whole else patch_features(maps, self.patch)
        return found.cpu().numpy()

    def maps(self, pixels: np.ndarray) -> list[Tensor]:
        """Map pixels (n, size, size, 3) of uint8 to the layers' maps, int8 or float32."""
        if self.whole:
            return self.whole.runner(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        inputs = torch.from_numpy(np.stack([self.rule.normalised(each) for each in pixels]))
        return self.backbone(inputs.to(self.device, memory_format=torch.channels_last))


def make_extractor(
    backbone: Backbone,
    image: Image,
    patch: Patch,
    normals: Sequence[Path | np.ndarray],
    *,
    arithmetic: str,
    device: str = "cpu",
) -> FeatureExtractor:
    """Make what brings pixels to features.

    Parameters
    ----------
    normals : sequence of path or array of uint8
        Normal training images; scales of whole numbers are chosen on `CALIBRATION` of them, evenly
        spread.
    arithmetic : {"integer", "float32"}
    """
    device, rule = resolve_device(device), backbone.input_rule(image)
    backbone.model.to(memory_format=torch.channels_last)
    if arithmetic == "float32":
        backbone.model.to(device)
        return FeatureExtractor(backbone, rule, patch, None, device)
    step = -(-len(normals) // CALIBRATION)
    pictures = [pixels_of(each, rule)[None] for each in normals[::step]]
    tiles = [list(cut(each, rule.size, rule.tiles)) for each in pictures]
    # Of a tiled picture one place, another of each.
    pixels = np.concatenate([own[number % len(own)] for number, own in enumerate(tiles)])
    layers = [layer.name for layer in backbone.layers]
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    scaling = {"mean": rule.mean, "std": rule.std}
    whole = make_whole(backbone.model, layers, images, patch, **scaling, device=device)
    return FeatureExtractor(backbone, rule, patch, whole, device)


def pixels_of(picture: Path | np.ndarray, rule: InputRule) -> np.ndarray:
    """Return a picture in the input's geometry; one in memory is in it already."""
    return picture if isinstance(picture, np.ndarray) else rule.pixels(read_rgb(picture))


def extract_features(
    extractor: FeatureExtractor,
    pictures: Sequence[Path | np.ndarray],
    output: Path,
    runtime: Runtime,
    batch_size: int = 32,
) -> tuple[int, int, int, int]:
    """Send every image through the network once and write its patch features as they come.

    While one thread decodes images, another runs the network.  Each image's numbers depend
    neither on the number of threads nor on its neighbours in the list.

    Parameters
    ----------
    extractor : FeatureExtractor
    pictures : sequence of path or array of uint8, shape (side, side, 3)
        Image files, or pixels of the input's geometry; row i of the result belongs to entry i.
    output : path
        ``.npy`` file of the extractor's dtype, shape (n_images, h, w, dim).
    runtime : Runtime
        ``memory_gb`` limits resident memory, the mapped output not counted.
    batch_size : int
        Most images at a time on a GPU; an upper limit on a CPU.

    Returns
    -------
    tuple of int
        The result's shape.
    """
    rule, backbone = extractor.rule, extractor.backbone
    plan = plan_extraction(backbone, extractor.patch, rule, runtime, batch_size=batch_size)
    shape = (len(pictures), *plan.grid, plan.feature_dim)
    with array_writer(output, shape, extractor.dtype) as result:

        def one_chunk(start: int) -> int:
            some = pictures[start : start + plan.chunk]
            # A short last chunk is filled up: another batch size may take another kernel.
            pixels = np.zeros((plan.chunk, rule.side, rule.side, 3), dtype=np.uint8)
            for row, picture in enumerate(some):
                pixels[row] = pixels_of(picture, rule)
            result[start : start + len(some)] = extractor(pixels)[: len(some)]
            return len(some)

        with (  # the first around the threads: each would put back what another found
            exact_float32() if extractor.whole else nullcontext(),
            chunk_map(plan.threads) as run,
            progress_bar(len(pictures), "extract", "image") as progress,
        ):
            for count in run(one_chunk, range(0, len(pictures), plan.chunk)):
                progress.update(count)
    return shape


def features_of(
    extractor: FeatureExtractor, pictures: Sequence[Path | np.ndarray], runtime: Runtime
) -> np.ndarray:
    """Extract the features of a few images into memory; see `extract_features`."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "features.npy"
        extract_features(extractor, pictures, output, runtime)
        return np.load(output, allow_pickle=False)
