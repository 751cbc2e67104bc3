"""Exact greedy k-center selection (Roth et al., 2022, algorithm 1) at matrix-product speed.

The textbook loop passes over all points for every pick.  A point's distance to the selection only
falls as the selection grows, so an old distance is an upper bound.  A round therefore

1. takes the points with the largest bounds as candidates and computes the distances among them;
2. picks greedily among the candidates for as long as the best of them is at least as far as any
   bound outside, which makes each pick the textbook's;
3. brings all points up to date with one matrix product for all picks of the round.
"""

import numpy as np
import torch

from ad.parallel import chunk_map
from ad.progress import progress_bar

ROWS = 2048  # points a thread reads or projects at a time


def random_projection(dim: int, projection_dim: int, *, seed: int) -> np.ndarray:
    """Draw a Gaussian Johnson-Lindenstrauss projection.

    Returns
    -------
    array of float32, shape (dim, projection_dim)
        Scaled so that squared distances are kept in expectation.
    """
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((dim, projection_dim), dtype=np.float32)
    return matrix / np.float32(np.sqrt(projection_dim))


def project(
    features: np.ndarray, projection_dim: int | None, *, seed: int, threads: int | None = None
) -> np.ndarray:
    """Project features at random, in chunks; copy them as float32 where there is nothing to do.

    Parameters
    ----------
    features : array of float, shape (n, dim)
        May be float16 or memory-mapped.
    projection_dim : int or None
        ``None``, or a value of at least ``dim``, keeps the features as they are.

    Returns
    -------
    array of float32, shape (n, min(dim, projection_dim))

    Raises
    ------
    ValueError
        When a feature is NaN or infinite; the message says where.
    """
    if features.ndim != 2:
        raise ValueError(f"features have shape {features.shape}; expected (n_patches, dim)")
    n, dim = features.shape
    matrix = None
    if projection_dim is not None and projection_dim < dim:
        matrix = torch.from_numpy(random_projection(dim, projection_dim, seed=seed))
    result = np.empty((n, dim if matrix is None else projection_dim), dtype=np.float32)

    def one_chunk(start: int) -> None:
        rows = slice(start, start + ROWS)
        chunk = np.array(features[rows], dtype=np.float32)
        if not np.isfinite(chunk).all():
            row, column = np.argwhere(~np.isfinite(chunk))[0]
            raise ValueError(
                f"features[{start + row}, {column}] is {chunk[row, column]}; "
                f"the coreset needs finite features"
            )
        result[rows] = chunk if matrix is None else (torch.from_numpy(chunk) @ matrix).numpy()

    with chunk_map(threads) as run:
        for _ in run(one_chunk, range(0, n, ROWS)):
            pass
    return result


FEWEST_CANDIDATES, MOST_CANDIDATES = 1024, 4096
TILE = 512  # points by picks that a thread measures at a time; 1 MB, which stays in its cache
# |x|^2 - 2 x.p + |p|^2 carries an error near 3e-7 |x|^2 in float32. While the largest squared
# distance is at least the largest |x|^2 over this limit, the farthest is right to 1e-5.
FLOAT32_LIMIT = 24.0


class _Distances:
    """Upper bounds of each point's squared distance to the selection, updated in bulk.

    Products are NumPy's: its BLAS is fast on every vendor's processors, PyTorch's on Intel's.
    """

    def __init__(self, points: np.ndarray, run) -> None:
        self.points = points
        # Rounded to float32, so that norms and products use the same centre in either precision.
        self.mean = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.squared = np.full(len(points), np.inf)
        self._run = run
        self._measure(np.float32)
        self.smallest_sure = float(self.norms.max()) / FLOAT32_LIMIT

    def _measure(self, dtype: type) -> None:
        """Take squared norms |x|^2 in float64, and [x, 1], the left factor of |p|^2 - 2 x.p."""
        self.dtype = dtype
        self.norms = np.empty(len(self.points))
        self.left = np.ones((len(self.points), self.points.shape[1] + 1), dtype=dtype)
        for start in range(0, len(self.points), ROWS):
            rows = slice(start, start + ROWS)
            centred = self.points[rows].astype(np.float64) - self.mean
            self.norms[rows] = np.square(centred).sum(axis=1)
            self.left[rows, :-1] = centred  # around the mean less cancels

    def right(self, rows: np.ndarray) -> np.ndarray:
        """Return [-2 p, |p|^2], the right factor, a row a point."""
        return np.hstack([-2 * self.left[rows, :-1], self.norms[rows, None].astype(self.dtype)])

    def update(self, picks: list[int]) -> None:
        """Lower every bound by the distances to ``picks``."""
        factors = self.right(np.array(picks))
        groups = [factors[start : start + TILE].T for start in range(0, len(picks), TILE)]

        def one_tile(start: int) -> None:
            rows = slice(start, start + TILE)
            points = self.left[rows]
            nearest = np.full(len(points), np.inf)
            for group in groups:
                # PyTorch's minimum: NumPy's is slower along rows.
                least = torch.from_numpy(points @ group).amin(dim=1).numpy()
                np.minimum(nearest, least, out=nearest)
            nearest = (nearest + self.norms[rows]).clip(min=0)
            np.minimum(self.squared[rows], nearest, out=self.squared[rows])

        for _ in self._run(one_tile, range(0, len(self.points), TILE)):
            pass
        self.squared[picks] = -1.0  # behind every point that is not selected

    def between(self, rows: np.ndarray) -> np.ndarray:
        """Return squared distances among ``rows``, shape (n, n), in the precision in force."""
        left, right = self.left[rows], self.right(rows).T
        norms = self.norms[rows, None].astype(self.dtype)
        result = np.empty((len(rows), len(rows)), dtype=self.dtype)

        def one_tile(start: int) -> None:
            part = slice(start, start + TILE)
            np.matmul(left[part], right, out=result[part])
            result[part] += norms[part]

        for _ in self._run(one_tile, range(0, len(rows), TILE)):
            pass
        return result

    def restart_in_float64(self, picks: list[int]) -> None:
        """Measure everything again in float64; done at most once a selection."""
        self._measure(np.float64)
        self.smallest_sure = 0.0
        self.squared.fill(np.inf)
        self.update(picks)


