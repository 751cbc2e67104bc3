"""What a comparison of two records is made of: states, findings, differences by key."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

EQUAL, ROUNDING, DIFFERS = "equal", "rounding", "differs"
HARMLESS, UNKNOWN = "no consequence", "unknown"
# Relative to the features' standard deviation: what a change of summation order gives at most,
# and what half precision gives.
ROUNDED, REDUCED = 1e-4, 3e-2

Answer = tuple[str, str]  # a state and its words


@dataclass(frozen=True)
class Finding:
    """What one stage shows.

    Parameters
    ----------
    stage : str
    state : {"equal", "rounding", "differs", "no consequence", "unknown"}
        ``rounding``: differs by no more than another summation order gives.  ``no consequence``:
        differs, but nothing that depends on it does.  ``unknown``: a record lacks it.
    words : str
    """

    stage: str
    state: str
    words: str


def few(names: Sequence[object]) -> str:
    """Name three of many."""
    return ", ".join(map(str, names[:3])) + (f" and {len(names) - 3} more" * (len(names) > 3))


def changed(a: Mapping, b: Mapping) -> list[str]:
    """List the keys of both whose values differ."""
    return [key for key in a if key in b and a[key] != b[key]]


def permuted(a: Mapping, b: Mapping) -> bool:
    """Tell whether the same values stand at other keys."""
    values = (Counter(map(repr, each.values())) for each in (a, b))
    return a != b and a.keys() == b.keys() and next(values) == next(values)


def one_sided(a: Mapping, b: Mapping, what: str) -> Answer | None:
    """Find keys that one record lacks; also where the values stand under new names."""
    only = sorted(a.keys() ^ b.keys())
    if not only:
        return None
    left, right = ([v for k, v in x.items() if k not in y] for x, y in ((a, b), (b, a)))
    same = Counter(map(repr, left)) == Counter(map(repr, right))
    words = "the same values under other ids" if same else "stand in one run only"
    return DIFFERS, f"{what} {words}: {len(only)} ids, {few(only)}"


def relative(one: float, two: float) -> float:
    """Return the difference of two numbers relative to the larger."""
    return abs(one - two) / max(abs(one), abs(two), np.finfo(float).tiny)


def compare_scores(a: Mapping[str, float], b: Mapping[str, float], what: str) -> Answer:
    """Compare scores by id."""
    moved = changed(a, b)
    if not moved:
        return EQUAL, f"{len(a)} {what} are equal"
    largest = max(relative(a[name], b[name]) for name in moved)
    words = f"{len(moved)} of {len(a)} {what} differ, by up to {largest:.2g} relative"
    return (ROUNDING if largest <= ROUNDED else DIFFERS), words
