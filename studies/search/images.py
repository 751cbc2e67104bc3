"""The images of a search: normals for the bank, normals held out, synthetic anomalies, the test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ad.dataset import ImageRecord, of_split
from ad.images import read_rgb
from studies.shared.synthetic_anomalies import DECIDING, KINDS, paste


def square_pixels(image: Image.Image, *, resize: int | None) -> np.ndarray:
    """Make an image square, so that `ad.images.resize_and_crop` then gives what it gave before.

    Without ``resize`` it is stretched, as straight resizing does; with it the centre is kept.

    Returns
    -------
    array of uint8, shape (side, side, 3)
        ``side`` is the shorter one.
    """
    width, height = image.size
    side = min(width, height)
    if resize is None:
        square = image.resize((side, side), Image.Resampling.BILINEAR)
    else:
        left, top = (width - side) // 2, (height - side) // 2
        square = image.crop((left, top, left + side, top + side))
    return np.asarray(square)


def split_normals(n_train: int, n_drawn: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw normals; hold out every third of them.

    Returns
    -------
    fit, held_out : arrays of int
        Image numbers, both in the order of the list.
    """
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.choice(n_train, min(n_drawn, n_train), replace=False))
    third = np.arange(len(drawn)) % 3 == 2
    return drawn[~third], drawn[third]


@dataclass(frozen=True)
class Listed:
    """All images of a search in one list, and the rows of each part.

    Parameters
    ----------
    paths : list of path
    fit, held_out, test : arrays of int
    pasted : dict of str to array of int
        For each kind of synthetic anomaly, the held-out images with one of it, in their order.
    """

    paths: list[Path]
    fit: np.ndarray
    held_out: np.ndarray
    test: np.ndarray
    pasted: dict[str, np.ndarray]

    def words(self) -> str:
        """Count the images."""
        return (
            f"{len(self.fit)} normals for the bank, {len(self.held_out)} held out, each with one "
            f"synthetic anomaly of each of {len(self.pasted)} kinds. Deciding: "
            f"{', '.join(DECIDING)}; scored afterwards only: "
            f"{', '.join(kind for kind in self.pasted if kind not in DECIDING) or 'none'}."
        )


def list_images(
    records: Sequence[ImageRecord],
    data: Path,
    work: Path,
    *,
    n_normals: int,
    resize: int | None,
    seed: int,
) -> Listed:
    """Draw normals, paste synthetic anomalies into the held-out ones, and list everything.

    Parameters
    ----------
    records : sequence of ImageRecord
    data : path
        Folder that the records' paths are relative to.
    work : path
        Folder that the synthetic images are written to.
    n_normals : int
        Normals that are drawn.
    resize : int or None
        See `square_pixels`.
    seed : int
    """
    train, test = of_split(records, "train"), of_split(records, "test")
    fit, held_out = split_normals(len(train), n_normals, seed=seed)
    normal = [data / train[number].path for number in (*fit, *held_out)]
    pasted = []
    for kind in KINDS:
        for number in held_out:
            pixels = square_pixels(read_rgb(data / train[number].path), resize=resize)
            image, _ = paste(pixels, kind, seed=seed, number=int(number))
            pasted.append(work / f"{kind}_{number}.png")
            Image.fromarray(image).save(pasted[-1], compress_level=1)
    paths = [*normal, *pasted, *(data / record.path for record in test)]
    sizes = np.cumsum([len(fit), len(held_out), len(pasted)])
    fit_rows, held_rows, pasted_rows, test_rows = np.split(np.arange(len(paths)), sizes)
    by_kind = dict(zip(KINDS, np.split(pasted_rows, len(KINDS)), strict=True))
    return Listed(paths, fit_rows, held_rows, test_rows, by_kind)
