"""Image scores against a large bank: exact over parts of it, or by inverted files of FAISS."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np

from ad.determinism import sha256_file
from ad.files import load_array
from ad.indices import recall
from ad.memory_bank import score_images
from ad.neighbors import Neighbors, check_search, exact_neighbors
from ad.params import Score
from ad.progress import progress_bar
from cluster.tasks import Map
from integer.products import is_whole
from studies.scale.shards import Shards
from validation.sections import validate

PART = 262_144  # bank patches in a part: each query's distances to one are held at a time
IMAGES = 16  # scored at a time


def merge(found: Sequence[Neighbors], k: int) -> Neighbors:
    """Keep the k nearest of several searches; of patches as far, the lowest rows."""
    squared = np.concatenate([each.squared_distances for each in found], axis=1)
    indices = np.concatenate([each.indices for each in found], axis=1)
    order = np.lexsort((indices, squared), axis=1)[:, :k]
    return Neighbors(np.take_along_axis(squared, order, 1), np.take_along_axis(indices, order, 1))


def neighbors_in_parts(
    queries: np.ndarray, bank: np.ndarray, k: int, *, part: int = PART
) -> Neighbors:
    """Search a bank that may be memory-mapped, a part at a time; as `ad.neighbors` does in one."""
    check_search(queries, bank, k)
    found = []
    for start in range(0, len(bank), part):
        some = bank[start : start + part]
        own = exact_neighbors(queries, some, min(k, len(some)))
        found = [merge([*found, Neighbors(own.squared_distances, own.indices + start)], k)]
    return found[0]


def train_lists(bank: np.ndarray, lists: int, *, rounds: int = 10) -> np.ndarray:
    """Return the centroids of an inverted file by k-means, of the bank's dtype, (lists, dim).

    It starts from rows that are evenly spread.  From whole numbers every step is exact, and a mean
    is rounded once: FAISS's own k-means depends on the machine's rounding.
    """
    centroids = np.array(bank[np.linspace(0, len(bank) - 1, lists).astype(np.int64)])
    whole = is_whole(centroids, "centroids")
    for _ in range(rounds):
        owner = exact_neighbors(bank, centroids, 1).indices[:, 0]
        sums = np.zeros(centroids.shape, np.int64 if whole else np.float64)
        np.add.at(sums, owner, bank)
        counts = np.bincount(owner, minlength=lists)[:, None]
        means = sums / np.maximum(counts, 1)
        centroids = np.where(counts > 0, np.rint(means) if whole else means, centroids)
        centroids = centroids.astype(bank.dtype)
    return centroids


def inverted_file(bank: np.ndarray, centroids: np.ndarray) -> faiss.IndexIVFFlat:
    """Sort a bank into the lists of its centroids."""
    coarse = faiss.IndexFlatL2(bank.shape[1])
    coarse.add(centroids.astype(np.float32))
    index = faiss.IndexIVFFlat(coarse, bank.shape[1], len(centroids))
    index.is_trained = True
    index.add(np.ascontiguousarray(bank, dtype=np.float32))
    return index


def inverted_neighbors(
    queries: np.ndarray, index: faiss.IndexIVFFlat, k: int, *, probes: int
) -> Neighbors:
    """Search the nearest lists only; a query that finds fewer than k keeps what it has.

    Raises
    ------
    ValueError
        When a query's lists hold fewer than k patches.
    """
    index.nprobe = min(probes, index.nlist)
    squared, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    if (rows < 0).any():
        raise ValueError(
            f"probes={probes} lists of {index.nlist} hold fewer than {k} patches for some query; "
            f"raise probes"
        )
    return Neighbors(squared.astype(np.float64), rows.astype(np.int64))


def sampled_recall(
    queries: np.ndarray, bank: np.ndarray, centroids: np.ndarray, k: int, *, probes: int
) -> float:
    """Return the share of the exact neighbours of some queries that the inverted file finds."""
    found = inverted_neighbors(queries, inverted_file(bank, centroids), k, probes=probes)
    return recall(found, neighbors_in_parts(queries, bank, k))


@dataclass(frozen=True)
class Bank:
    """A bank on disk, and how it is searched.

    Parameters
    ----------
    path, sha256 : str
        ``.npy`` of shape (n_bank, dim).
    centroids, centroids_sha256 : str, optional
        ``.npy`` of an inverted file's centroids; by default the search is exact.
    probes : int
        Lists that a query looks at.
    """

    path: str
    sha256: str
    centroids: str | None = None
    centroids_sha256: str | None = None
    probes: int = 1

    def read(self) -> np.ndarray:
        """Map the bank after its hash was compared."""
        return _meant(self.path, self.sha256)

    def index(self) -> faiss.IndexIVFFlat | None:
        """Sort the bank into its lists, if it has any."""
        if self.centroids is None:
            return None
        return inverted_file(self.read(), np.array(_meant(self.centroids, self.centroids_sha256)))


def _meant(path: str, sha256: str) -> np.ndarray:
    if not Path(path).is_file() or sha256_file(path) != sha256:
        raise ValueError(f"{path} is not the file that is meant; give every worker the same")
    return load_array(path)


@lru_cache(maxsize=1)
def _opened(bank: Bank) -> tuple[np.ndarray, faiss.IndexIVFFlat | None]:
    return bank.read(), bank.index()


@dataclass(frozen=True)
class ScoreTask:
    """One shard of images to be scored; ``score`` are the pipeline's settings as JSON values."""

    shards: Shards
    bank: Bank
    score: dict

    def __str__(self) -> str:
        """Name the task in messages."""
        return f"{self.shards.folder}, {self.shards.names[0]}"


def score_shard(task: ScoreTask) -> np.ndarray:
    """Score a shard's images: float64, shape (n_images,)."""
    score, (bank, index) = validate(task.score, Score), _opened(task.bank)
    features, found = task.shards.images(0), []
    for start in range(0, len(features), IMAGES):
        some = np.asarray(features[start : start + IMAGES])
        queries, k = some.reshape(-1, some.shape[-1]), score.num_neighbors
        if index is None:
            near = neighbors_in_parts(queries, bank, k)
        else:
            near = inverted_neighbors(queries, index, k, probes=task.bank.probes)
        scores = score_images(some, bank, score, unit=task.shards.unit, neighbors=near)
        found.append(scores.images)
    return np.concatenate(found)


def score_shards(run: Map, shards: Shards, bank: Bank, score: Score) -> np.ndarray:
    """Score all images of some shards, in their order."""
    tasks = [ScoreTask(part, bank, score.model_dump()) for part in shards.parts(len(shards))]
    with progress_bar(len(tasks), "score", "shard") as bar:
        found = []
        for scores in run(score_shard, tasks):
            found.append(scores)
            bar.update(1)
    return np.concatenate(found)
