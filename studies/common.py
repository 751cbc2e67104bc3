"""What the studies share: features of any cells under any settings, and intervals of differences.

A study imports `ad` and this file; nothing imports a study.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ad.backbone import load_backbone
from ad.data import of_split, read_manifest
from ad.extraction import extract_features, make_extractor
from ad.files import load_array, write_json
from ad.images import read_rgb
from ad.params import BackboneSettings, Image, Patch, Runtime

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "artifacts" / "studies"


FEATURE_CODE = ("backbone", "extraction", "features", "images", "tiles", "weights")


def feature_code() -> str:
    """Hash the modules that features depend on."""
    files = [ROOT / "ad" / f"{name}.py" for name in FEATURE_CODE]
    files += sorted((ROOT / "ad" / "exact").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def training_normals() -> list[Path]:
    """Return the default set's normal training images, which scales are measured on."""
    records = read_manifest(ROOT / "artifacts" / "manifest.csv")
    return [ROOT / "data" / record.path for record in of_split(records, "train")]


def cell_features(
    paths: Sequence[Path],
    *,
    image: Image = Image(),
    backbone: BackboneSettings = BackboneSettings(),
    patch: Patch = Patch(),
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    normals: Sequence[Path] | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Extract features of images, once: a second call with the same arguments reads a file.

    Parameters
    ----------
    paths : sequence of path
    change : callable, optional
        Changes an image's pixels, uint8 (h, w, 3), after the resizing: augmentation, normalisation.
        Its ``__name__`` names it in the cache.
    normals : sequence of path, optional
        Images that the scales of whole numbers are measured on, unchanged; by default
        `training_normals`.

    Returns
    -------
    features : array, shape (n_images, h, w, dim)
        Memory-mapped.
    unit : float
        What a difference of 1 stands for.
    """
    normals = list(training_normals() if normals is None else normals)
    key = [
        [str(path) for path in (*paths, *normals)],
        [each.model_dump() for each in (image, backbone, patch)],
        change.__name__ if change else None,
        [seed, feature_code()],
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    output, about = CACHE / f"{name}.npy", CACHE / f"{name}.json"
    if not (output.is_file() and about.is_file()):
        network = load_backbone(backbone, seed=seed, root=ROOT)
        extractor = make_extractor(network, image, patch, normals, arithmetic=backbone.arithmetic)
        pictures = list(paths)
        if change is not None:
            pictures = [change(extractor.rule.pixels(read_rgb(path))) for path in paths]
        extract_features(extractor, pictures, output, Runtime(), backbone.batch_size)
        write_json(about, {"unit": extractor.unit})
    return load_array(output), json.loads(about.read_text(encoding="utf-8"))["unit"]


def interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of bootstrap (or posterior) draws."""
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_draws(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int,
    repeats: int = 1000,
) -> np.ndarray:
    """Draw images with replacement, class by class and seed by seed; return second minus first.

    Parameters
    ----------
    statistic : callable
        Of labels and scores, as `ad.evaluation.image_auroc`.
    labels : array, shape (n_images,)
    first, second : arrays, shape (n_seeds, n_images)
        Scores of the same images under two settings; a drawn seed is drawn for both, so that the
        coreset's own noise is in the interval.
    """
    rng, labels = np.random.default_rng(seed), np.asarray(labels, dtype=bool)
    groups = [np.flatnonzero(labels == value) for value in (False, True)]
    found = np.empty(repeats)
    for repeat in range(repeats):
        rows = np.concatenate([own[rng.integers(len(own), size=len(own))] for own in groups])
        seeds = rng.integers(len(first), size=len(first))
        pairs = [(first[s][rows], second[s][rows]) for s in seeds]
        gains = [statistic(labels[rows], b) - statistic(labels[rows], a) for a, b in pairs]
        found[repeat] = np.mean(gains)
    return found
