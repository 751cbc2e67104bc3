"""Features for a search: each image goes through the network once a size, whatever is tried."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ad.backbone import Backbone, resolve_layers
from ad.features import CPU_CHUNK, patch_features
from ad.files import array_writer, load_array
from ad.images import InputRule, network_input
from ad.parallel import chunk_map
from ad.params import Patch
from ad.progress import progress_bar

ROWS = 16  # images whose maps become patch features at a time


def write_maps(
    backbone: Backbone,
    paths: Sequence[Path],
    folder: Path,
    *,
    rule: InputRule,
    progress: bool = True,
) -> list[Path]:
    """Write the maps of all of a backbone's layers, as the network gives them.

    Returns
    -------
    list of path
        One ``.npy`` a layer: float32, shape (n_images, channels, h, w).
    """
    size = rule.size
    with torch.inference_mode():
        shapes = [maps.shape[1:] for maps in backbone(torch.zeros(1, 3, size, size))]
    files = [folder / f"{size}_{layer.name}.npy" for layer in backbone.layers]

    def one_chunk(start: int) -> tuple[slice, list[np.ndarray]]:
        rows = slice(start, min(start + CPU_CHUNK, len(paths)))
        batch = np.zeros((CPU_CHUNK, 3, size, size), dtype=np.float32)  # always of one size
        for row, path in enumerate(paths[rows]):
            batch[row] = network_input(path, rule)
        with torch.inference_mode():
            maps = backbone(torch.from_numpy(batch).contiguous(memory_format=torch.channels_last))
        return rows, [each[: rows.stop - rows.start].numpy() for each in maps]

    backbone.model.to(memory_format=torch.channels_last)
    with ExitStack() as stack:
        results = [
            stack.enter_context(array_writer(file, (len(paths), *shape), np.float32))
            for file, shape in zip(files, shapes, strict=True)
        ]
        run = stack.enter_context(chunk_map())
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
    rule : InputRule
        The pipeline's; another size scales ``resize`` with it.
    patch : Patch
        The pipeline's; the search changes ``size`` alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        paths: Sequence[Path],
        folder: Path,
        rule: InputRule,
        patch: Patch,
        *,
        progress: bool = True,
    ) -> None:
        self.backbone, self.paths, self.folder = backbone, list(paths), folder
        self.rule, self.patch, self.progress = rule, patch, progress
        self._files: dict[int, list[Path]] = {}

    def _maps(self, size: int) -> list[np.ndarray]:
        if size not in self._files:
            old = self.rule
            resize = None if old.resize is None else round(old.resize * size / old.size)
            rule = replace(old, size=size, resize=resize)
            self._files[size] = write_maps(
                self.backbone, self.paths, self.folder, rule=rule, progress=self.progress
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
        own = self.patch.model_copy(update={"size": patch_size})
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), ROWS):
                some = rows[start : start + ROWS]
                parts.append(
                    patch_features([torch.from_numpy(each[some]) for each in maps], own).numpy()
                )
        return np.concatenate(parts)
