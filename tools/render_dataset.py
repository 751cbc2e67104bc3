"""Draw the embedded data set: synthetic transistors on strip board, in MVTec AD layout.

Every picture has its own generator, seeded with (seed, split, index), so any one of them can be
drawn again alone. Usage: ``python tools/render_dataset.py OUT --seed 0``.
"""

import argparse
import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from renderer.defects import DEFECTS, defect_mask
from renderer.picture import render, trace_layers
from renderer.scene import sample_scene
from tqdm import tqdm

MARK = "SYNTHETIC.txt"  # its presence makes every report say that the pictures are drawn
MARK_TEXT = "Synthetic: these pictures were drawn by tools/render_dataset.py of this repository.\n"
SIZE = 248  # pixels
SUPERSAMPLE = 3
N_TRAIN, N_TEST_GOOD, N_PER_DEFECT = 213, 60, 10


@dataclass(frozen=True)
class Item:
    """One picture of the set; ``split`` is its place in the seed."""

    folder: str
    index: int
    split: int
    kind: str | None  # a defect, or None


def plan() -> Iterator[Item]:
    """List every picture of the set, in a fixed order."""
    for index in range(N_TRAIN):
        yield Item("train/good", index, 0, None)
    for index in range(N_TEST_GOOD):
        yield Item("test/good", index, 1, None)
    for number, kind in enumerate(DEFECTS):
        for index in range(N_PER_DEFECT):
            yield Item(f"test/{kind}", index, 2 + number, kind)


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


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG beside its place, then move it there."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(buffer.getvalue())
    part.replace(path)


def make(item: Item, out: Path, seed: int) -> None:
    """Draw one picture and write it, and its mask, under ``out``."""
    picture, mask = draw(item, seed=seed)
    write_png(out / item.folder / f"{item.index:03d}.png", picture)
    if mask is not None:
        write_png(out / "ground_truth" / item.kind / f"{item.index:03d}_mask.png", mask)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to fill; must be new or empty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; it must be 0 or more")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"{options.out} exists and is not an empty folder; choose another")
    items = list(plan())
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(make, item, options.out, options.seed) for item in items]
        for job in tqdm(jobs, unit="picture"):
            job.result()
    (options.out / MARK).write_text(MARK_TEXT, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
