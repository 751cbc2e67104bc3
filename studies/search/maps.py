"""Features for a search: each image goes through the network once a size, whatever is tried."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from ad.backbone import Backbone, resolve_layers
from ad.features import CPU_CHUNK, PatchSettings, patch_features
from ad.files import array_writer, load_array
from ad.images import network_input
from ad.parallel import chunk_map
from ad.progress import progress_bar

ROWS = 16  # images whose maps become patch features at a time


def write_maps(
    backbone: Backbone,
    paths: Sequence[Path],
    folder: Path,
    *,
    size: int,
    resize: int | None,
    threads: int,
    progress: bool = True,
) -> list[Path]:
    """Write the maps of all of a backbone's layers, as the network gives them.

    Returns
    -------
    list of path
        One ``.npy`` a layer: float32, shape (n_images, channels, h, w).
    """
    with torch.inference_mode():
        shapes = [maps.shape[1:] for maps in backbone(torch.zeros(1, 3, size, size))]
    files = [folder / f"{size}_{layer.name}.npy" for layer in backbone.layers]

    def one_chunk(start: int) -> tuple[slice, list[np.ndarray]]:
        rows = slice(start, min(start + CPU_CHUNK, len(paths)))
        batch = np.zeros((CPU_CHUNK, 3, size, size), dtype=np.float32)  # always of one size
        for row, path in enumerate(paths[rows]):
            batch[row] = network_input(path, size=size, resize=resize)
        with torch.inference_mode():
            maps = backbone(torch.from_numpy(batch).contiguous(memory_format=torch.channels_last))
        return rows, [each[: rows.stop - rows.start].numpy() for each in maps]

    backbone.model.to(memory_format=torch.channels_last)
    with ExitStack() as stack:
        results = [
            stack.enter_context(array_writer(file, (len(paths), *shape), np.float32))
            for file, shape in zip(files, shapes, strict=True)
        ]
        run = stack.enter_context(chunk_map(threads))
        bar = stack.enter_context(
            progress_bar(len(paths), f"maps at {size}", "image", show=progress)
        )
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
    folder : path
        Where maps are kept; the caller removes it.
    image_size, image_resize
        The study's; another size scales ``image_resize`` with it.
    settings : PatchSettings
        The study's; the search changes ``size`` alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        paths: Sequence[Path],
        folder: Path,
        *,
        image_size: int,
        image_resize: int | None,
        settings: PatchSettings,
        threads: int,
        progress: bool = True,
    ) -> None:
        self.backbone, self.paths, self.folder = backbone, list(paths), folder
        self.image_size, self.image_resize, self.settings = image_size, image_resize, settings
        self.threads, self.progress = threads, progress
        self._files: dict[int, list[Path]] = {}

    def _maps(self, size: int) -> list[np.ndarray]:
        if size not in self._files:
            resize = self.image_resize
            self._files[size] = write_maps(
                self.backbone,
                self.paths,
                self.folder,
                size=size,
                resize=None if resize is None else round(resize * size / self.image_size),
                threads=self.threads,
                progress=self.progress,
            )
        return [load_array(file) for file in self._files[size]]

    def features(
        self, rows: np.ndarray, *, size: int, layers: Sequence[str | int], patch_size: int
    ) -> np.ndarray:
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
        array of float32, shape (n, h, w, dim)
        """
        wanted = {layer.name for layer in resolve_layers(self.backbone.model, layers)}
        maps = [
            values
            for layer, values in zip(self.backbone.layers, self._maps(size), strict=True)
            if layer.name in wanted
        ]
        own = PatchSettings(patch_size, self.settings.pretrain_dim, self.settings.target_dim)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), ROWS):
                some = rows[start : start + ROWS]
                parts.append(
                    patch_features([torch.from_numpy(each[some]) for each in maps], own).numpy()
                )
        return np.concatenate(parts)
