"""Greedy k-center selection (Roth et al., 2022, algorithm 1) below a matrix product's cost.

`textbook_coreset` is the specification: it measures every point against every pick.
`k_center_greedy` takes the points with the largest bounds, measures them while they may still be
the farthest, and picks among them while the best comes before every bound outside.
"""

import numpy as np

from ad.frontier import Frontier, pick_among
from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.projection import project
from ad.exact.products import as_points, is_whole


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
        When ``n_select`` is out of range, or as `ad.exact.products.as_points`.
    """
    n = len(features)
    if not 1 <= n_select <= n:
        raise ValueError(f"n_select={n_select} must be 1 to n_patches={n}")
    if projection_dim is not None:
        features = project(features, projection_dim, seed=seed)
    points = as_points(features, "features")
    with chunk_map() as run, progress_bar(n_select, "coreset", "pick", show=progress) as bar:
        frontier = Frontier(points, n_select)
        picks = new = np.array([first_pick(n, seed)])
        while len(picks) < n_select:
            frontier.add(points[new], new)
            rows, least = frontier.best(run)
            bounds, left = frontier.bounds[rows], n_select - len(picks)
            new = rows[pick_among(points[rows], bounds, rows, least, left)]
            picks = np.concatenate([picks, new])
            bar.update(len(picks) - bar.n)
    return picks
