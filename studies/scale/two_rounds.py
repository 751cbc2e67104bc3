"""Selection in two rounds: within every shard, then among what was selected, with a certificate.

Malkomes et al. (2015), "Fast distributed k-center clustering with outliers on massive data"; and
Ceccarello, Pietracaprina and Pucci (2019), "Solving k-center clustering (with outliers) in
MapReduce and streaming, almost as accurately as sequentially", for more picks in the first round.
"""

import math
from dataclasses import dataclass

import numpy as np

from ad.coreset import first_pick
from ad.frontier import Frontier, pick_among
from ad.parallel import chunk_map
from cluster.tasks import Map
from integer.products import Points, as_points
from studies.scale.selection import Projection, read_points
from studies.scale.shards import Shards

NEAR = 1.2  # radii below this times r2 are not told apart: most patches need few products then


@dataclass(frozen=True)
class TwoRounds:
    """What two rounds select, and what is proved of it.

    Of n_select + 1 points that lie at least r apart two share a centre, however the centres are
    chosen: no choice of n_select reaches less than r / 2.  Distances are in steps of the features.

    Parameters
    ----------
    rows : array of int64, shape (n_select,)
    first : float
        r1: the farthest patch from its own shard's picks, over all shards.
    second : float
        r2: the farthest pick of round one from the final picks, which lie as far apart.
    radius : float
        R: the farthest patch from the final picks, measured where it is above 1.2 r2, else 1.2 r2.
    """

    rows: np.ndarray
    first: float
    second: float
    radius: float

    @property
    def factor_of_rounds(self) -> float:
        """Return (r1 + r2) / (r2 / 2): so many times the best radius at most, by both rounds."""
        return _factor(self.first + self.second, self.second)

    @property
    def factor(self) -> float:
        """Return R / (r2 / 2): the same by the radius that was measured."""
        return _factor(self.radius, self.second)

    def figures(self) -> dict[str, float | None]:
        """Return the radii and the factors that are finite."""
        found = {"first": self.first, "second": self.second, "radius": self.radius}
        found |= {"factor_of_rounds": self.factor_of_rounds, "factor": self.factor}
        return {key: value if math.isfinite(value) else None for key, value in found.items()}


def _factor(radius: float, apart: float) -> float:
    if radius == 0:
        return 1.0
    return 2 * radius / apart if apart else math.inf


@dataclass(frozen=True)
class Part:
    """One worker's part: how many it picks, or the final picks that its patches are held to.

    Patches that are farther than ``near`` from all final picks are measured.
    """

    shards: Shards
    seed: int
    projection: Projection
    n_select: int
    rows: np.ndarray | None = None
    picks: np.ndarray | None = None
    near: float = 0.0

    def __str__(self) -> str:
        """Name the task in messages."""
        return f"{self.shards.folder}, {self.shards.names[0]}"


def _farthest(frontier: Frontier, places: np.ndarray) -> float:
    """Return the distance of the farthest of some points, whose bounds are exact; 0 of none."""
    return math.sqrt(max(0, frontier.bounds[places].max(initial=0)))


def _greedy(points: Points, n_select: int, seed: int) -> tuple[np.ndarray, float]:
    """Select greedily; return places and the distance of the farthest point that is left."""
    frontier = Frontier(points, n_select)
    picks = new = np.array([first_pick(len(points), seed)])
    with chunk_map() as run:
        while True:
            frontier.add(points[new], new)
            places, least = frontier.best(run)
            if len(picks) == n_select:
                return picks, _farthest(frontier, places)
            bounds, left = frontier.bounds[places], n_select - len(picks)
            new = places[pick_among(points[places], bounds, places, least, left)]
            picks = np.concatenate([picks, new])


def pick_part(part: Part) -> tuple[np.ndarray, np.ndarray, float]:
    """Select within a shard: rows among all patches, their points, and the radius."""
    points = read_points(part.shards, part.projection)
    places, radius = _greedy(points, min(part.n_select, len(points)), part.seed)
    return part.shards.offset + places, points[places].values.numpy(), radius


def radius_of_part(part: Part) -> float:
    """Return the distance of a part's farthest patch from the final picks, ``near`` at least."""
    frontier = Frontier(
        read_points(part.shards, part.projection), part.n_select, start=part.shards.offset
    )
    frontier.add(as_points(part.picks, "picks"), part.rows)
    with chunk_map() as run:
        return max(part.near, _farthest(frontier, frontier.farther(part.near**2, run)))


def select_in_two_rounds(
    run: Map,
    shards: Shards,
    n_select: int,
    *,
    seed: int,
    oversampling: float,
    projection_dim: int | None = None,
) -> TwoRounds:
    """Select within every shard, and then among the selected: two exchanges, not hundreds.

    Round one picks ``oversampling`` times its share of ``n_select`` in each shard.  The published
    factor of 4 needs ``n_select`` picks in each; the certificate that is returned needs nothing.

    Parameters
    ----------
    run : Map
    shards : Shards
    n_select, seed, projection_dim
        See `ad.coreset.k_center_greedy`.
    oversampling : float
        Above 1.

    Raises
    ------
    ValueError
        When round one leaves no more patches than are asked for.
    """
    projection = None if projection_dim is None else (projection_dim, seed)
    each = shards.parts(len(shards))
    shares = [max(1, math.ceil(oversampling * n_select * s.total / shards.total)) for s in each]
    parts = [Part(s, seed, projection, n) for s, n in zip(each, shares, strict=True)]
    rows, values, radii = zip(*run(pick_part, parts), strict=True)
    rows, values = np.concatenate(rows), np.concatenate(values)
    if len(rows) <= n_select:
        raise ValueError(
            f"round one picks {len(rows)} of {shards.total} patches for n_select={n_select}; "
            f"raise oversampling={oversampling} or select fewer"
        )
    places, second = _greedy(as_points(values, "picks of round one"), n_select, seed)
    final = rows[places], values[places], NEAR * second
    held = shards.parts(run.workers)  # the picks go to each worker once
    measured = run(radius_of_part, [Part(s, seed, projection, n_select, *final) for s in held])
    return TwoRounds(final[0], max(radii), second, max(measured))
