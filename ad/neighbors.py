"""Nearest bank patches: exact search as one product and a selection; FAISS indices beside it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ad.exact.products import Points, as_points, is_whole, shifted_squares
from ad.parallel import chunk_map
from ad.params import Score

ROWS = 1024  # most queries that a thread measures at a time
CELLS = 2**21  # distances that a thread holds at a time: larger blocks cost page faults each time
GROUP = 16  # bank rows that share a minimum before single ones are looked at
NUMBERS = 2**31  # above every number of a bank row


@dataclass(frozen=True)
class Neighbors:
    """Nearest bank patches of each query patch, nearest first.

    Parameters
    ----------
    squared_distances : array of float64, shape (n_queries, k)
        Squared Euclidean distances; whole numbers, exact, where the features are.
    indices : array of int64, shape (n_queries, k)
        Rows of the bank.
    """

    squared_distances: np.ndarray
    indices: np.ndarray


def _in_groups(bank: Points) -> Points:
    """Fill a bank up to whole groups and put member s of group g at s * n_groups + g.

    One vectorised pass then takes the minima of the groups, which are still successive rows.
    """
    fill, farthest = -len(bank) % GROUP, torch.inf if bank.norms.is_floating_point() else 2**31 - 1
    parts = (pad(bank.values, (0, 0, 0, fill)), pad(bank.norms, (0, fill), value=farthest))
    return Points(*(p.unflatten(0, (-1, GROUP)).transpose(0, 1).flatten(0, 1) for p in parts))


def _least(shifted: Tensor, norms: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return each row's k least squared distances and their numbers, the lower number at a tie."""
    whole = not shifted.is_floating_point()
    if whole:  # below 2^32, also where the bank was filled up
        ranks = shifted.long() + norms
    else:  # the bits of floats from 0 on, read as whole numbers, are in the floats' order
        ranks = (shifted + norms).clamp_(min=0).view(torch.int32).long()
    # Distance first, then number, in one number of 63 bits: distance 3 of row 5 is 3 * 2^31 + 5,
    # before 3 of row 7, 3 * 2^31 + 7, and before 4 of row 0, 4 * 2^31.
    keys = ranks.mul_(NUMBERS).add_(numbers)
    first = keys.topk(min(k, keys.shape[1]), largest=False).values
    ranks = first // NUMBERS
    return ranks if whole else ranks.int().view(torch.float32), first % NUMBERS


def _k_nearest(queries: Points, bank: Points, k: int) -> tuple[Tensor, Tensor]:
    """Return squared distances to the k nearest in a grouped bank, and their rows; (n, k) each.

    They lie in the k first groups, in order of minimum and number: each of these holds an element
    that comes before all elements of the groups behind it.
    """
    shifted, norms = shifted_squares(queries, bank), queries.norms[:, None]
    n, n_groups = len(queries), len(bank) // GROUP
    minima = shifted.view(n, GROUP, n_groups).amin(dim=1)
    groups = _least(minima, norms, torch.arange(n_groups, device=shifted.device), k)[1]
    members = torch.arange(GROUP, device=shifted.device)
    rows = (groups[:, :, None] * GROUP + members).flatten(1)
    columns = (groups[:, :, None] + members * n_groups).flatten(1)
    return _least(shifted.gather(1, columns), norms, rows, k)


def check_search(queries: np.ndarray, bank: np.ndarray, k: int) -> None:
    """Refuse other kinds or dimensions, and more neighbours than the bank has."""
    if is_whole(queries, "queries") != is_whole(bank, "bank"):
        raise ValueError(f"queries are {queries.dtype}, bank {bank.dtype}: both float or neither")
    if queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries {queries.shape} and bank {bank.shape} differ in dimension")
    if not 1 <= k <= len(bank):
        raise ValueError(
            f"score.num_neighbors={k} must be 1 to the bank's size, {len(bank)} patches; lower it, "
            f"or raise coreset.ratio or coreset.n_select"
        )


