"""Nearest bank patches: exact search below the cost of the matrix product, and FAISS indices."""

from dataclasses import dataclass

import faiss
import numpy as np
import torch
from torch import Tensor

from ad.parallel import chunk_map
from ad.params import Score
from ad.progress import progress_bar

ROWS = 256  # alike query patches that a thread looks at together
WHOLE_ROWS = 1024  # query patches that a thread measures against the whole bank at a time
BLOCK_ROWS = 65536  # query patches that are put in order at a time; bounds memory
GROUPS = 16  # bank columns share a minimum before the exact top-k looks at single ones
PIVOTS = 64  # bank patches that queries are put in order by
SPARE = 4  # neighbours beyond k that are measured again where float32 cancels
# Where a squared distance is below this share of |q|^2 + |b|^2, |q|^2 - 2 q.b + |b|^2 has lost
# more than 1e-5 of it in float32, and the difference is taken directly.
CANCELLED = 0.03
ROUNDING = 4e-6  # of |q|^2 + |b|^2: 4 times the worst seen in float32 products of 66 to 1536 terms
BOUND_DIM = 64  # dimensions of the bound; fastest of 32, 64, 96, 128
FAR = 0.5  # share of the groups of columns within a query's reach that makes it a far one
FEWEST_ROWS, FEWEST_DIMS = 2048, 192  # a bank below these is searched whole: bounds do not pay


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


