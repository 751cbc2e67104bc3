"""Patch features of images in memory, through the same code as images on disk."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from ad.backbone import Backbone
from ad.features import PatchSettings, extract_features
from ad.images import read_rgb, resize_and_crop


def network_pixels(path: str | Path, *, size: int, resize: int | None) -> np.ndarray:
    """Read an image in the geometry of the network's input, shape (size, size, 3), uint8."""
    return np.asarray(resize_and_crop(read_rgb(path), size=size, resize=resize))


def features_of_images(
    backbone: Backbone,
    images: Sequence[np.ndarray],
    settings: PatchSettings,
    *,
    memory_gb: float,
    threads: int,
) -> np.ndarray:
    """Extract features of square images that have the network's size already.

    Parameters
    ----------
    images : sequence of arrays of uint8, each (size, size, 3)

    Returns
    -------
    array of float32, shape (n_images, h, w, dim)
    """
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path, compress_level=1)
        output = Path(folder) / "features.npy"
        extract_features(
            backbone,
            paths,
            output,
            settings,
            image_size=images[0].shape[0],
            image_resize=None,
            batch_size=32,
            memory_gb=memory_gb,
            threads=threads,
        )
        return np.load(output, allow_pickle=False)
