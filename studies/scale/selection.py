"""Greedy k-center over shards: the picks of one machine, by rounds of bounds up and picks down.

A round asks every worker for the points of its shards that may be farthest, with exact distances,
and for the largest bound of its other points.  Among all of these the greedy goes on while the best
comes before every bound outside, as `ad.coreset.k_center_greedy` does.  What a worker remembers
between rounds only saves measuring: one that is new measures its shards against all picks so far.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ad.coreset import first_pick
from ad.determinism import one_thread_per_operation
from ad.frontier import Frontier, keys_of, largest, pick_among
from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.projection import project
from cluster.tasks import Map
from integer.products import Points, as_points
from studies.scale.shards import Shards

HELD = 4  # parts that a process remembers: its own, and that of a worker that was lost
CANDIDATES = 4096  # whose distances among each other the coordinator holds

Projection = tuple[int, int] | None  # dimension and seed


def read_points(shards: Shards, projection: Projection) -> Points:
    """Read shards as points, projected where asked for."""
    patches = shards.patches()
    if projection is not None:
        patches = project(patches, projection[0], seed=projection[1])
    return as_points(patches, f"{shards.folder}, {shards.names[0]} to {shards.names[-1]}")


@dataclass(frozen=True)
class Question:
    """What a worker is asked in a round.

    Parameters
    ----------
    selection : str
        Tells selections apart.
    shards : Shards
        The worker's.
    n_select : int
    projection : Projection
    refill : bool
        Look for candidates anew, all workers in the same round: one would wait for another's.
    since : int
        Number of the first pick that is sent.
    rows, picks : arrays, shapes (n_new,) and (n_new, dim)
        Rows of the new picks among all patches, and their features.
    """

    selection: str
    shards: Shards
    n_select: int
    projection: Projection
    refill: bool
    since: int
    rows: np.ndarray
    picks: np.ndarray

    def __str__(self) -> str:
        """Name the task in messages."""
        return f"{self.shards.folder}, {self.shards.names[0]} to {self.shards.names[-1]}"


@dataclass(frozen=True)
class Answer:
    """A worker's farthest points: rows, exact bounds and features, and its others' largest key."""

    rows: np.ndarray
    bounds: np.ndarray
    values: np.ndarray
    least: int


@lru_cache(maxsize=HELD)
def _remembered(_selection: str, _offset: int) -> list[Frontier]:
    """Give a place for a frontier, empty at first."""
    return []


def forget(_item: object = None) -> None:
    """Free what is remembered."""
    _remembered.cache_clear()


def answer(question: Question) -> Answer | None:
    """Answer a question; ``None`` where earlier picks are needed first."""
    place = _remembered(question.selection, question.shards.offset)
    if place and place[0].n_picks > question.since + len(question.rows):
        place.clear()  # of a selection that was interrupted: ahead of this one
    if not place:
        points = read_points(question.shards, question.projection)
        place.append(Frontier(points, question.n_select, start=question.shards.offset))
    frontier = place[0]
    if frontier.n_picks < question.since:
        return None
    new = slice(frontier.n_picks - question.since, None)  # a task may be done twice
    if len(question.rows[new]):
        frontier.add(as_points(question.picks[new], "picks"), question.rows[new])
    if question.refill:
        frontier.refill()
    with chunk_map() as run:
        places, least = frontier.best(run, refill=question.refill)
    values = frontier.points[places].values.numpy()
    return Answer(frontier.start + places, frontier.bounds[places], values, least)


def _together(answers: Sequence[Answer]) -> Answer:
    """Put the workers' points together, in order of rows; no more than can be held."""
    rows, bounds, values = (
        np.concatenate([getattr(each, name) for each in answers])
        for name in ("rows", "bounds", "values")
    )
    kept, edge = largest(keys_of(bounds, rows), CANDIDATES)
    kept = kept[np.argsort(rows[kept])]
    least = max(edge, *(each.least for each in answers))
    return Answer(rows[kept], bounds[kept], values[kept], least)


def _first(shards: Shards, seed: int, projection: Projection) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pick's row and features, as arrays of one."""
    rows = np.array([first_pick(shards.total, seed)])
    patch = shards.take(rows)
    return rows, patch if projection is None else project(patch, projection[0], seed=projection[1])


def select(
    run: Map,
    shards: Shards,
    n_select: int,
    *,
    seed: int,
    projection_dim: int | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Select as `ad.coreset.k_center_greedy` does from all patches, which no worker holds.

    Parameters
    ----------
    run : Map
        See `cluster.tasks.task_map`.
    shards : Shards
    n_select, seed, projection_dim, progress
        See `ad.coreset.k_center_greedy`.

    Returns
    -------
    array of int64, shape (n_select,)
        Rows among all patches, in greedy order.
    """
    if not 1 <= n_select <= shards.total:
        raise ValueError(f"n_select={n_select} must be 1 to n_patches={shards.total}")
    projection = None if projection_dim is None else (projection_dim, seed)
    rows, picks = _first(shards, seed, projection)

    def deal() -> tuple[str, list[Shards]]:
        parts = shards.parts(run.workers)
        told = repr((shards.hashes, len(parts), n_select, seed, projection)).encode()
        return hashlib.sha256(told).hexdigest(), parts

    (selection, parts), known = deal(), 0

    def ask(since: int, *, refill: bool) -> list[Answer | None]:
        told = (refill, since, rows[since:], picks[since:])
        questions = [Question(selection, part, n_select, projection, *told) for part in parts]
        return list(run(answer, questions, stay=True))

    try:
        with progress_bar(n_select, "coreset", "pick", show=progress) as bar:
            refill = True
            while len(rows) < n_select:
                answers = ask(known, refill=refill)
                if None in answers:  # a new worker, which must be told all picks
                    if len(parts) > HELD * run.workers:  # more than those that are left remember
                        list(run(forget, range(run.workers), stay=True))
                        selection, parts = deal()
                    answers = ask(0, refill=True)
                known, all_of = len(rows), _together(answers)
                points, left = as_points(all_of.values, "candidates"), n_select - known
                with one_thread_per_operation():  # products so small that threads would cost time
                    new = pick_among(points, all_of.bounds, all_of.rows, all_of.least, left)
                refill = not len(new)
                rows = np.concatenate([rows, all_of.rows[new]])
                picks = np.concatenate([picks, all_of.values[new]])
                bar.update(len(rows) - bar.n)
    finally:
        with suppress(ConnectionError):  # a cluster that is lost has forgotten
            list(run(forget, range(run.workers), stay=True))
    return rows
