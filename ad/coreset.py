"""Greedy k-center selection (Roth et al., 2022, algorithm 1): as written, fast, and over shards.

`textbook_coreset` is the specification: it measures every point against every pick.
`k_center_greedy` makes the same picks at a part of that cost.  A point's distance to the picks only
falls, so an old one is an upper bound, and a point whose bound is small need not be measured again:
the points with the largest bounds are candidates, measured while they may still be the farthest,
and picks are made among them while the best comes before every bound outside.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.exact.products import Points, as_points, is_whole, shifted_squares
from ad.parallel import chunk_map
from ad.progress import progress_bar

FEWEST_CANDIDATES = 8192
CANDIDATE_SHARE = 0.1  # of all points, where that is more; fewer mean more rounds
BLOCK = 256  # candidates whose distances among each other are held, and picks measured at a time
TILE = 1024  # points that a thread measures at a time
PICKED = -1  # bound of a pick: before every distance, so that it is never the farthest

# Points are picked in two orders: the larger bound first, and of equal bounds the lower row.  A
# limit is a place in them, (bound, -row), as Python compares tuples: (9, -4) > (9, -7) > (8, 0).
Limit = tuple[float, int]
BEFORE_ALL: Limit = (math.inf, 0)  # no point comes before it
LAST: Limit = (PICKED, 0)  # behind every point but the picks


def textbook_coreset(features: np.ndarray, n_select: int, *, seed: int) -> np.ndarray:
    """Select as `k_center_greedy` must: the farthest point each time, the lowest row at a tie.

    Slow: every pick is measured from every point, in int64 for whole numbers, float64 for floats.
    """
    points = features.astype(np.int64 if is_whole(features, "features") else np.float64)
    nearest = np.full(len(points), np.inf)
    picks = [first_pick(len(points), seed)]
    while len(picks) < n_select:
        nearest = np.minimum(nearest, np.square(points - points[picks[-1]]).sum(axis=1))
        nearest[picks[-1]] = PICKED
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
    progress: bool = True,
) -> np.ndarray:
    """Select ``n_select`` features so that each next one is the farthest from those before it.

    The selection is nested: its first m indices are the selection of m.  From whole numbers it is
    `textbook_coreset`'s on any machine and any number of threads, from floats up to rounding.
    Beside the features it holds a copy (if mapped or not float32), 40 bytes a point, and less than
    100 MB.  To select in a projection, give `ad.projection.project`'s result.

    Parameters
    ----------
    features : array of uint8 (0..127), int8 (-127..127) or float, shape (n_patches, dim)
        May be memory-mapped; it is read once.
    n_select : int
        Size of the coreset, 1 to n_patches.
    seed : int
        Seed of the first centre, which is the first of the result.
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
    points = as_points(features, "features")
    with chunk_map() as run, progress_bar(n_select, "coreset", "pick", show=progress) as bar:
        frontier = Frontier(points, n_select)
        picks = new = np.array([first_pick(n, seed)])
        while len(picks) < n_select:
            frontier.add(points[new], new)
            rows, limit = frontier.farthest(run)
            bounds, left = frontier.bounds[rows], n_select - len(picks)
            new = rows[pick_among(points[rows], bounds, rows, limit, left)]
            picks = np.concatenate([picks, new])
            bar.update(len(picks) - bar.n)
    return picks


def _before(bounds: np.ndarray, rows: np.ndarray, limit: Limit) -> np.ndarray:
    """Tell which points come before a limit."""
    bound, row = limit[0], -limit[1]
    return (bounds > bound) | ((bounds == bound) & (rows < row))


def _farthest(bounds: np.ndarray, rows: np.ndarray, size: int) -> tuple[np.ndarray, Limit]:
    """Return the places of the first ``size`` points, and the limit that the others do not exceed.

    Both orders are packed in one int64, as a sort by one number is fast: bound * 2^32 - row.  Bound
    9 at rows 4 and 7 gives 9 * 2^32 - 4 and, behind it, 9 * 2^32 - 7; both exceed 8 * 2^32 - 0.
    """
    if size >= len(bounds):
        return np.arange(len(bounds)), LAST
    # The bits of a float32 from 0 on, read as a whole number, are in the floats' order.
    keys = (bounds.view(np.int32).astype(np.int64) << 32) - rows
    places = np.argpartition(keys, len(keys) - size - 1)[len(keys) - size - 1 :]
    behind = places[0]
    return places[1:], max(LAST, (bounds[behind].item(), -int(rows[behind])))