def _pick_among(bounds: np.ndarray, between: np.ndarray, least: float, most: int) -> list[int]:
    """Pick greedily among candidates while the farthest of them is at least ``least`` away.

    Parameters
    ----------
    bounds : array, shape (n_candidates,)
        Squared distances to the selection, exact; changed in place.
    between : array, shape (n_candidates, n_candidates)
        Squared distances among the candidates.
    least : float
        Squared distance that a pick must have: the largest bound of a point that is no candidate,
        and what the arithmetic resolves.
    most : int
        Largest number of picks.
    """
    picks: list[int] = []
    while len(picks) < most:
        farthest = int(bounds.argmax())
        if bounds[farthest] < least:
            break
        picks.append(farthest)
        np.minimum(bounds, between[farthest], out=bounds)
        bounds[farthest] = -1.0
    return picks


def k_center_greedy(
    features: np.ndarray,
    n_select: int,
    *,
    seed: int,
    projection_dim: int | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Select ``n_select`` features so that each next one is the farthest from those before it.

    The selection is the textbook loop's up to floating-point ties, and nested: its first m indices
    are the selection of m.  It does not depend on the number of threads.  Beside the features it
    holds two float32 copies of them (after projection) and less than 150 MB.

    Parameters
    ----------
    features : array of float, shape (n_patches, dim)
        May be float16 or memory-mapped; it is read once.
    n_select : int
        Size of the coreset, 1 to n_patches.
    seed : int
        Seed of the first centre, which is the first of the result, and of the projection.
    projection_dim : int, optional
        Select in a Gaussian random projection to this dimension; by default in the full space.
    threads : int, optional
        Number of threads; by default PyTorch's current number.
    progress : bool
        Show a progress bar.

    Returns
    -------
    array of int64, shape (n_select,)
        Row numbers, in greedy order, none twice.

    Raises
    ------
    ValueError
        When ``n_select`` is out of range, or a feature is NaN or infinite.

    References
    ----------
    Roth et al., *Towards Total Recall in Industrial Anomaly Detection*, CVPR 2022, algorithm 1.
    """
    n = len(features)
    if not 1 <= n_select <= n:
        raise ValueError(f"n_select={n_select} must be 1 to n_patches={n}")
    points = project(features, projection_dim, seed=seed, threads=threads)
    picks = [int(np.random.default_rng([seed, 1]).integers(n))]
    n_candidates = FEWEST_CANDIDATES
    with (
        chunk_map(threads) as run,
        progress_bar(n_select, "coreset", "pick", show=progress) as bar,
    ):
        distances = _Distances(points, run)
        fresh = picks
        while len(picks) < n_select:
            distances.update(fresh)
            if distances.squared.max() < distances.smallest_sure:
                distances.restart_in_float64(picks)
            bar.update(len(fresh))
            n_candidates = min(n_candidates, n)
            # One more than the candidates: the best of those outside.
            bounds, rows = torch.from_numpy(distances.squared).topk(min(n_candidates + 1, n))
            outside = float(bounds[n_candidates]) if n_candidates < n else 0.0
            least = max(outside, distances.smallest_sure, 0.0)
            rows = np.sort(rows[:n_candidates].numpy())  # ties go to the lower row
            between = distances.between(rows)
            bounds = distances.squared[rows]
            chosen = _pick_among(bounds, between, least, n_select - len(picks))
            fresh = rows[chosen].tolist()
            picks = picks + fresh
            n_candidates = max(FEWEST_CANDIDATES, min(MOST_CANDIDATES, 2 * len(fresh)))
        bar.update(len(fresh))
    return np.array(picks, dtype=np.int64)
