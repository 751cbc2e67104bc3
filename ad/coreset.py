"""Exact greedy k-center selection (Roth et al., 2022, algorithm 1) below a matrix product's cost.

The textbook loop measures every point against every pick.  A point's distance to the selection only
falls as the selection grows, so an old distance is an upper bound, and a point whose bound is small
need not be measured again.  A round therefore

1. takes the points with the largest bounds as candidates and measures them, in matrix products,
   against the picks that their bounds do not know yet; one that falls below every bound outside
   is left as it is;
2. picks greedily among the candidates for as long as the best of them is at least as far as any
   bound outside, which makes each pick the textbook's.
"""

from collections.abc import Iterator

import numpy as np
import torch

from ad.neighbors import exact_neighbors
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


FEWEST_CANDIDATES = 8192
CANDIDATE_SHARE = 0.1  # of all points, where that is more; fewer mean more rounds
BLOCK = 256  # candidates whose distances among each other are held, and picks measured at a time
TILE = 1024  # points that a thread measures at a time
STAYING = 0.8  # where fewer of a tile's points stay candidates, the others are taken out of it
# |x|^2 - 2 x.p + |p|^2 carries an error near 3e-7 |x|^2 in float32. While the largest squared
# distance is at least the largest |x|^2 over this limit, the farthest is right to 1e-5.
FLOAT32_LIMIT = 24.0