class Frontier:
    """Upper bounds of points' squared distances to the picks, exact only where they may matter.

    Parameters
    ----------
    points : Points
    most : int
        Number of picks that there is room for.
    """

    def __init__(self, points: Points, most: int) -> None:
        self.points, self.n_picks = points, 0
        values, norms = points.values, points.norms
        self.picks = Points(values.new_empty((most, values.shape[1])), norms.new_empty(most))
        dtype = norms.numpy().dtype
        self.bounds = np.full(len(points), np.inf if dtype.kind == "f" else 2**31 - 1, dtype)
        self.known = np.zeros(len(points), np.int32)  # so many first picks are in a point's bound
        self.candidates, self.limit = np.arange(0), BEFORE_ALL

    def add(self, picks: Points, rows: Sequence[int] | np.ndarray = ()) -> None:
        """Take further picks, and the rows of those that are among the points."""
        new = slice(self.n_picks, self.n_picks + len(picks))
        self.picks.values[new], self.picks.norms[new] = picks.values, picks.norms
        self.bounds[np.asarray(rows, np.int64)] = PICKED
        self.n_picks = new.stop

    def farthest(self, run: Callable) -> tuple[np.ndarray, Limit]:
        """Return the farthest points' rows, ascending, and the limit that no other comes before.

        Their bounds are exact.  They are at most `BLOCK`, and none only where all points are picks.
        ``run`` is `ad.parallel.chunk_map`'s.
        """
        size = max(FEWEST_CANDIDATES, int(CANDIDATE_SHARE * len(self.points)))
        while True:
            self.candidates = self._lower(self.candidates, run)
            if len(self.candidates) or self.limit == LAST:
                break
            self.candidates, self.limit = _farthest(self.bounds, np.arange(len(self.points)), size)
            self.candidates.sort()
        block, limit = _farthest(self.bounds[self.candidates], self.candidates, BLOCK)
        return np.sort(self.candidates[block]), max(self.limit, limit)

    def _lower(self, rows: np.ndarray, run: Callable) -> np.ndarray:
        """Make bounds exact by all picks; return the rows that still come before the limit."""
        rows = rows[np.argsort(self.known[rows], kind="stable")]  # alike ones share a product
        tiles = (rows[start : start + TILE] for start in range(0, len(rows), TILE))
        return np.concatenate([rows[:0], *run(self._lower_tile, tiles)])

    def _lower_tile(self, rows: np.ndarray) -> np.ndarray:
        """Measure a tile against the picks that its bounds lack; let go of rows on the way."""
        rows = rows[_before(self.bounds[rows], rows, self.limit)]
        points = self.points[rows]
        for start in range(self.known[rows].min(initial=self.n_picks), self.n_picks, BLOCK):
            end = min(start + BLOCK, self.n_picks)
            bounds = np.minimum(self.bounds[rows], _to_nearest(points, self.picks[start:end]))
            self.bounds[rows], self.known[rows] = bounds, end
            staying = np.flatnonzero(_before(bounds, rows, self.limit))
            rows, points = rows[staying], points[staying]
        return rows


def _to_nearest(points: Points, picks: Points) -> np.ndarray:
    """Return each point's squared distance to the nearest of some picks."""
    return shifted_squares(points, picks).amin(dim=1).add_(points.norms).clamp_(min=0).numpy()


def pick_among(
    points: Points, bounds: np.ndarray, rows: np.ndarray, limit: Limit, most: int
) -> np.ndarray:
    """Pick greedily among a few points, in order of rows, whose bounds are exact.

    Return the picks' places: ``most``, or fewer where no point comes before the limit any more.
    """
    between = shifted_squares(points, points).add_(points.norms[:, None]).clamp_(min=0).numpy()
    bounds, picks = bounds.copy(), []
    while len(picks) < min(most, len(rows)):
        farthest = int(bounds.argmax())  # the first of equal ones: the lowest row
        if (bounds[farthest].item(), -int(rows[farthest])) <= limit:
            break
        picks.append(farthest)
        np.minimum(bounds, between[farthest], out=bounds)
        bounds[farthest] = PICKED
    return np.array(picks, dtype=np.int64)


