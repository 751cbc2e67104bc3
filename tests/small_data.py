"""Small data sets in both layouts, drawn in a moment: stripes with noise, defects in plain view."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from ad.backbone import Backbone, load_backbone
from ad.extraction import FeatureExtractor, make_extractor
from ad.params import BackboneSettings, Image, Patch

DEFECTS = ("blob", "scratch")
# Settings of a run that takes seconds; what they do not name is as in params.yaml.
SMALL = {
    "image": {"input_size": 64},
    "backbone": {"name": "resnet10t", "weights": "random", "layers": ["layer2", "layer3"]},
    "coreset": {"ratio": 0.1},
    "cv": {"folds": 3},
}


def draw_normal(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw slanted grey-brown stripes with a random phase and noise.

    Returns
    -------
    array of uint8, shape (size, size, 3)
    """
    y, x = np.mgrid[:size, :size]
    wave = np.sin((x + 0.3 * y) * 2 * np.pi / 16 + generator.uniform(0, 2 * np.pi))
    grey = 110 + 35 * wave + generator.normal(0, 4, (size, size))
    return np.clip(grey[..., None] + np.array([8, 0, -12]), 0, 255).astype(np.uint8)


def draw_anomalous(
    generator: np.random.Generator, size: int, defect: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a normal picture, and over it a bright disc (``blob``) or dark line (``scratch``).

    Returns
    -------
    picture : array of uint8, shape (size, size, 3)
    mask : array of bool, shape (size, size)
    """
    picture = draw_normal(generator, size)
    y, x = np.mgrid[:size, :size]
    row, column = generator.uniform(0.3 * size, 0.7 * size, 2)
    if defect == "blob":
        mask = np.hypot(y - row, x - column) < size / 7
        picture[mask] = (250, 240, 60)
    else:
        mask = (abs((y - row) - (x - column)) < size / 20) & (abs(y - row) < size / 4)
        picture[mask] = (5, 5, 40)
    return picture, mask


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, and its folder if need be; booleans become 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.uint8(255) * pixels if pixels.dtype == bool else pixels
    Picture.fromarray(values).save(path, compress_level=1)


def save_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file by the standard library alone."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_mvtec(
    root: str | Path,
    *,
    n_train: int = 12,
    n_normal: int = 4,
    n_anomalous: int = 4,
    size: int = 64,
    seed: int = 0,
    names: Sequence[str] = DEFECTS,
) -> None:
    """Write a data set in MVTec AD layout with masks; defects take turns, ``blob`` first.

    ``names`` are the defects' folders.
    """
    root, generator = Path(root), np.random.default_rng(seed)
    for folder, count in (("train/good", n_train), ("test/good", n_normal)):
        for number in range(count):
            save_png(root / folder / f"{number:03d}.png", draw_normal(generator, size))
    for number in range(n_anomalous):
        defect = DEFECTS[number % len(DEFECTS)]
        picture, mask = draw_anomalous(generator, size, defect)
        name = names[number % len(names)]
        save_png(root / "test" / name / f"{number:03d}.png", picture)
        save_png(root / "ground_truth" / name / f"{number:03d}_mask.png", mask)


def write_competition(
    root: str | Path,
    *,
    n_train: int = 12,
    n_test: int = 8,
    with_labels: bool = False,
    size: int = 64,
    seed: int = 0,
) -> dict[str, int]:
    """Write a data set in competition layout; every second test image is anomalous.

    ``sample_submission.csv`` runs backwards, so that a join by position is found out.

    Returns
    -------
    dict
        The label of each test id, also where ``test_labels.csv`` is not written.
    """
    root, generator = Path(root), np.random.default_rng(seed)
    train = [f"TRAIN_{number:03d}" for number in range(n_train)]
    for name in train:
        save_png(root / "train" / f"{name}.png", draw_normal(generator, size))
    defects = {}
    for number in range(n_test):
        name = f"TEST_{number:03d}"
        defects[name] = DEFECTS[number // 2 % len(DEFECTS)] if number % 2 else "good"
        picture = (
            draw_anomalous(generator, size, defects[name])[0]
            if number % 2
            else draw_normal(generator, size)
        )
        save_png(root / "test" / f"{name}.png", picture)
    labels = {name: int(defect != "good") for name, defect in defects.items()}
    save_csv(
        root / "train.csv",
        ["id", "img_path", "label"],
        [(name, f"./train/{name}.png", 0) for name in train],
    )
    save_csv(
        root / "test.csv", ["id", "img_path"], [(name, f"./test/{name}.png") for name in labels]
    )
    save_csv(
        root / "sample_submission.csv", ["id", "label"], [(name, 0) for name in reversed(labels)]
    )
    if with_labels:
        save_csv(
            root / "test_labels.csv",
            ["id", "label", "defect"],
            [(name, labels[name], defects[name]) for name in labels],
        )
    return labels


def digests(folder: Path) -> dict[str, str]:
    """Hash every file that a run leaves, but what it says of its machine."""
    files = [p for name in ("artifacts", "metrics") for p in sorted((folder / name).rglob("*"))]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.is_file() and p.name != "environment.json" and "ipython" not in p.parts
    }


def network(
    name: str = "resnet10t",
    *,
    weights: object = "random",
    layers: Sequence[str | int] = ("layer2", "layer3"),
    seed: int = 0,
) -> Backbone:
    """Load a network; by default a small one with random weights."""
    settings = BackboneSettings(name=name, weights=str(weights), layers=list(layers))
    return load_backbone(settings, seed=seed)


def extractor(
    pictures: Sequence[Path | np.ndarray],
    patch: Patch,
    *,
    size: int,
    arithmetic: str = "integer",
    backbone: Backbone | None = None,
) -> FeatureExtractor:
    """Make what brings pictures to features, on them as normals; by default of `network`'s."""
    own = backbone or network()
    return make_extractor(own, Image(input_size=size), patch, pictures, arithmetic=arithmetic)
