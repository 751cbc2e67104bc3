"""What the studies share: features of any cells under any settings, and intervals of differences.

A study imports `ad` and this file; nothing imports a study.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Picture

from ad.backbone import load_backbone
from ad.cells import FIRST, LAST, N_DEFECTIVE, N_NORMAL, N_TRAIN, cell_table, default_split
from ad.data import of_split, read_manifest
from ad.extraction import FeatureExtractor, extract_features, make_extractor
from ad.files import load_array, write_json
from ad.params import BackboneSettings, Image, Patch, Runtime

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "artifacts" / "studies"
FEATURE_CODE = ("backbone", "extraction", "features", "images", "tiles", "weights")
Statistic = Callable[[np.ndarray, np.ndarray], float]  # of labels and scores, or flags


def feature_code() -> str:
    """Hash the modules that features depend on."""
    files = [ROOT / "ad" / f"{name}.py" for name in FEATURE_CODE]
    files += sorted((ROOT / "ad" / "exact").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def training_normals() -> list[Path]:
    """Return the default set's normal training images, which scales are measured on."""
    records = read_manifest(ROOT / "artifacts" / "manifest.csv")
    return [ROOT / "data" / record.path for record in of_split(records, "train")]


def stretches(
    paths: Sequence[Path], first: int = FIRST, last: int = LAST, *, n: int = 5
) -> np.ndarray:
    """Return the stretch of neighbouring files that each cell of a run lies in, from 0 to n - 1.

    Files lie module by module and no module is named, so that stretches stand in for modules.
    """
    cells = np.array([int(path.stem.removeprefix("cell")) - 1 for path in paths])
    return (cells - first) * n // (last + 1 - first)


def graded_cells(*runs: int) -> pd.DataFrame:
    """Return the certainly normal and certainly defective cells of runs, in file order.

    Of the default run only those of ``data``: no study sees the cells of ``data_locked``.

    To the columns of `ad.cells.cell_table` come ``label``, 0 or 1, and ``place``: where in its run
    a cell lies, from 0 to below 1.
    """
    table = cell_table()
    cells, defective = table.groupby("run")["cell"], table["grade"] == 1
    table["place"] = (table["cell"] - cells.transform("min")) / cells.transform("size")
    table["label"] = defective.astype(int)
    seen = {path for own in default_split()["data"].values() for path in own}
    default = table["cell"].between(FIRST, LAST)
    kept = table["run"].isin(runs) & table["grade"].isin([0, 1])
    return table[kept & (~default | table["path"].isin(seen))].reset_index(drop=True)


def split_of(first: int = FIRST, last: int = LAST) -> tuple[list[Path], list[Path], np.ndarray]:
    """Split a run of cells as the default's: by a hash of the pixels, which nobody chose.

    Of the default run these are the images of ``data``, in the manifest's order, from the wheel:
    a study is about cells whatever ``data`` holds.

    Returns
    -------
    train : list of path
        As many normal cells as the default has, or what the test leaves of them.
    test : list of path
        Defective cells, then normal ones, as many as the default has.
    labels : array of int, shape (n_test,)
    """
    table = cell_table()
    table = table[table["cell"].between(first, last)]

    def by_hash(grade: int) -> list[Path]:
        paths = [Path(path) for path in table["path"][table["grade"] == grade]]
        pixels = [np.asarray(Picture.open(path)).tobytes() for path in paths]
        hashes = [hashlib.sha256(each).hexdigest() for each in pixels]
        return [path for _, path in sorted(zip(hashes, paths, strict=True))]

    normal, defective = by_hash(0), sorted(by_hash(1)[:N_DEFECTIVE])
    n_train = min(N_TRAIN, len(normal) - N_NORMAL)
    test = defective + sorted(normal[n_train : n_train + N_NORMAL])
    return sorted(normal[:n_train]), test, (np.arange(len(test)) < len(defective)).astype(int)