@dataclass(frozen=True)
class TwoRounds:
    """What `k_center_two_rounds` selects, and what is proved of it.

    Parameters
    ----------
    rows : array of int64, shape (n_select,)
        Rows among the patches of all shards, one shard behind the other.
    bank : array, shape (n_select, dim)
        Their features.
    radius : float
        Distance of the farthest patch of all shards from the bank, in steps of the features.
    factor : float
        No other bank of this size has a radius below ``radius / factor``.
    """

    rows: np.ndarray
    bank: np.ndarray
    radius: float
    factor: float


def k_center_two_rounds(
    shards: Sequence[np.ndarray | str | Path],
    n_select: int,
    *,
    seed: int,
    oversampling: float = 1.5,
    run: Callable[[Callable, Iterable], Iterable] = map,
) -> TwoRounds:
    """Select within every shard, and then among what was selected: for banks beyond one machine.

    Malkomes et al. (2015); Ceccarello et al. (2019) for more picks in the first round.  The radius
    is measured, so the factor that is returned holds for these patches, whatever their split.

    Parameters
    ----------
    shards : sequence of arrays, or of ``.npy`` files of them, shape (..., dim)
        Features as in `k_center_greedy`; what ``run`` sends elsewhere is best a file.
    n_select, seed : int
    oversampling : float
        Round one picks so many times its share of ``n_select`` in each shard; above 1.
    run : callable
        A ``map``; over a Dask client: ``lambda *a: client.gather(client.map(*a, pure=False))``.

    Raises
    ------
    ValueError
        When round one leaves no more patches than are asked for, or as `k_center_greedy`.
    """
    sizes = [len(_patches(shard)) for shard in shards]
    shares = [math.ceil(oversampling * n_select * size / sum(sizes)) for size in sizes]
    triples = zip(shards, shares, sizes, strict=True)
    first = [(shard, min(share, size), seed) for shard, share, size in triples]
    rows, values = zip(*run(_select_in_shard, first), strict=True)
    offsets = np.cumsum([0, *sizes[:-1]])
    rows, values = np.concatenate([*map(np.add, offsets, rows)]), np.concatenate(values)
    if len(rows) <= n_select:
        raise ValueError(
            f"round one picks {len(rows)} of {sum(sizes)} patches for n_select={n_select}; "
            f"raise oversampling={oversampling} or select fewer"
        )
    *picks, next_pick = k_center_greedy(values, n_select + 1, seed=seed, progress=False)
    bank = values[picks]
    radius = max(run(_cover_radius, [(shard, bank) for shard in shards]))
    # Greedy picks, and the next one, lie no nearer to each other than it lies to them.  Two of
    # these n_select + 1 points share a centre in any bank, so its radius is at least half of that.
    apart = _cover_radius((values[[next_pick]], bank))
    factor = 2 * radius / apart if apart else 1.0 if radius == 0 else math.inf
    return TwoRounds(rows[picks], bank, radius, factor)


def _patches(shard: np.ndarray | str | Path) -> np.ndarray:
    """Give a shard as patches, shape (n, dim); map it if it is a file."""
    features = shard if isinstance(shard, np.ndarray) else np.load(shard, mmap_mode="r")
    return features.reshape(-1, features.shape[-1])


def _select_in_shard(task: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return a shard's picks: their rows within it, and their features."""
    shard, n_select, seed = task
    patches = _patches(shard)
    rows = k_center_greedy(patches, n_select, seed=seed, progress=False)
    return rows, np.asarray(patches[rows])


def _cover_radius(task: tuple) -> float:
    """Return the distance of a shard's farthest patch from a bank."""
    shard, bank = task
    frontier = Frontier(as_points(_patches(shard), "shard"), len(bank))
    frontier.add(as_points(bank, "bank"))
    with chunk_map() as run:
        rows, _ = frontier.farthest(run)
    return math.sqrt(frontier.bounds[rows].max())
