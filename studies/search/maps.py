"""Features for a search: each image goes through the network once a size, whatever is tried.

The maps are whole numbers or float32, as the pipeline's.
"""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ad.backbone import Backbone, resolve_layers
from ad.extraction import (
    CALIBRATION,
    CPU_CHUNK,
    FeatureExtractor,
    make_extractor,
    pixels_of,
)
from ad.features import patch_features
from ad.files import array_writer, load_array
from ad.parallel import chunk_map
from ad.params import Image, Patch
from ad.progress import progress_bar
from integer.engines import exact_float32
from integer.features import fit_exponent, join_maps, to_bytes

ROWS = 16  # images whose maps become patch features at a time


def write_maps(extractor: FeatureExtractor, paths: Sequence[Path], folder: Path) -> list[Path]:
    """Write the maps of all of an extractor's layers, as the network gives them.

    Returns
    -------
    list of path
        One ``.npy`` a layer: int8 or float32, shape (n_images, channels, h, w).
    """
    size = extractor.rule.size
    with torch.inference_mode():
        first = extractor.maps(np.zeros((1, size, size, 3), dtype=np.uint8))
    files = [folder / f"{size}_{layer.name}.npy" for layer in extractor.backbone.layers]

    def one_chunk(start: int) -> tuple[slice, list[np.ndarray]]:
        rows = slice(start, min(start + CPU_CHUNK, len(paths)))
        pixels = np.zeros((CPU_CHUNK, size, size, 3), dtype=np.uint8)  # always of one size
        for row, path in enumerate(paths[rows]):
            pixels[row] = pixels_of(path, extractor.rule)
        with torch.inference_mode():
            maps = extractor.maps(pixels)
        return rows, [each[: rows.stop - rows.start].numpy() for each in maps]

    with ExitStack() as stack:
        results = [
            stack.enter_context(
                array_writer(file, (len(paths), *maps.shape[1:]), maps.numpy().dtype)
            )
            for file, maps in zip(files, first, strict=True)
        ]
        stack.enter_context(exact_float32() if extractor.whole else nullcontext())
        run = stack.enter_context(chunk_map())
        bar = stack.enter_context(progress_bar(len(paths), f"maps at {size}", "image"))
        for rows, maps in run(one_chunk, range(0, len(paths), CPU_CHUNK)):
            for result, values in zip(results, maps, strict=True):
                result[rows] = values
            bar.update(rows.stop - rows.start)
    return files


class MapCache:
    """Maps of a list of images, written once a size, and patch features made from them.

    Parameters
    ----------
    backbone : Backbone
        With every layer that may be asked for.
    paths : sequence of path
        The first ``n_normals`` are normal images; scales of whole numbers are chosen on them.
    folder : path
        Where maps are kept; the caller removes it.
    image : Image
        The pipeline's; another size scales ``resize`` with it.
    patch : Patch
        The pipeline's; the search changes ``size`` alone.
    arithmetic : {"integer", "float32"}
    """

    def __init__(
        self,
        backbone: Backbone,
        paths: Sequence[Path],
        folder: Path,
        image: Image,
        patch: Patch,
        *,
        n_normals: int,
        arithmetic: str,
    ) -> None:
        self.backbone, self.paths, self.folder = backbone, list(paths), folder
        self.image, self.patch = image, patch
        self.n_normals, self.arithmetic = n_normals, arithmetic
        self._made: dict[int, tuple[FeatureExtractor, list[Path]]] = {}
        self._exponents: dict[tuple, int] = {}

    def _maps(self, size: int) -> tuple[FeatureExtractor, list[np.ndarray]]:
        if size not in self._made:
            old, normals = self.image, self.paths[: self.n_normals]
            resize = None if old.resize is None else round(old.resize * size / old.size)
            image = old.model_copy(update={"size": size, "resize": resize})
            extractor = make_extractor(
                self.backbone, image, self.patch, normals, arithmetic=self.arithmetic
            )
            files = write_maps(extractor, self.paths, self.folder)
            self._made[size] = extractor, files
        extractor, files = self._made[size]
        return extractor, [load_array(file) for file in files]

    def features(
        self, rows: np.ndarray, *, size: int, layers: Sequence[str | int], patch_size: int
    ) -> tuple[np.ndarray, float]:
        """Return patch features of some of the images.

        Parameters
        ----------
        rows : array of int, shape (n,)
            Numbers within the list of paths.
        size : int
            Side of the network's input.
        layers : sequence of str or int
        patch_size : int

        Returns
        -------
        features : array of one byte or float32, shape (n, h, w, dim)
        unit : float
            What a difference of 1 stands for.
        """
        wanted = {layer.name for layer in resolve_layers(self.backbone.model, layers)}
        extractor, maps = self._maps(size)
        own, whole = self.patch.model_copy(update={"size": patch_size}), extractor.whole
        kept = [n for n, layer in enumerate(self.backbone.layers) if layer.name in wanted]

        def joined(some: np.ndarray) -> torch.Tensor:
            values = [torch.from_numpy(maps[n][some]) for n in kept]
            if whole is None:
                return patch_features(values, own)
            return join_maps(values, [whole.exponents[n] for n in kept], own)

        with torch.inference_mode():
            parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
            if whole is None:
                return np.concatenate([joined(part).numpy() for part in parts]), 1.0
            key = size, *kept, patch_size
            if key not in self._exponents:
                normals = np.arange(0, self.n_normals, -(-self.n_normals // CALIBRATION))
                self._exponents[key] = fit_exponent(joined(normals), signed=whole.signed)
            form = replace(whole, pooling=own, exponent=self._exponents[key])
            how = {"exponent": form.exponent, "signed": form.signed}
            several = [to_bytes(joined(part), **how).numpy() for part in parts]
            return np.concatenate(several), form.unit