@lru_cache(maxsize=2)
def _extractor(settings: str, normals: tuple[Path, ...], seed: int) -> FeatureExtractor:
    """Make an extractor once: choosing scales takes longer than the features of 100 images."""
    image, backbone, patch = json.loads(settings)
    image, backbone, patch = Image(**image), BackboneSettings(**backbone), Patch(**patch)
    network = load_backbone(backbone, seed=seed, root=ROOT)
    return make_extractor(network, image, patch, normals, arithmetic=backbone.arithmetic)


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
    normals = tuple(training_normals() if normals is None else normals)
    settings = json.dumps([each.model_dump() for each in (image, backbone, patch)])
    key = [
        [str(path) for path in (*paths, *normals)],
        settings,
        change.__name__ if change else None,
        [seed, feature_code()],
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    output, about = CACHE / f"{name}.npy", CACHE / f"{name}.json"
    if not (output.is_file() and about.is_file()):
        extractor = _extractor(settings, normals, seed)
        pictures = list(paths)
        if change is not None:
            pictures = [change(extractor.rule.read(path)) for path in paths]
        extract_features(extractor, pictures, output, Runtime(), backbone.batch_size)
        write_json(about, {"unit": extractor.unit})
    return load_array(output), json.loads(about.read_text(encoding="utf-8"))["unit"]


def interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of bootstrap (or posterior) draws."""
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def in_words(
    found: pd.DataFrame, value: str = "value", low: str = "low", high: str = "high"
) -> list[str]:
    """Write a column of figures with their intervals, as 0.906 (0.842 to 0.958)."""
    return [f"{v:.3f} ({a:.3f} to {b:.3f})" for v, a, b in found[[value, low, high]].to_numpy()]


def by_seed(table: pd.DataFrame, column: str = "score") -> tuple[np.ndarray, np.ndarray]:
    """Bring one setting's tidy rows (seed, image, label, and a column) to arrays.

    Returns
    -------
    labels : array, shape (n_images,)
        In the order of the images' numbers.
    values : array, shape (n_seeds, n_images)
    """
    labels = table.drop_duplicates("image").sort_values("image")["label"].to_numpy()
    return labels, table.pivot(index="seed", columns="image", values=column).to_numpy()


def score_draws(
    statistic: Statistic,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    seed: int,
    repeats: int = 1000,
) -> np.ndarray:
    """Draw images with replacement, class by class, and seeds; return the mean over seeds.

    Parameters
    ----------
    statistic : callable
        As `ad.evaluation.image_auroc`.
    labels : array, shape (n_images,)
    scores : array, shape (n_seeds, n_images)
        Of the same images under several seeds, so that the coreset's own noise is in the interval.
    """
    rng, labels = np.random.default_rng(seed), np.asarray(labels, dtype=bool)
    groups = [np.flatnonzero(labels == value) for value in (False, True)]
    found = np.empty(repeats)
    for repeat in range(repeats):
        rows = np.concatenate([own[rng.integers(len(own), size=len(own))] for own in groups])
        seeds = rng.integers(len(scores), size=len(scores))
        found[repeat] = np.mean([statistic(labels[rows], scores[s][rows]) for s in seeds])
    return found


def over_seeds(statistic: Statistic, labels: np.ndarray, values: np.ndarray) -> float:
    """Return a statistic's mean over seeds; ``values`` has shape (n_seeds, n_images)."""
    return float(np.mean([statistic(labels, each) for each in values]))


def estimate(
    statistic: Statistic, labels: np.ndarray, values: np.ndarray, *, seed: int
) -> tuple[float, float, float]:
    """Return a statistic's mean over seeds and its 95 % interval; see `score_draws`."""
    ends = interval(score_draws(statistic, labels, values, seed=seed))
    return over_seeds(statistic, labels, values), *ends


def gain(
    statistic: Statistic,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = 1000,
) -> tuple[float, float, float]:
    """Return second minus first and its interval; a drawn image or seed is drawn for both."""
    both = (first, second)
    a, b = (score_draws(statistic, labels, each, seed=seed, repeats=repeats) for each in both)
    change = over_seeds(statistic, labels, second) - over_seeds(statistic, labels, first)
    return change, *interval(b - a, level)
