"""Draw the embedded data set: synthetic transistors on strip board, in MVTec AD layout.

Every picture has its own generator, seeded with (seed, split, index), so any one of them can be
drawn again alone. Usage: ``python -m embedded.render_dataset OUT --seed 11``.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ad.determinism import available_cores
from ad.files import atomic_path, write_text
from embedded.renderer.defects import DEFECTS, N_VARIANTS, defect_mask
from embedded.renderer.picture import render, trace_layers
from embedded.renderer.scene import sample_scene

MARK = "SYNTHETIC.txt"  # its presence makes every report say that the pictures are drawn
MARK_TEXT = "Synthetic: these pictures were drawn by embedded/render_dataset.py.\n"
SIZE = 248  # pixels
SUPERSAMPLE = 3
N_TRAIN, N_TEST_GOOD = 213, 60
SHIPPED_SEED = 11  # of data/; 12 is that of data_locked/, which nothing was tuned on
# JPEG is a quarter of PNG here, since noise does not compress without loss. Without subsampled
# colours every decoder gives the same pixels: nothing is interpolated.
JPEG = {"format": "JPEG", "quality": 92, "subsampling": 0, "optimize": True}


@dataclass(frozen=True)
class Item:
    """One picture of the set; ``split`` is its place in the seed."""

    folder: str
    index: int
    split: int
    kind: str | None  # a defect, or None


def plan() -> Iterator[Item]:
    """List every picture of the set, in a fixed order."""
    for split, (folder, number) in enumerate((("train/good", N_TRAIN), ("test/good", N_TEST_GOOD))):
        yield from (Item(folder, index, split, None) for index in range(number))
    for split, kind in enumerate(DEFECTS, start=2):
        yield from (Item(f"test/{kind}", index, split, kind) for index in range(N_VARIANTS))


def draw(item: Item, *, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw one picture.

    Returns
    -------
    picture : array of shape (SIZE, SIZE, 3), uint8
    mask : array of shape (SIZE, SIZE), uint8, or None for a normal picture
    """
    rng = np.random.default_rng([seed, item.split, item.index])
    scene = sample_scene(rng)
    if item.kind is None:
        return render(scene, size=SIZE, supersample=SUPERSAMPLE)[0], None
    changed = DEFECTS[item.kind](scene, item.index, rng)
    before = trace_layers(scene, size=SIZE, supersample=SUPERSAMPLE)
    picture, after = render(changed, size=SIZE, supersample=SUPERSAMPLE)
    return picture, defect_mask(item.kind, (scene, changed), (before, after), SIZE)


def make(item: Item, out: Path, seed: int) -> None:
    """Draw one picture and write it, and its mask, under ``out``."""
    cv2.setNumThreads(1)  # the pictures are shared out among processes
    picture, mask = draw(item, seed=seed)
    with atomic_path(out / item.folder / f"{item.index:03d}.jpg") as partial:
        Image.fromarray(picture).save(partial, **JPEG)
    if mask is not None:
        with atomic_path(
            out / "ground_truth" / item.kind / f"{item.index:03d}_mask.png"
        ) as partial:
            Image.fromarray(mask).convert("1").save(partial, format="PNG")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to fill; must be new or empty")
    parser.add_argument("--seed", type=int, default=SHIPPED_SEED, help="default: data/'s")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; it must be 0 or more")
    if options.out.exists() and (not options.out.is_dir() or sorted(options.out.iterdir())):
        parser.error(f"{options.out} exists and is not an empty folder; choose another")
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(make, item, options.out, options.seed) for item in plan()]
        for job in tqdm(jobs, unit="picture"):
            job.result()
    write_text(options.out / MARK, MARK_TEXT)


if __name__ == "__main__":
    main()
