"""The neighbour search that is asked for: the exact one, or a FAISS index."""

import faiss
import numpy as np
import torch

from ad.neighbors import Neighbors, check_search, exact_neighbors
from ad.params import Score


def faiss_neighbors(queries: np.ndarray, bank: np.ndarray, k: int, *, index: str) -> Neighbors:
    """Find neighbours with a FAISS index, in float32: ``faiss_flat`` or ``faiss_hnsw``.

    An HNSW graph is approximate, for banks that outgrow exact search: measure its `recall`.
    """
    check_search(queries, bank, k)
    if index not in ("faiss_flat", "faiss_hnsw"):
        raise ValueError(f"score.index={index!r} must be exact, faiss_flat or faiss_hnsw")
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
    return Neighbors(squared.astype(np.float64).clip(min=0), indices.astype(np.int64))


def find_neighbors(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    index: str = "exact",
    device: str = "cpu",
) -> Neighbors:
    """Find neighbours with the index asked for: ``exact``, ``faiss_flat`` or ``faiss_hnsw``."""
    if index == "exact":
        return exact_neighbors(queries, bank, k, device=device)
    return faiss_neighbors(queries, bank, k, index=index)


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
