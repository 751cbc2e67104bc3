"""Reductions of patch features side by side: each is a matrix, and PatchCore works behind it."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ad.cells import cell_table
from ad.evaluation import image_auroc
from ad.parallel import chunk_map
from ad.params import BackboneSettings, Coreset, Patch, Score
from ad.projection import random_projection
from ad.protocol import BankImages, draw_banks
from ad.scores import score_images
from studies.common import cell_features, interval, over_seeds, score_draws, split_of
from studies.reconpatch.learner import Training, pca_matrix, train

METHODS = ("pooling", "random projection", "PCA", "whitened PCA", "ReConPatch")
SECOND = (1614, 2143)  # polycrystalline cells, the longest run of them

Split = tuple[list[Path], list[Path], np.ndarray]  # training normals, test images, labels


@dataclass(frozen=True)
class Features:
    """A set's features, float32 around the mean of the normals', and the test images' labels."""

    normals: np.ndarray  # (n_normals, h, w, dim)
    queries: np.ndarray  # (n_queries, h, w, dim)
    labels: np.ndarray  # (n_queries,)

    @property
    def patches(self) -> np.ndarray:
        """Return the normals' patches, shape (n_normals, h * w, dim)."""
        return self.normals.reshape(len(self.normals), -1, self.normals.shape[-1])


def second_split() -> Split:
    """Split polycrystalline cells: all certain ones that are not training normals are tested."""
    normals, _, _ = split_of(*SECOND)
    table = cell_table()
    table = table[table["cell"].between(*SECOND) & table["grade"].isin([0, 1])]
    table = table[~table["path"].isin(map(str, normals))]
    return normals, [Path(path) for path in table["path"]], table["grade"].to_numpy(dtype=int)


