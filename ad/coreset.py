"""Greedy k-center selection (Roth et al., 2022, algorithm 1) below a matrix product's cost.

`textbook_coreset` is the specification: it measures every point against every pick.  A point's
distance to the picks only falls, so an old one is an upper bound, and a point whose bound is small
need not be measured again.  `k_center_greedy` takes the points with the largest bounds, measures
them while they may still be the farthest, and picks among them while the best comes before every
bound outside.
"""

import numpy as np

from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.projection import project
from integer.products import Points, as_points, is_whole, shifted_squares

FEWEST_CANDIDATES = 8192
CANDIDATE_SHARE = 0.1  # of all points, where that is more; fewer mean more rounds
BLOCK = 256  # candidates whose distances among each other are held, and picks measured at a time
TILE = 1024  # points that a thread measures at a time
NOTHING = -(2**32)  # a key that only picks do not exceed


def textbook_coreset(features: np.ndarray, n_select: int, *, seed: int) -> np.ndarray:
    """Select as `k_center_greedy` must: the farthest point each time, the lowest row at a tie.

    Slow: every pick is measured from every point, in int64 for whole numbers, float64 for floats.
    """
    points = features.astype(np.int64 if is_whole(features, "features") else np.float64)
    nearest = np.full(len(points), np.inf)
    picks = [first_pick(len(points), seed)]
    while len(picks) < n_select:
        nearest = np.minimum(nearest, np.square(points - points[picks[-1]]).sum(axis=1))
        nearest[picks[-1]] = -1  # before every distance, and stays so
        picks.append(int(nearest.argmax()))
    return np.array(picks)


def first_pick(n: int, seed: int) -> int:
    """Draw the first centre of n points."""
    return int(np.random.default_rng([seed, 1]).integers(n))


def _keys(bounds: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Order points in int64: the larger bound first, then the lower row, by the larger key."""
    # The bits of an int32, or of a float32 that is not negative, are in its order.
    return (bounds.view(np.int32).astype(np.int64) << 32) - rows


def _largest(keys: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Return the places of the largest keys, in order, and the largest key of the others."""
    if size >= len(keys):
        return np.arange(len(keys)), NOTHING
    places = np.argpartition(keys, len(keys) - size - 1)[len(keys) - size - 1 :]
    return np.sort(places[1:]), max(NOTHING, int(keys[places[0]]))


def _nearest(points: Points, picks: Points) -> np.ndarray:
    """Return each point's squared distance to the nearest of some picks."""
    return shifted_squares(points, picks).amin(dim=1).add_(points.norms).clamp_(min=0).numpy()


class _Greedy:
    """The picks so far, and an upper bound of each point's squared distance to them."""

    def __init__(self, points: Points, first: int, run) -> None:
        self.points, self.run, self.picks = points, run, [first]
        dtype = points.norms.numpy().dtype
        self.bounds = np.full(len(points), np.inf if dtype.kind == "f" else 2**31 - 1, dtype)
        self.bounds[first] = -1  # before every distance, and stays so
        self.known = np.zeros(len(points), np.int32)  # so many first picks are in a point's bound
        self.lower(np.arange(len(points)), NOTHING)

    def lower(self, rows: np.ndarray, least: int) -> np.ndarray:
        """Lower the bounds of rows by all picks; return the rows whose keys stay above least."""
        rows = rows[np.argsort(self.known[rows], kind="stable")]  # alike ones share a product
        tiles = (rows[start : start + TILE] for start in range(0, len(rows), TILE))
        return np.concatenate(list(self.run(lambda tile: self._lower_tile(tile, least), tiles)))

    def _lower_tile(self, rows: np.ndarray, least: int) -> np.ndarray:
        rows = rows[_keys(self.bounds[rows], rows) > least]
        points, stop = self.points[rows], len(self.picks)
        for at in range(self.known[rows].min(initial=stop), stop, BLOCK):
            end = min(at + BLOCK, stop)
            found = _nearest(points, self.points[np.array(self.picks[at:end])])
            bounds = np.minimum(self.bounds[rows], found)
            self.bounds[rows], self.known[rows] = bounds, end
            staying = np.flatnonzero(_keys(bounds, rows) > least)
            rows, points = rows[staying], points[staying]
        return rows

    def pick_among(self, rows: np.ndarray, least: int, most: int) -> None:
        """Pick greedily among a few rows, whose bounds are exact, while keys are above least."""
        points, bounds = self.points[rows], self.bounds[rows]
        between = shifted_squares(points, points).add_(points.norms[:, None]).clamp_(min=0).numpy()
        for _ in range(most):
            farthest = bounds.argmax()  # the first of equal ones: the lowest row
            if _keys(bounds[farthest], rows[farthest]) <= least:
                break
            self.picks.append(int(rows[farthest]))
            np.minimum(bounds, between[farthest], out=bounds)
            bounds[farthest] = -1
        self.bounds[rows] = bounds


def k_center_greedy(
    features: np.ndarray,
    n_select: int,
    *,
    seed: int,
    projection_dim: int | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Select ``n_select`` features so that each next one is the farthest from those before it.

    The selection is nested: its first m indices are the selection of m.  From whole numbers it is
    `textbook_coreset`'s on any machine and any number of threads, from floats up to rounding.
    Beside the features it holds their projection (or a copy, if mapped or not float32), 40 bytes a
    point, and less than 100 MB.

    Parameters
    ----------
    features : array of uint8 (0..127), int8 (-127..127) or float, shape (n_patches, dim)
        May be memory-mapped; it is read once.
    n_select : int
        Size of the coreset, 1 to n_patches.
    seed : int
        Seed of the first centre, which is the first of the result, and of the projection.
    projection_dim : int, optional
        Select in a random projection to this dimension; by default in the full space.
    progress : bool
        Show a progress bar.

    Returns
    -------
    array of int64, shape (n_select,)
        Row numbers, in greedy order, none twice.

    Raises
    ------
    ValueError
        When ``n_select`` is out of range, or as `integer.products.as_points`.
    """
    n = len(features)
    if not 1 <= n_select <= n:
        raise ValueError(f"n_select={n_select} must be 1 to n_patches={n}")
    if projection_dim is not None:
        features = project(features, projection_dim, seed=seed)
    points = as_points(features, "features")
    with (
        chunk_map() as run,
        progress_bar(n_select, "coreset", "pick", show=progress) as bar,
    ):
        greedy = _Greedy(points, first_pick(n, seed), run)
        while (left := n_select - len(greedy.picks)) > 0:
            keys = _keys(greedy.bounds, np.arange(n))
            rows, outside = _largest(keys, max(FEWEST_CANDIDATES, int(CANDIDATE_SHARE * n)))
            while left and len(rows := greedy.lower(rows, outside)):
                block, edge = _largest(_keys(greedy.bounds[rows], rows), BLOCK)
                greedy.pick_among(np.sort(rows[block]), max(outside, edge), left)
                left = n_select - len(greedy.picks)
                bar.update(len(greedy.picks) - bar.n)
    return np.array(greedy.picks)