def exact_neighbors(
    queries: np.ndarray, bank: np.ndarray, k: int, *, device: str = "cpu"
) -> Neighbors:
    """Find the k nearest bank patches of every query; of patches as far, the lowest rows.

    Exact on any machine for whole numbers; within float32's rounding of |q|^2 - 2 q.b + |b|^2 for
    floats.  A thread holds at most 2^21 distances (8 MB), or those of 16 queries to a bank of over
    131,000; all share a copy of the bank.

    Parameters
    ----------
    queries, bank : arrays of uint8 (0..127), int8 (-127..127) or float, (n_queries or n_bank, dim)
        Both whole numbers or both floats; the queries may be memory-mapped.
    k : int
        Number of neighbours, 1 to n_bank.
    device : str

    Raises
    ------
    ValueError
        When k exceeds the bank, dimensions or kinds differ, or as `ad.exact.products.as_points`.
    """
    check_search(queries, bank, k)
    ready = _in_groups(as_points(bank, "bank", device=device))
    step = min(ROWS, max(16, CELLS // len(ready)))
    result = Neighbors(np.empty((len(queries), k)), np.empty((len(queries), k), np.int64))

    def one_chunk(start: int) -> None:
        part = slice(start, start + step)
        chunk = as_points(queries[part], "queries", start=start, device=device)
        squared, rows = _k_nearest(chunk, ready, k)
        result.squared_distances[part], result.indices[part] = squared.cpu(), rows.cpu()

    with chunk_map(None if device == "cpu" else 1) as run:
        for _ in run(one_chunk, range(0, len(queries), step)):
            pass
    return result


def faiss_neighbors(queries: np.ndarray, bank: np.ndarray, k: int, *, index: str) -> Neighbors:
    """Find neighbours with a FAISS index, in float32: ``faiss_flat`` or ``faiss_hnsw``.

    An HNSW graph is approximate, for banks that outgrow exact search: measure its `recall`.
    """
    import faiss  # where it is used: the exact search does without

    check_search(queries, bank, k)
    if index == "faiss_flat":
        store = faiss.IndexFlatL2(bank.shape[1])
    else:
        store = faiss.IndexHNSWFlat(bank.shape[1], 32)
        store.hnsw.efConstruction, store.hnsw.efSearch = 80, max(128, 4 * k)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)  # an HNSW graph depends on the order of insertion
        store.add(np.ascontiguousarray(bank, dtype=np.float32))
        faiss.omp_set_num_threads(torch.get_num_threads())
        squared, indices = store.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    finally:
        faiss.omp_set_num_threads(before)
    if (indices < 0).any():
        raise ValueError(f"score.index={index} finds fewer than {k} neighbours here; use exact")
    return Neighbors(squared.astype(np.float64).clip(min=0), indices.astype(np.int64))


def find_neighbors(
    queries: np.ndarray, bank: np.ndarray, k: int, *, index: str = "exact", device: str = "cpu"
) -> Neighbors:
    """Find neighbours with the index asked for: ``exact``, ``faiss_flat`` or ``faiss_hnsw``."""
    if index == "exact":
        return exact_neighbors(queries, bank, k, device=device)
    if index in ("faiss_flat", "faiss_hnsw"):
        return faiss_neighbors(queries, bank, k, index=index)
    raise ValueError(f"score.index={index!r} must be exact, faiss_flat or faiss_hnsw")


def recall(found: Neighbors, exact: Neighbors) -> float:
    """Return the share of the exact neighbours that ``found`` has, over all queries."""
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found.indices, exact.indices, strict=True)]
    return float(np.sum(hits) / exact.indices.size)


def index_recall(queries: np.ndarray, bank: np.ndarray, score: Score) -> float:
    """Return the recall of ``score.index`` on some queries; 1 for the exact search."""
    if score.index == "exact":
        return 1.0
    k = score.num_neighbors
    found = find_neighbors(queries, bank, k, index=score.index)
    return recall(found, exact_neighbors(queries, bank, k))
