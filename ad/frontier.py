"""What a greedy k-center selection knows: bounds that are exact only where they may matter.

A point's distance to the picks only falls, so an old one is an upper bound, and a point whose bound
is small need not be measured again.
"""

import numpy as np

from ad.exact.products import Points, shifted_squares

FEWEST_CANDIDATES = 8192
CANDIDATE_SHARE = 0.1  # of all points, where that is more; fewer mean more rounds
BLOCK = 256  # candidates whose distances among each other are held, and picks measured at a time
TILE = 1024  # points that a thread measures at a time
NOTHING = -(2**32)  # a key that only picks do not exceed


def keys_of(bounds: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Order points in int64: the larger bound first, then the lower row, by the larger key."""
    # The bits of an int32, or of a float32 that is not negative, are in its order.
    return (bounds.view(np.int32).astype(np.int64) << 32) - rows


def largest(keys: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Return the places of the largest keys, in order, and the largest key of the others."""
    if size >= len(keys):
        return np.arange(len(keys)), NOTHING
    places = np.argpartition(keys, len(keys) - size - 1)[len(keys) - size - 1 :]
    return np.sort(places[1:]), max(NOTHING, int(keys[places[0]]))


def _nearest(points: Points, picks: Points) -> np.ndarray:
    """Return each point's squared distance to the nearest of some picks."""
    return shifted_squares(points, picks).amin(dim=1).add_(points.norms).clamp_(min=0).numpy()


class Frontier:
    """Upper bounds of points' squared distances to the picks, and the points that may be farthest.

    Parameters
    ----------
    points : Points
        Some or all of the points that are picked among; the first has row ``start``.
    most : int
        Number of picks that there is room for.
    """

    def __init__(self, points: Points, most: int, *, start: int = 0) -> None:
        self.points, self.start, self.n_picks = points, start, 0
        values, norms = points.values, points.norms
        self.picks = Points(values.new_empty((most, values.shape[1])), norms.new_empty(most))
        dtype = norms.numpy().dtype
        self.bounds = np.full(len(points), np.inf if dtype.kind == "f" else 2**31 - 1, dtype)
        self.known = np.zeros(len(points), np.int32)  # so many first picks are in a point's bound
        self.candidates, self.outside = np.arange(0), 0

    def add(self, picks: Points, rows: np.ndarray) -> None:
        """Take further picks, whose rows may be other points' as well."""
        new = slice(self.n_picks, self.n_picks + len(rows))
        self.picks.values[new], self.picks.norms[new] = picks.values, picks.norms
        own = rows[(rows >= self.start) & (rows < self.start + len(self.points))] - self.start
        self.bounds[own] = -1  # before every distance, and stays so
        self.n_picks = new.stop

    def refill(self) -> None:
        """Take the points with the largest bounds as candidates."""
        size = max(FEWEST_CANDIDATES, int(CANDIDATE_SHARE * len(self.points)))
        self.candidates, self.outside = largest(self.keys(np.arange(len(self.points))), size)

    def best(self, run, *, refill: bool = True) -> tuple[np.ndarray, int]:
        """Return places of the farthest points, in order of rows, and the others' largest key.

        Their bounds are exact.  They are at most `BLOCK`, and none only where all are picked, or
        with no ``refill`` where no candidate is left.  ``run`` is `ad.parallel.chunk_map`'s.
        """
        while True:
            self.candidates = self._lower(self.candidates, self.outside, run)
            if len(self.candidates) or self.outside == NOTHING or not refill:
                break
            self.refill()
        block, edge = largest(self.keys(self.candidates), BLOCK)
        return np.sort(self.candidates[block]), max(self.outside, edge)

    def farther(self, squared: float, run) -> np.ndarray:
        """Return places of all points farther than a squared distance; their bounds are exact."""
        bound = np.asarray(squared, self.bounds.dtype)
        return self._lower(np.arange(len(self.points)), int(keys_of(bound, np.int64(0))), run)

    def keys(self, places: np.ndarray) -> np.ndarray:
        """Return the keys of points' bounds."""
        return keys_of(self.bounds[places], self.start + places)

    def _lower(self, places: np.ndarray, least: int, run) -> np.ndarray:
        """Lower bounds by all picks; return the places whose keys stay above least."""
        places = places[np.argsort(self.known[places], kind="stable")]  # alike ones share a product
        tiles = (places[start : start + TILE] for start in range(0, len(places), TILE))
        left = list(run(lambda tile: self._lower_tile(tile, least), tiles))
        return np.concatenate([places[:0], *left])

    def _lower_tile(self, places: np.ndarray, least: int) -> np.ndarray:
        places = places[self.keys(places) > least]
        points = self.points[places]
        for at in range(self.known[places].min(initial=self.n_picks), self.n_picks, BLOCK):
            end = min(at + BLOCK, self.n_picks)
            picks = Points(self.picks.values[at:end], self.picks.norms[at:end])
            bounds = np.minimum(self.bounds[places], _nearest(points, picks))
            self.bounds[places], self.known[places] = bounds, end
            staying = np.flatnonzero(keys_of(bounds, self.start + places) > least)
            places, points = places[staying], points[staying]
        return places


def pick_among(
    points: Points, bounds: np.ndarray, rows: np.ndarray, least: int, most: int
) -> np.ndarray:
    """Pick greedily among a few points, in order of rows, whose bounds are exact.

    Return the picks' places: ``most``, or fewer where no key is above ``least`` any more.
    """
    between = shifted_squares(points, points).add_(points.norms[:, None]).clamp_(min=0).numpy()
    bounds, picks = bounds.copy(), []
    while len(picks) < min(most, len(rows)):
        farthest = int(bounds.argmax())  # the first of equal ones: the lowest row
        if keys_of(bounds[farthest], rows[farthest]) <= least:
            break
        picks.append(farthest)
        np.minimum(bounds, between[farthest], out=bounds)
        bounds[farthest] = -1
    return np.array(picks, dtype=np.int64)
