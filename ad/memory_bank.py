"""Score patches by their distance to a bank of normal patches (Roth et al., 2022, section 3.3)."""

from dataclasses import dataclass

import faiss
import numpy as np
import torch
from torch import Tensor

from ad.parallel import chunk_map
from ad.progress import progress_bar

ROWS = 512  # query patches a thread measures at a time
GROUPS = 16  # bank columns share a minimum before the exact top-k looks at single ones
SPARE = 4  # neighbours beyond k that are measured again where float32 cancels
# Where a squared distance is below this share of |q|^2 + |b|^2, |q|^2 - 2 q.b + |b|^2 has lost
# more than 1e-5 of it in float32, and the difference is taken directly.
CANCELLED = 0.03


@dataclass(frozen=True)
class Neighbors:
    """Nearest bank patches of each query patch, nearest first.

    Parameters
    ----------
    squared_distances : array of float32, shape (n_queries, k)
        Squared Euclidean distances.
    indices : array of int64, shape (n_queries, k)
        Rows of the bank.
    """

    squared_distances: np.ndarray
    indices: np.ndarray


def _smallest_columns(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k smallest of each row (n, m) and their columns, exactly.

    A value among the k smallest lies in one of the k strided groups with the smallest minima, so
    only those groups are searched; the minima cost one vectorised pass.
    """
    n, m = values.shape
    width = m // GROUPS
    if width <= 4 * k:
        return values.topk(k, dim=1, largest=False, sorted=True)
    body = values[:, : width * GROUPS].view(n, GROUPS, width)
    minima = body.amin(dim=1)  # (n, width)
    best = minima.topk(k, dim=1, largest=False, sorted=False).indices  # (n, k)
    columns = (best[:, :, None] + width * torch.arange(GROUPS)).flatten(1)  # (n, k * GROUPS)
    tail = torch.arange(width * GROUPS, m).expand(n, -1)
    columns = torch.cat([columns, tail], dim=1).sort(dim=1).values  # ties go to the lower row
    found, order = values.gather(1, columns).topk(k, dim=1, largest=False, sorted=True)
    return found, columns.gather(1, order)


def exact_neighbors(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Neighbors:
    """Find the k nearest bank patches of every query, by blocked matrix products.

    The distance matrix is never held: a thread holds one block of at most 512 rows of it.  Where
    float32 cancels (queries near to bank patches), distances are taken from the differences.

    Parameters
    ----------
    queries : array of float32, shape (n_queries, dim)
        May be memory-mapped.
    bank : array of float32, shape (n_bank, dim)
    k : int
        Number of neighbours, 1 to n_bank.
    threads : int, optional
        Number of threads; by default PyTorch's current number.  The result does not depend on it.
    device : {"cpu", "cuda"}
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        When k exceeds the bank or the dimensions differ.
    """
    _check(queries, bank, k)
    # Around the bank's mean the norms are smaller, and less cancels.
    mean = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
    points = np.asarray(bank, dtype=np.float32) - mean
    norms = np.square(points).sum(axis=1)
    # |b|^2 - 2 q.b is one product: [q, 1] times [-2 b, |b|^2].
    factors = np.hstack([-2 * points, norms[:, None]]).T
    on_gpu = torch.from_numpy(np.ascontiguousarray(factors)).to(device) if device != "cpu" else None
    candidates = min(k + SPARE, len(bank))
    squared = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)

    def one_chunk(start: int) -> int:
        rows = slice(start, min(start + ROWS, len(queries)))
        block = np.ones((rows.stop - start, len(factors)), dtype=np.float32)
        np.subtract(queries[rows], mean, out=block[:, :-1])
        block_norms = np.square(block[:, :-1]).sum(axis=1)
        # The query's own norm shifts a whole row, so it is added to the few found only.
        if on_gpu is None:
            # NumPy's product: its BLAS is fast on every vendor's processors, PyTorch's on Intel's.
            found, columns = _smallest_columns(torch.from_numpy(block @ factors), candidates)
        else:
            partial = torch.from_numpy(block).to(device) @ on_gpu
            found, columns = partial.topk(candidates, dim=1, largest=False)
        found, columns = found.cpu().numpy(), columns.cpu().numpy()
        found = (found + block_norms[:, None]).clip(min=0)
        scale = block_norms[:, None] + norms[columns]
        cancelled = (found < CANCELLED * scale)[:, :k].any(axis=1).nonzero()[0]
        if len(cancelled):
            near = columns[cancelled]
            differences = block[cancelled, None, :-1] - points[near]  # (rows, candidates, dim)
            found[cancelled] = np.square(differences, out=differences).sum(axis=2)
            order = found.argsort(axis=1, kind="stable")
            found = np.take_along_axis(found, order, axis=1)
            columns = np.take_along_axis(columns, order, axis=1)
        squared[rows] = found[:, :k]
        indices[rows] = columns[:, :k]
        return len(block)

    with (
        chunk_map(threads if device == "cpu" else 1) as run,
        progress_bar(len(queries), "score", "patch", show=progress) as bar,
    ):
        for count in run(one_chunk, range(0, len(queries), ROWS)):
            bar.update(count)
    return Neighbors(squared, indices)


def _check(queries: np.ndarray, bank: np.ndarray, k: int) -> None:
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f"queries {queries.shape} and bank {bank.shape} must be (n, dim) of the same dim"
        )
    if not 1 <= k <= len(bank):
        raise ValueError(
            f"score.num_neighbors={k} must be 1 to the bank's n_patches={len(bank)}; "
            f"lower it or raise coreset.ratio"
        )


def faiss_neighbors(
    queries: np.ndarray, bank: np.ndarray, k: int, *, index: str, threads: int | None = None
) -> Neighbors:
    """Find neighbours with a FAISS index: ``faiss_flat`` (exact) or ``faiss_hnsw`` (approximate).

    FAISS returns squared distances.  An HNSW graph is for banks that outgrow exact search; its
    recall must be measured (see `recall`).
    """
    _check(queries, bank, k)
    points = np.ascontiguousarray(bank, dtype=np.float32)
    before = faiss.omp_get_max_threads()
    try:
        if index == "faiss_flat":
            store = faiss.IndexFlatL2(points.shape[1])
        elif index == "faiss_hnsw":
            store = faiss.IndexHNSWFlat(points.shape[1], 32)
            store.hnsw.efConstruction = 80
            store.hnsw.efSearch = max(128, 4 * k)
            faiss.omp_set_num_threads(1)  # the graph depends on the order of insertion
        else:
            raise ValueError(f"score.index={index!r} must be exact, faiss_flat or faiss_hnsw")
        store.add(points)
        faiss.omp_set_num_threads(threads or torch.get_num_threads())
        squared, indices = store.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    finally:
        faiss.omp_set_num_threads(before)
    return Neighbors(np.maximum(squared, 0), indices.astype(np.int64))


def find_neighbors(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    index: str = "exact",
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Neighbors:
    """Find neighbours with the index asked for: ``exact``, ``faiss_flat`` or ``faiss_hnsw``."""
    if index == "exact":
        return exact_neighbors(queries, bank, k, threads=threads, device=device, progress=progress)
    return faiss_neighbors(queries, bank, k, index=index, threads=threads)


def recall(found: Neighbors, exact: Neighbors) -> float:
    """Return the share of the exact neighbours that ``found`` has, over all queries."""
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found.indices, exact.indices, strict=True)]
    return float(np.sum(hits) / exact.indices.size)


def patch_scores(neighbors: Neighbors, *, squared: bool) -> np.ndarray:
    """Average each patch's distances to its k nearest bank patches.

    The authors' implementation averages squared distances (FAISS returns squares); the paper
    writes plain ones.  ``squared`` chooses.

    Returns
    -------
    array of float64, shape (n_queries,)
    """
    distances = neighbors.squared_distances.astype(np.float64)
    return (distances if squared else np.sqrt(distances)).mean(axis=1)


def reweighting(query: np.ndarray, nearest: int, bank: np.ndarray, *, num_neighbors: int) -> float:
    """Weigh an image's score by how unusual its nearest bank patch is (Roth et al., eq. 7).

    w = 1 - exp(||q - m*||) / sum over m in N_b(m*) of exp(||q - m||), where q is the image's most
    anomalous patch, m* its nearest bank patch and N_b(m*) the b bank patches nearest to m*, itself
    included.

    Parameters
    ----------
    query : array of float, shape (dim,)
    nearest : int
        Row of m* in the bank.
    bank : array of float, shape (n_bank, dim)
    num_neighbors : int
        b, at most n_bank.
    """
    bank64 = np.asarray(bank, dtype=np.float64)
    from_nearest = np.square(bank64 - bank64[nearest]).sum(axis=1)
    from_nearest[nearest] = -1.0  # m* itself comes first, also among duplicates
    support = np.argsort(from_nearest, kind="stable")[:num_neighbors]
    distances = np.sqrt(np.square(np.asarray(query, np.float64) - bank64[support]).sum(axis=1))
    # Shifted by the largest exponent: exp of a raw distance would overflow.
    exponentials = np.exp(distances - distances.max())
    return float(1.0 - exponentials[0] / exponentials.sum())


@dataclass(frozen=True)
class ImageScores:
    """Scores of images against one bank.

    Parameters
    ----------
    patches : array of float64, shape (n_images, h, w)
        Patch scores: the anomaly maps on the patch grid.
    images : array of float64, shape (n_images,)
        s* = the largest patch score (eq. 6), re-weighted by eq. 7 where asked for.
    """

    patches: np.ndarray
    images: np.ndarray


def score_images(
    features: np.ndarray,
    bank: np.ndarray,
    *,
    num_neighbors: int,
    squared: bool,
    reweight: bool,
    index: str = "exact",
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> ImageScores:
    """Score every patch of every image, and every image.

    Parameters
    ----------
    features : array of float32, shape (n_images, h, w, dim)
        May be memory-mapped.
    bank : array of float32, shape (n_bank, dim)
    num_neighbors : int
        Neighbours that a patch's score averages over, and b of the re-weighting.
    squared : bool
        Average squared distances (as the authors' code) or plain ones.
    reweight : bool
        Apply eq. 7 to the image scores.
    index, threads, device, progress
        See `find_neighbors`.
    """
    n_images, height, width, dim = features.shape
    neighbors = find_neighbors(
        features.reshape(-1, dim),
        bank,
        num_neighbors,
        index=index,
        threads=threads,
        device=device,
        progress=progress,
    )
    flat = patch_scores(neighbors, squared=squared).reshape(n_images, height * width)
    images = flat.max(axis=1)
    if reweight:
        for row, patch in enumerate(flat.argmax(axis=1)):
            query = features.reshape(n_images, height * width, dim)[row, patch]
            nearest = int(neighbors.indices[row * height * width + patch, 0])
            images[row] *= reweighting(query, nearest, bank, num_neighbors=num_neighbors)
    return ImageScores(flat.reshape(n_images, height, width), images)