class _Distances:
    """Upper bounds of each point's squared distance to the picks, lowered where asked.

    Products are NumPy's: its BLAS is fast on every vendor's processors, PyTorch's on Intel's.
    """

    def __init__(self, points: np.ndarray, n_select: int, run) -> None:
        self.points = points
        self._run = run
        # Around a centre norms are smaller, and less cancels; a sample's mean is near enough.
        sample = points[:: max(1, len(points) // 4096)]
        self.centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.picks: list[int] = []
        self.n_select = n_select
        self._measure_norms(np.float32)
        self.smallest_sure = float(self.norms.max()) / FLOAT32_LIMIT

    def _measure_norms(self, dtype: type) -> None:
        """Take squared norms |x|^2 in float64, and [x, 1], the left factor of |p|^2 - 2 x.p."""
        n, dim = self.points.shape
        self.norms = np.empty(n)
        self.left = np.empty((n, dim + 1), dtype=dtype)
        self.right = np.empty((self.n_select, dim + 1), dtype=dtype)
        self.bounds = np.full(n, np.inf)
        self.known = np.zeros(n, dtype=np.int64)  # so many first picks are in a point's bound

        def one_chunk(start: int) -> None:
            rows = slice(start, start + ROWS)
            centred = self.points[rows].astype(np.float64) - self.centre
            self.norms[rows] = np.square(centred).sum(axis=1)
            self.left[rows, :-1], self.left[rows, -1] = centred, 1

        for _ in self._run(one_chunk, range(0, n, ROWS)):
            pass

    def right_factor(self, rows: np.ndarray) -> np.ndarray:
        """Return [-2 p, |p|^2], a row a point."""
        factor = -2 * self.left[rows]
        factor[:, -1] = self.norms[rows]
        return factor

    def add(self, rows: np.ndarray) -> np.ndarray:
        """Append picks; return their right factors."""
        factors = self.right[len(self.picks) : len(self.picks) + len(rows)]
        factors[:] = self.right_factor(rows)
        self.picks.extend(rows.tolist())
        return factors

    def candidates(self) -> tuple[np.ndarray, float]:
        """Return the rows of the largest bounds, in order, and the largest bound of the others."""
        self.bounds[self.picks] = -1.0  # behind every point that is not picked
        n = len(self.bounds)
        wanted = max(FEWEST_CANDIDATES, int(CANDIDATE_SHARE * n))
        if wanted >= n:
            return np.arange(n), 0.0
        order = np.argpartition(self.bounds, n - wanted - 1)
        return np.sort(order[n - wanted :]), float(self.bounds[order[n - wanted - 1]])

    def refresh(self, rows: np.ndarray, least: float) -> np.ndarray:
        """Lower the bounds of ``rows`` by all picks; return those that are still at ``least``."""
        stale = rows[self.known[rows] < len(self.picks)]
        stale = stale[np.argsort(self.known[stale], kind="stable")]  # alike ones share a product
        tiles = (stale[start : start + TILE] for start in range(0, len(stale), TILE))
        for _ in self._run(lambda tile: self._refresh_tile(tile, least), tiles):
            pass
        return rows[self.bounds[rows] >= least]

    def _refresh_tile(self, rows: np.ndarray, least: float) -> None:
        first, n_picks = int(self.known[rows[0]]), len(self.picks)
        parts = -(-(n_picks - first) // BLOCK)
        ends = np.linspace(first, n_picks, parts + 1).astype(int)[1:]
        left = self.left[rows]
        for end in ends:
            found = _nearest(left, self.right[first:end]) + self.norms[rows]
            first = end
            bounds = np.minimum(self.bounds[rows], found.clip(min=0))
            self.bounds[rows], self.known[rows] = bounds, end
            staying = bounds >= least
            if np.count_nonzero(staying) < STAYING * len(rows):
                rows, left = rows[staying], left[staying]
            if not len(rows):
                break

    def restart_in_float64(self) -> None:
        """Forget the bounds and measure in float64; done at most once a selection."""
        picks, self.picks = np.array(self.picks), []
        self._measure_norms(np.float64)
        self.smallest_sure = 0.0
        self.add(picks)


def _nearest(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the smallest |p|^2 - 2 x.p over the picks, for each point."""
    # PyTorch's minimum: NumPy's is slower along rows.
    return torch.from_numpy(left @ right.T).amin(dim=1).numpy()


def _pick_in_rounds(
    distances: _Distances, rows: np.ndarray, least: float, run
) -> Iterator[np.ndarray]:
    """Pick among candidates while the farthest is at least ``least`` away; yield new picks.

    The candidates' bounds must be exact; they are kept so.
    """
    left, norms, bounds = distances.left[rows], distances.norms[rows], distances.bounds[rows]
    right = distances.right_factor(rows)
    tiles = [slice(start, start + TILE) for start in range(0, len(rows), TILE)]
    while len(distances.picks) < distances.n_select and bounds.max() >= least:
        if len(rows) > BLOCK:
            order = np.argpartition(bounds, len(rows) - BLOCK - 1)
            block = np.sort(order[len(rows) - BLOCK :])  # ties go to the lower row
            block_least = max(least, float(bounds[order[len(rows) - BLOCK - 1]]))
        else:
            block, block_least = np.arange(len(rows)), least
        between = left[block] @ right[block].T + norms[block, None].astype(left.dtype)
        most = distances.n_select - len(distances.picks)
        chosen = block[_pick_among(bounds[block], between, block_least, most)]
        factors = distances.add(rows[chosen])

        def one_tile(tile: slice, factors: np.ndarray = factors) -> None:
            found = (_nearest(left[tile], factors) + norms[tile]).clip(min=0)
            np.minimum(bounds[tile], found, out=bounds[tile])

        for _ in run(one_tile, tiles):
            pass
        bounds[chosen] = -1.0
        yield rows[chosen]
    distances.bounds[rows], distances.known[rows] = bounds, len(distances.picks)


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
    holds two float32 copies of them (after projection; three in float64 where float32 cannot tell
    distances apart), the picks twice, and less than 150 MB.

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
    first = int(np.random.default_rng([seed, 1]).integers(n))
    with (
        chunk_map(threads) as run,
        progress_bar(n_select, "coreset", "pick", show=progress) as bar,
    ):
        distances = _Distances(points, n_select, run)
        distances.add(np.array([first]))
        bar.update(1)
        while len(distances.picks) < n_select:
            rows, outside = distances.candidates()
            if distances.bounds[rows].max() < distances.smallest_sure:
                distances.restart_in_float64()
                continue
            least = max(outside, distances.smallest_sure)
            rows = distances.refresh(rows, least)
            if len(rows):
                for picks in _pick_in_rounds(distances, rows, least, run):
                    bar.update(len(picks))
    return np.array(distances.picks, dtype=np.int64)


def coverage(points: np.ndarray, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure how a selection covers points as it grows.

    Parameters
    ----------
    points : array, shape (n, dim)
    selected : array, shape (n_select, dim)
        In greedy order.

    Returns
    -------
    steps, largest, typical : arrays, shape (n_steps,)
        Sizes of the selection, and the largest and the median distance to its nearest.
    """
    steps = np.unique(np.geomspace(1, len(selected), 8).astype(int))
    distances = [
        np.sqrt(exact_neighbors(points, selected[:step], 1).squared_distances) for step in steps
    ]
    return (
        steps,
        np.array([d.max() for d in distances]),
        np.array([np.median(d) for d in distances]),
    )
