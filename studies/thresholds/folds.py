"""Folds that make sense: stratified by what images look like, never splitting near-duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from ad.protocol import Folds


def image_embeddings(features: np.ndarray, *, grid: int = 4) -> np.ndarray:
    """Describe each image by the means of its patch features over a ``grid`` x ``grid`` raster.

    Returns
    -------
    array of float32, shape (n_images, grid * grid * dim)
    """
    n, height, width, _ = features.shape
    rows = np.array_split(np.arange(height), min(grid, height))
    columns = np.array_split(np.arange(width), min(grid, width))
    cells = [
        np.array(features[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1]).mean(axis=(1, 2))
        for r in rows
        for c in columns
    ]
    return np.concatenate(cells, axis=1).astype(np.float32).reshape(n, -1)


def stratified_equals_kfold(n_normal: int, folds: int) -> bool:
    """Tell whether StratifiedKFold on one class alone gives the splits of plain KFold."""
    images = np.zeros(n_normal)
    stratified = list(StratifiedKFold(folds).split(images, np.zeros(n_normal, dtype=int)))
    return same_folds(stratified, list(KFold(folds).split(images)))


def cluster_folds(
    embeddings: np.ndarray, folds: int, *, n_clusters: int, seed: int
) -> tuple[Folds, np.ndarray]:
    """Stratify folds by clusters of image embeddings, so that each fold has every kind of normal.

    Returns
    -------
    folds : list of (training, validation) image numbers
    clusters : array of int, shape (n_images,)
        Clusters smaller than ``folds`` are joined into the last one.
    """
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(embeddings)
    sizes = np.bincount(labels, minlength=n_clusters)
    labels = np.where(sizes[labels] < folds, n_clusters, labels)
    if 0 < (labels == n_clusters).sum() < folds:
        labels[labels == n_clusters] = int(sizes.argmax())
    labels = np.unique(labels, return_inverse=True)[1]
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(embeddings, labels)), labels


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicate images.

    Parameters
    ----------
    pairs : list of (int, int, float)
        Image numbers, first below second, and their distance in units of the usual one; nearest
        first.
    groups : array of int, shape (n_images,)
        Images linked by pairs share a number.
    """

    pairs: list[tuple[int, int, float]]
    groups: np.ndarray

    def across(self, n_train: int) -> list[tuple[int, int, float]]:
        """Return the pairs of a training and a test image: leaks."""
        return [pair for pair in self.pairs if pair[0] < n_train <= pair[1]]


def find_duplicates(embeddings: np.ndarray, *, share: float = 0.25) -> Duplicates:
    """Find images that lie much nearer to each other than images of this set usually do.

    Parameters
    ----------
    embeddings : array of float, shape (n_images, dim)
        Of all images, train and test.
    share : float
        A pair is a near-duplicate below this share of the usual distance to the nearest other: its
        0.9 quantile over images, so that many duplicates do not make themselves the usual.
    """
    distances = cdist(embeddings.astype(np.float64), embeddings.astype(np.float64))
    np.fill_diagonal(distances, np.inf)
    usual = float(np.quantile(distances.min(axis=1), 0.9))
    first, second = np.nonzero(np.triu(distances <= share * usual, 1))
    relative = distances[first, second] / max(usual, np.finfo(float).tiny)
    order = np.lexsort((second, first, relative))
    pairs = [(int(first[i]), int(second[i]), float(relative[i])) for i in order]
    n = len(embeddings)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    return Duplicates(pairs, connected_components(graph, directed=False)[1])


def grouped_folds(groups: np.ndarray, folds: int, *, seed: int) -> Folds:
    """Split so that near-duplicates never stand on both sides.

    Where every group is one image these are the folds of a shuffled ``KFold`` of the same seed.
    """
    n_groups = len(np.unique(groups))
    if n_groups < folds:
        raise ValueError(f"n_groups={n_groups} is fewer than folds={folds}; lower the folds")
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(groups)), groups=groups))


def same_folds(first: Folds, second: Folds) -> bool:
    """Tell whether two splits hold out the same images, fold by fold."""
    return len(first) == len(second) and all(
        np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True)
    )


def describe_folds(splits: Mapping[str, Folds], clusters: np.ndarray) -> list[dict[str, object]]:
    """Give the sizes of splits' held-out parts, and how unevenly clusters fall on them."""
    return [
        {
            "folds": name,
            "held-out sizes": ", ".join(str(len(held_out)) for _, held_out in folds),
            "largest share of a cluster in one fold": max(
                float((clusters[held_out] == c).sum() / (clusters == c).sum())
                for _, held_out in folds
                for c in np.unique(clusters)
            ),
        }
        for name, folds in splits.items()
    ]


def plant_duplicates(
    features: np.ndarray, *, share: float, noise: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Add noisy copies of some images behind the set.

    Parameters
    ----------
    features : array of one byte or float32, shape (n_images, h, w, dim)
    share : float
        Of the images that get a copy, drawn at random.
    noise : float
        Standard deviation of the Gaussian noise in units of each value's over the images.

    Returns
    -------
    features : array like it, shape (n_images + n_copies, h, w, dim)
    source : array of int, shape (n_images + n_copies,)
        The image that each is, or is a copy of.
    """
    generator = np.random.default_rng(seed)
    n_copies = max(1, round(share * len(features)))
    chosen = np.sort(generator.choice(len(features), n_copies, replace=False))
    spread = noise * features.std(axis=0)
    copies = features[chosen] + spread * generator.standard_normal(
        (n_copies, *features.shape[1:]), dtype=np.float32
    )
    if features.dtype.kind in "iu":  # whole numbers stay what they are
        least = -127 if features.dtype == np.int8 else 0
        copies = np.rint(copies).clip(least, 127).astype(features.dtype)
    return np.concatenate([features, copies]), np.concatenate([np.arange(len(features)), chosen])