def paste_piece(pixels: np.ndarray) -> np.ndarray:
    """Paste a piece of the picture elsewhere, turned by a right angle; the pixels say where."""
    rng = np.random.default_rng(zlib.crc32(pixels.tobytes()))
    height, width = pixels.shape[:2]
    side = int(rng.integers(height // 20, height // 8))
    top, left, low, right = (int(rng.integers(end - side)) for end in (height, width) * 2)
    changed = pixels.copy()
    changed[low : low + side, right : right + side] = np.rot90(
        pixels[top : top + side, left : left + side]
    )
    return changed


def load_features(split: Split, backbone: BackboneSettings, patch: Patch) -> Features:
    """Extract a split's features; the scales of whole numbers are those of its own normals."""
    normals, queries, labels = split
    how = {"backbone": backbone, "patch": patch, "normals": normals}
    found, unit = cell_features(normals + queries, **how)
    return _centred(found, unit, len(normals), labels)


def load_pasted(folder: Path, backbone: BackboneSettings, patch: Patch) -> Features:
    """Extract normal pictures without labels: each third one is a query, as it is and pasted."""
    paths = sorted(folder.rglob("*.png"))
    queries = paths[::3]
    normals = [path for path in paths if path not in queries]
    how = {"backbone": backbone, "patch": patch, "normals": normals}
    found, unit = cell_features(normals + queries, **how)
    pasted, _ = cell_features(queries, **how, change=paste_piece)
    labels = np.arange(2 * len(queries)) >= len(queries)
    return _centred(np.concatenate([found, pasted]), unit, len(normals), labels)


def _centred(found: np.ndarray, unit: float, n_normals: int, labels: np.ndarray) -> Features:
    features = found.astype(np.float32) * np.float32(unit)
    features -= features[:n_normals].mean(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    return Features(features[:n_normals], features[n_normals:], labels)


def reduction(
    method: str, features: Features, n_components: int, training: Training, *, seed: int
) -> np.ndarray:
    """Fit one of `METHODS` on the normals; return its matrix, shape (dim, n_components).

    ``pooling`` is the paper's PatchCore of fewer dimensions: adaptive average pooling.  It mixes
    neighbouring channels, whose order means nothing.
    """
    dim = features.normals.shape[-1]
    if not 1 <= n_components <= dim:
        raise ValueError(f"reconpatch.dimensions: {n_components} must be 1 to the features' {dim}")
    if method == "pooling":
        return F.adaptive_avg_pool1d(torch.eye(dim)[None], n_components)[0].numpy()
    if method == "random projection":
        return random_projection(dim, n_components, seed=seed)
    if method == "ReConPatch":
        return train(features.patches, n_components, training, seed=seed)[0]
    whitened = {"PCA": False, "whitened PCA": True}[method]
    return pca_matrix(features.normals.reshape(-1, dim), n_components, whitened=whitened)


def image_scores(matrix: np.ndarray | None, features: Features, *, seed: int) -> np.ndarray:
    """Score the test images as PatchCore does, behind a matrix (None: the features themselves).

    One bank from all normals; ``seed`` draws its first patch.
    """
    normals, queries = features.normals, features.queries
    if matrix is not None:
        normals, queries = normals @ matrix, queries @ matrix
    everyone = np.arange(len(normals))
    images, alone = BankImages([normals], everyone), [(everyone, everyone[:0])]
    (bank,) = draw_banks(images, alone, Coreset(), seed=seed)
    return score_images(queries, bank, Score()).images


def diagnose(
    features: Features, n_components: int, variants: Mapping[str, Training], *, seeds: int
) -> pd.DataFrame:
    """Train once a variant and seed; return a row each of how it went and its image AUROC.

    Columns are those of `learner.train`'s course, ``_start`` and ``_end`` of the training, beside
    ``variant``, ``seed`` and ``auroc``.
    """

    def learnt(pair: tuple[str, int]) -> tuple[np.ndarray, pd.DataFrame]:
        return train(features.patches, n_components, variants[pair[0]], seed=pair[1])

    pairs = [(name, seed) for name in variants for seed in range(seeds)]
    rows = []
    with chunk_map() as run:
        found = list(run(learnt, pairs))
    for (name, seed), (matrix, course) in zip(pairs, found, strict=True):
        first, last = course.drop(columns="step").iloc[[0, -1]].to_dict("records")
        row = {f"{key}_start": value for key, value in first.items()}
        row |= {f"{key}_end": value for key, value in last.items()}
        auroc = image_auroc(features.labels, image_scores(matrix, features, seed=seed))
        rows.append({"variant": name, "seed": seed, "auroc": auroc} | row)
    return pd.DataFrame(rows)


def compare(
    features: Features, dimensions: Sequence[int], training: Training, *, seeds: int
) -> pd.DataFrame:
    """Score all methods at all dimensions; return image AUROC with 95 % intervals.

    Columns: ``dimensions``, ``method``, ``auroc`` (mean over seeds), ``low``, ``high``; ``gain`` is
    ReConPatch of these dimensions minus the method, ``gain_low`` and ``gain_high`` its interval,
    over images and seeds drawn again for both.
    """
    labels = features.labels

    def scores(method: str, n: int) -> np.ndarray:
        def matrix(seed: int) -> np.ndarray:
            return reduction(method, features, n, training, seed=seed)

        with chunk_map() as run:
            found = list(run(matrix, range(seeds)))
        return np.stack([image_scores(m, features, seed=s) for s, m in enumerate(found)])

    full = np.stack([image_scores(None, features, seed=seed) for seed in range(seeds)])
    rows = []
    for n in dimensions:
        found = {"all dimensions": full} | {method: scores(method, n) for method in METHODS}
        draws = {name: score_draws(image_auroc, labels, own, seed=0) for name, own in found.items()}
        for name, own in found.items():
            auroc = over_seeds(image_auroc, labels, own)
            gain = over_seeds(image_auroc, labels, found["ReConPatch"]) - auroc
            row = [n, name, auroc, *interval(draws[name]), gain]
            rows.append([*row, *interval(draws["ReConPatch"] - draws[name])])  # of the same draws
    names = ["dimensions", "method", "auroc", "low", "high", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=names)