def _best_groups(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Put columns into strided groups; return the groups' minima and the k best groups' columns.

    The k smallest values of a row lie in the k groups with the smallest minima (or in the few last
    columns, which are in no group); the minima cost one vectorised pass.

    Returns
    -------
    minima : Tensor, shape (n, m // GROUPS)
    columns : Tensor of int64, shape (n, k, GROUPS)
    """
    n, m = values.shape
    width = m // GROUPS
    minima = values[:, : width * GROUPS].view(n, GROUPS, width).amin(dim=1)
    groups = minima.topk(k, dim=1, largest=False, sorted=False).indices
    return minima, groups[:, :, None] + width * torch.arange(GROUPS)


def _near_columns(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the groups' minima, and k columns with small values, one a group: near the k best."""
    minima, columns = _best_groups(values, k)
    members = values.gather(1, columns.flatten(1)).view(columns.shape)
    return minima, columns.gather(2, members.argmin(dim=2, keepdim=True))[:, :, 0]


def _smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k smallest of each row (n, m), smallest first, and their columns."""
    n, m = values.shape
    if m // GROUPS <= 4 * k:
        return values.topk(k, dim=1, largest=False, sorted=True)
    columns = _best_groups(values, k)[1].flatten(1)
    if m % GROUPS:
        rest = torch.arange(m - m % GROUPS, m)
        columns = torch.cat([columns, rest.expand(n, -1)], dim=1)
    found, order = values.gather(1, columns).topk(k, dim=1, largest=False, sorted=True)
    return found, columns.gather(1, order)


def _squared_norms(points: np.ndarray, what: str) -> np.ndarray:
    """Return |x|^2 of each row; refuse what is not finite."""
    norms = np.square(points).sum(axis=1)
    if not np.isfinite(norms).all():
        raise ValueError(
            f"{(~np.isfinite(norms)).sum()} of {len(points)} {what} patches hold NaN or infinity; "
            f"scores need finite features"
        )
    return norms


class _Bank:
    """A bank made ready for exact search.

    With an orthonormal basis V of a few dimensions, q = V Vt q + the rest, and by Cauchy and
    Schwarz |q - b|^2 >= |q|^2 + |b|^2 - 2 (Vt q . Vt b + |rest of q| |rest of b|): one short
    product bounds every distance from below.  Only bank patches whose bound is within reach of
    the k-th nearest candidate are measured in all dimensions.

    NumPy's products are used: its BLAS is fast on every vendor's processors, PyTorch's on Intel's.
    """

    def __init__(self, bank: np.ndarray, k: int) -> None:
        self.k = k
        # Around the bank's mean the norms are smaller, and less cancels.
        self.mean = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.points = np.asarray(bank, dtype=np.float32) - self.mean
        self.norms = _squared_norms(self.points, "bank")
        # |b|^2 - 2 q.b is one product: [q, 1] times [-2 b, |b|^2].
        self.factors = np.hstack([-2 * self.points, self.norms[:, None]])
        n, dim = self.points.shape
        self.bounded = n >= max(FEWEST_ROWS, 4 * GROUPS * k) and dim >= FEWEST_DIMS
        self.basis = _principal_basis(self.points, BOUND_DIM if self.bounded else 1)
        short = self.shorten(self.points, self.norms)
        self.short_factors = np.hstack([-2 * short, self.norms[:, None]])

    def shorten(self, points: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Return [Vt x, |rest of x|], float32; the rest is rounded up, so the bound stays one."""
        inside = points @ self.basis
        rest = np.maximum(norms - np.square(inside).sum(axis=1), 0) + ROUNDING * norms
        return np.hstack([inside, np.sqrt(rest)[:, None]])

    def centred(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return [q, 1], the left factor of the product, and |q|^2, around the bank's mean."""
        block = np.ones((len(queries), queries.shape[1] + 1), dtype=np.float32)
        np.subtract(queries, self.mean, out=block[:, :-1])
        return block, _squared_norms(block[:, :-1], "query")

    def place(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give each query its nearest pivot and the distance to it: alike queries are near."""
        block, norms = self.centred(queries)
        short = np.hstack([self.shorten(block[:, :-1], norms), block[:, -1:]])
        nearest, pivots = torch.from_numpy(short @ self.short_factors[:PIVOTS].T).min(dim=1)
        return pivots.numpy(), nearest.numpy() + norms

    def search(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the k nearest of a few alike queries.

        Returns float32 squares and columns, shape (n, k), and which queries were left out: one far
        from everything is within reach of much, and would widen the search of the others.
        """
        block, norms = self.centred(queries)
        short = np.hstack([self.shorten(block[:, :-1], norms), block[:, -1:]])
        bounds = torch.from_numpy(short @ self.short_factors.T)
        minima, near = _near_columns(bounds, self.k)
        products = np.matmul(self.factors[near.numpy()], block[:, :, None])[:, :, 0]
        reach = products.max(axis=1, keepdims=True) + ROUNDING * (norms[:, None] + self.norms.max())
        reach = torch.from_numpy(reach.astype(np.float32))
        far = ((minima <= reach).sum(dim=1) > minima.shape[1] * FAR).numpy()
        found = np.empty((len(queries), self.k), dtype=np.float32)
        columns = np.empty((len(queries), self.k), dtype=np.int64)
        if not far.all():
            reach[torch.from_numpy(far)] = -torch.inf  # reaches nothing
            among = ((bounds - reach).amin(dim=0) <= 0).numpy().nonzero()[0]
            found[~far], columns[~far] = self.measure(block[~far], norms[~far], among)
        return found, columns, far

    def search_all(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest of some queries with one product over the whole bank."""
        return self.measure(*self.centred(queries), None)

    def measure(
        self, block: np.ndarray, norms: np.ndarray, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Measure [q, 1] against the bank, or the rows ``among`` it, and take the k nearest."""
        factors = self.factors if among is None else self.factors[among]
        # The query's own norm shifts a whole row, so it is added to the few found only.
        products = torch.from_numpy(block @ factors.T)
        found, columns = (part.numpy() for part in _smallest(products, self.k))
        columns = columns if among is None else among[columns]
        found = (found + norms[:, None]).clip(min=0)
        cancelled = self.cancelled(found, columns, norms)
        if len(cancelled):
            most = min(self.k + SPARE, len(factors))
            spare = products[torch.from_numpy(cancelled)].topk(most, dim=1, largest=False)
            near = spare.indices.numpy()
            near = near if among is None else among[near]
            queries = block[cancelled, :-1]
            found[cancelled], columns[cancelled] = self.measure_again(queries, near)
        return found, columns

    def cancelled(self, found: np.ndarray, columns: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Return the rows whose squares |q|^2 - 2 q.b + |b|^2 have lost too much in float32."""
        scale = norms[:, None] + self.norms[columns]
        return (found < CANCELLED * scale).any(axis=1).nonzero()[0]

    def measure_again(self, queries: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take squares from the differences to the patches ``near``, and keep the k nearest."""
        differences = queries[:, None] - self.points[near]  # (rows, candidates, dim)
        found = np.square(differences, out=differences).sum(axis=2)
        order = np.lexsort((near, found))[:, : self.k]  # ties go to the lower row
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(near, order, axis=1)


def _principal_basis(points: np.ndarray, n_directions: int) -> np.ndarray:
    """Return an orthonormal basis near the principal directions, shape (dim, n_directions).

    Two subspace iterations; any basis gives valid bounds, a better one tighter ones.
    """
    sample = points[:: max(1, len(points) // 4096)]
    basis = sample[:n_directions].T
    for _ in range(2):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    return np.ascontiguousarray(basis)


def exact_neighbors(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Neighbors:
    """Find the k nearest bank patches of every query, exactly.

    The distance matrix is never held.  On a CPU, lower bounds from a few dimensions leave out most
    of the bank (see `_Bank`); alike queries are searched together, so that what is left is one
    matrix product.  Where float32 cancels, distances are taken from the differences.

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
        When k exceeds the bank, the dimensions differ, or a value is NaN or infinite.
    """
    _check(queries, bank, k)
    squared = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    with (
        chunk_map(threads if device == "cpu" else 1) as run,
        progress_bar(len(queries), "score", "patch", show=progress) as bar,
    ):
        ready = _Bank(bank, k)
        measure_all = ready.search_all if device == "cpu" else _search_on(ready, device)

        def chunk(rows: np.ndarray) -> np.ndarray:
            squared[rows], indices[rows], far = ready.search(queries[rows])
            return rows[far]

        def whole_chunk(rows: np.ndarray | slice) -> int:
            squared[rows], indices[rows] = measure_all(queries[rows])
            return len(squared[rows])

        if not (ready.bounded and device == "cpu"):
            for count in run(whole_chunk, _slices(0, len(queries), WHOLE_ROWS)):
                bar.update(count)
            return Neighbors(squared, indices)
        for start in range(0, len(queries), BLOCK_ROWS):
            alike = _alike(queries, start, min(start + BLOCK_ROWS, len(queries)), ready, run)
            left_out = []
            for rows, far in zip(alike, run(chunk, alike), strict=True):
                bar.update(len(rows) - len(far))
                left_out.extend(far)
            rest = np.array(left_out, dtype=np.int64)
            for count in run(whole_chunk, [rest[s] for s in _slices(0, len(rest), WHOLE_ROWS)]):
                bar.update(count)
    return Neighbors(squared, indices)


def _slices(start: int, stop: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]


def _alike(queries: np.ndarray, start: int, stop: int, bank: _Bank, run) -> list[np.ndarray]:
    """Split a block of queries into chunks of alike ones; the same on any number of threads."""
    placed = run(lambda rows: bank.place(queries[rows]), _slices(start, stop, WHOLE_ROWS))
    pivots, distances = map(np.concatenate, zip(*placed, strict=True))
    order = start + np.lexsort((distances, pivots))
    return [np.sort(order[rows]) for rows in _slices(0, len(order), ROWS)]


def _search_on(bank: _Bank, device: str):
    """Give a search that makes the whole product on a GPU."""
    factors = torch.from_numpy(bank.factors).to(device).T
    most = min(bank.k + SPARE, len(bank.points))

    def search(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        block, norms = bank.centred(queries)
        products = torch.from_numpy(block).to(device) @ factors
        found, near = (part.cpu().numpy() for part in products.topk(most, dim=1, largest=False))
        found, columns = (found[:, : bank.k] + norms[:, None]).clip(min=0), near[:, : bank.k].copy()
        cancelled = bank.cancelled(found, columns, norms)
        if len(cancelled):
            again = bank.measure_again(block[cancelled, :-1], near[cancelled])
            found[cancelled], columns[cancelled] = again
        return found, columns

    return search


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


def index_recall(queries: np.ndarray, bank: np.ndarray, score: Score) -> float:
    """Return the recall of ``score.index`` on some queries; 1 for the exact search."""
    if score.index == "exact":
        return 1.0
    k = score.num_neighbors
    return recall(
        find_neighbors(queries, bank, k, index=score.index), exact_neighbors(queries, bank, k)
    )
