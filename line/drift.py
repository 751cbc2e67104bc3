"""An alarm for images that are no longer like the training images, whatever their verdicts.

Each image gets a conformal p-value against the held-out normals and all images before it, a bank's
scores at a time, ties broken at random: independent and uniform while images come as the training
images did (Vovk, Gammerman and Shafer, 2005).  A *martingale* bets against that: its capital grows
where p-values crowd at one end ("Simple Jumper", Vovk et al., 2021).  By Ville's inequality it
exceeds 1 / a with probability at most a while nothing changes, however long one watches.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ad.files import read_json, write_json

LEVELS = 1024  # that scores are rounded to: the state stays small, and the p-values exact
STAKES = (-1.0, 0.0, 1.0)  # bets on small p-values, on none, on large ones
JUMP = 0.01  # share of the capital that moves from one stake to another before a bet
DEFECTS = 0.1  # share of images that may be defective without an alarm: each costs a stake


class Drift:
    """Watches image after image.

    Parameters
    ----------
    held_out : sequence of array
        Each fold's scores of its held-out normals.
    seed : int
        Of the random order of ties.
    """

    def __init__(self, held_out: Sequence[np.ndarray], *, seed: int = 0) -> None:
        everything = np.concatenate(list(held_out))
        self.low, self.high = np.log1p([everything.min() / 4, everything.max() * 4]).tolist()
        self.seed, self.seen = seed, 0
        self.counts = np.array(
            [np.bincount(self._levels(own), minlength=LEVELS) for own in held_out]
        )
        self.capital = np.full((len(held_out), len(STAKES)), 1 / len(STAKES))
        self.lowest = np.ones(len(held_out))  # capital of each fold
        self.since = np.zeros(len(held_out), dtype=int)  # images seen when it was there

    def _levels(self, scores: np.ndarray) -> np.ndarray:
        share = (np.log1p(np.asarray(scores, dtype=float)) - self.low) / (self.high - self.low)
        return np.clip(share * LEVELS, 0, LEVELS - 1).astype(int)

    def add(self, fold_scores: np.ndarray) -> float:
        """Take an image's scores, one a fold; return the capital, 1 at the start.

        With probability a at most it ever exceeds 1 / a while images are like the training images
        and at most `DEFECTS` of them are not.
        """
        levels = self._levels(fold_scores)
        ties = np.random.default_rng([self.seed, self.seen]).random(len(levels))
        for fold, level in enumerate(levels):
            counts = self.counts[fold]
            counts[level] += 1
            above = counts[level + 1 :].sum()
            p_value = (above + ties[fold] * counts[level]) / counts.sum()
            own = (1 - JUMP) * self.capital[fold] + JUMP * self.capital[fold].sum() / len(STAKES)
            bets = 1 + np.array(STAKES) * (p_value - 0.5)
            # A defect's p-value is near 0: what a stake would win by them is taken off beforehand.
            fair = 1 + DEFECTS * np.maximum(0, -np.array(STAKES) / 2)
            self.capital[fold] = own * bets / fair
        self.seen += 1
        total = self.capital.sum(axis=1)
        self.since[total < self.lowest] = self.seen
        self.lowest = np.minimum(self.lowest, total)
        # Any of the folds may speak; that there are several is paid for.
        return float(total.max() / len(total))

    def alarm(self, value: float, rate: float) -> str:
        """Say that images have changed, and since when; empty while they have not."""
        if value < 1 / rate:
            return ""
        return (
            f"the images are no longer like the training images, since about image "
            f"{self.since[self.capital.sum(axis=1).argmax()] + 1} of {self.seen}"
        )

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = {
            "seed": self.seed,
            "seen": self.seen,
            "since": self.since.tolist(),
            "lowest": self.lowest.tolist(),
            "capital": self.capital.tolist(),
            "counts": [dict(_pairs(row)) for row in self.counts],
        }
        write_json(path, state)

    def restore(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            When it is no state of a watch of this detector.
        """
        try:
            state = read_json(path)
            counts = np.zeros_like(self.counts)
            for row, own in zip(counts, state["counts"], strict=True):
                row[[int(level) for level in own]] = list(own.values())
            capital = np.array(state["capital"], dtype=float)
            if capital.shape != self.capital.shape or (counts.sum(axis=1) < 1).any():
                raise ValueError("of another detector")
            since, lowest = (
                np.array(state["since"], dtype=int),
                np.array(state["lowest"], dtype=float),
            )
            seed, seen = int(state["seed"]), int(state["seen"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError) as error:
            raise ValueError(
                f"{path}: no state of this detector's watch ({error}); remove it to start anew"
            ) from None
        self.counts, self.capital, self.seed, self.seen = counts, capital, seed, seen
        self.since, self.lowest = since, lowest


def _pairs(row: np.ndarray) -> list[tuple[str, int]]:
    return [(str(level), int(row[level])) for level in np.flatnonzero(row)]
