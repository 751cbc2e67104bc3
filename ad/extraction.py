"""Every image through the network once, its patch features to disk, within a bound of memory."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ad.backbone import Backbone
from ad.determinism import resolve_device
from ad.exact.engines import exact_float32
from ad.exact.features import WholeForm, make_whole
from ad.features import feature_dim, patch_features
from ad.files import array_writer
from ad.images import InputRule
from ad.parallel import chunk_map
from ad.params import Image, Patch, Runtime
from ad.progress import progress_bar
from ad.tiles import cut, grid_of, join

PROCESS_BYTES = 0.9e9  # Python, PyTorch and timm, measured after a first image on Linux
BYTES_A_PIXEL = (
    1000  # of a network's input; the most of ten measured ones took 670, features included
)
CALIBRATION = 16  # images that scales of whole numbers are chosen on
CALIBRATION_PIXELS = CALIBRATION * 512**2  # fewer images where they are larger
CPU_CHUNK = 4  # images a thread takes at a time: more gains no speed on a CPU and costs memory


@dataclass(frozen=True)
class FeatureExtractor:
    """Pixels to patch features, in whole numbers or in float32.

    Parameters
    ----------
    backbone : Backbone
    rule : InputRule
    patch : Patch
    cells : tuple of int
        Rows and columns of patches in one tile.
    whole : WholeForm or None
        ``None`` for float32.
    device : str
    """

    backbone: Backbone
    rule: InputRule
    patch: Patch
    cells: tuple[int, int]
    whole: WholeForm | None = None
    device: str = "cpu"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return rows and columns of a picture's patches, and their features' dimension."""
        sides = zip(self.cells, self.rule.size, strict=True)
        high, wide = (grid_of(cells, side, self.rule.tiles) for cells, side in sides)
        return high, wide, feature_dim(self.patch, [each.channels for each in self.backbone.layers])

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
    def engines(self) -> str:
        """Say which engines run how many convolutions; no whole number depends on it."""
        return "float32" if self.whole is None else self.whole.runner.engine

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Map pixels (n, height, width, 3) of uint8 to features (n, h, w, dim)."""
        size, tiles = self.rule.size, self.rule.tiles
        return join([self._of_tile(each) for each in cut(pixels, size, tiles)], size, tiles)

    def _of_tile(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            maps = self.maps(np.ascontiguousarray(pixels))
            found = self.whole.features(maps) if self.whole else patch_features(maps, self.patch)
        return found.cpu().numpy()

    def maps(self, pixels: np.ndarray) -> list[Tensor]:
        """Map tiles' pixels (n, height, width, 3) of uint8 to layers' maps, int8 or float32."""
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
        Normal training images; scales of whole numbers are chosen on at most `CALIBRATION` of them,
        evenly spread.
    arithmetic : {"integer", "float32"}

    Raises
    ------
    ValueError
        When the network does not take the input's size, tiles do not lie on its grid, or it has
        no form in whole numbers.
    """
    device, rule = resolve_device(device), backbone.input_rule(image)
    backbone.model.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        probe = backbone(torch.zeros(1, 3, *rule.size, device=backbone.device))
    cells = (probe[0].shape[2], probe[0].shape[3])
    if arithmetic == "float32":
        backbone.model.to(device)
        return FeatureExtractor(backbone, rule, patch, cells, None, device)
    most = max(1, min(CALIBRATION, CALIBRATION_PIXELS // (rule.size[0] * rule.size[1])))
    step = -(-len(normals) // most)
    pictures = [pixels_of(each, rule)[None] for each in normals[::step]]
    tiles = [list(cut(each, rule.size, rule.tiles)) for each in pictures]
    # One tile of each picture, at the next place from picture to picture.
    pixels = np.concatenate([own[number % len(own)] for number, own in enumerate(tiles)])
    layers = [layer.name for layer in backbone.layers]
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    scaling = {"mean": rule.mean, "std": rule.std}
    whole = make_whole(backbone.model, layers, images, patch, **scaling, device=device)
    return FeatureExtractor(backbone, rule, patch, cells, whole, device)


def pixels_of(picture: Path | np.ndarray, rule: InputRule) -> np.ndarray:
    """Return a picture in the input's geometry; one in memory is in it already."""
    return picture if isinstance(picture, np.ndarray) else rule.read(picture)


def plan_extraction(
    extractor: FeatureExtractor, runtime: Runtime, batch_size: int
) -> tuple[int, int]:
    """Return how many threads work, and on how many images each at a time.

    Raises
    ------
    MemoryError
        When not even one image fits ``runtime.memory_gb``; the message says what would.
    """
    model, rule, patch = extractor.backbone.model, extractor.rule, extractor.patch
    (high, wide), (rows, columns, dim) = rule.size, extractor.shape
    held = (*model.parameters(), *model.buffers())
    fixed = PROCESS_BYTES + 2 * sum(each.numel() * each.element_size() for each in held)
    channels = sum(each.channels for each in extractor.backbone.layers)
    needed = BYTES_A_PIXEL * high * wide  # one tile is in the network
    # Its neighbourhoods and features, twice; all pixels and features of the picture stay beside.
    needed += 8 * extractor.cells[0] * extractor.cells[1] * (channels * patch.patch_size**2 + dim)
    needed += 3 * rule.shape[0] * rule.shape[1] + 8 * rows * columns * dim
    fitting = int((1e9 * runtime.memory_gb - fixed) / needed)
    if fitting < 1:
        raise MemoryError(
            f"runtime.memory_gb={runtime.memory_gb} is too small: an image of {high} x {wide} "
            f"pixels needs {(fixed + needed) / 1e9:.2f}; raise it, or lower image.input_size"
        )
    on_cpu = extractor.device == "cpu"
    threads = min(torch.get_num_threads() if on_cpu else 2, fitting)  # one decodes for a GPU
    return threads, min(fitting // threads, batch_size, CPU_CHUNK if on_cpu else batch_size)


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
    pictures : sequence of path or array of uint8, shape (height, width, 3)
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
    threads, chunk = plan_extraction(extractor, runtime, batch_size)
    rule, shape = extractor.rule, (len(pictures), *extractor.shape)
    with array_writer(output, shape, extractor.dtype) as result:

        def one_chunk(start: int) -> int:
            some = pictures[start : start + chunk]
            # A short last chunk is filled up: another batch size may take another kernel.
            pixels = np.zeros((chunk, *rule.shape, 3), dtype=np.uint8)
            for row, picture in enumerate(some):
                pixels[row] = pixels_of(picture, rule)
            result[start : start + len(some)] = extractor(pixels)[: len(some)]
            return len(some)

        with (  # the first around the threads: each would put back what another found
            exact_float32() if extractor.whole else nullcontext(),
            chunk_map(threads) as run,
            progress_bar(len(pictures), "extract", "image") as progress,
        ):
            for count in run(one_chunk, range(0, len(pictures), chunk)):
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
