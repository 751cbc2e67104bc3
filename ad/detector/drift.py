"""An alarm for images that are no longer like the training images, whatever their verdicts.

Watched are an image's score against each bank, its brightness and its contrast. Each gets a
conformal p-value against the normals that the detector keeps and all images before it, ties broken
at random: independent and uniform while images come as the training images did (Vovk, Gammerman
and Shafer, 2005). A *martingale* bets against that: its capital grows where p-values crowd at one
end ("Simple Jumper", Vovk et al., 2021). By Ville's inequality it exceeds 1 / a with probability
at most a while nothing changes, however long one watches.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ad.determinism import sha256_array
from ad.files import read_json, write_json

LEVELS = 1024  # that values are rounded to: the state stays small, and the p-values exact
STAKES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # bets on small p-values, on none, on large ones
JUMP = 0.01  # share of the capital that moves from one stake to another before a bet
DEFECTS = 0.1  # share of images that may be defective without an alarm: each costs a stake
# Capital stays a number of float64 for ever: the upper end only lowers it, and what the lower adds
# in as many images as there will ever be is nothing beside 1 / a.
POOREST, RICHEST = 1e-100, 1e100


class Drift:
    """Watches image after image; references are the normals' own, for each value watched."""

    def __init__(self, references: Sequence[np.ndarray]) -> None:
        self.of = sha256_array(np.concatenate(references).astype(float))
        self.low = np.array([np.log1p(min(own) / 4) for own in references])
        self.high = np.array([np.log1p(max(own) * 4 + 1e-9) for own in references])
        levels = (self._levels(number, own) for number, own in enumerate(references))
        self.counts = np.array([np.bincount(own, minlength=LEVELS) for own in levels])
        self.capital = np.full((len(references), len(STAKES)), 1 / len(STAKES))
        self.lowest = np.ones(len(references))  # capital of each
        self.seen = 0
        self.since = np.zeros(len(references), dtype=int)  # images seen when it was last near it

    def _levels(self, number: int, values: np.ndarray) -> np.ndarray:
        share = (np.log1p(values) - self.low[number]) / (self.high[number] - self.low[number])
        return np.clip(share * LEVELS, 0, LEVELS - 1).astype(int)

    def add(self, values: np.ndarray) -> float:
        """Take an image's values, in the order of the references; return the capital, 1 at first.

        With probability a at most it ever exceeds 1 / a while images are like the training images
        and at most `DEFECTS` of them are not.
        """
        ties = np.random.default_rng(self.seen).random(len(values))
        for n, value in enumerate(values):
            counts, level = self.counts[n], self._levels(n, value)
            counts[level] += 1
            above = counts[level + 1 :].sum()
            p_value = (above + ties[n] * counts[level]) / counts.sum()
            own = (1 - JUMP) * self.capital[n] + JUMP * self.capital[n].sum() / len(STAKES)
            bets = 1 + np.array(STAKES) * (p_value - 0.5)
            # A defect's p-value is near 0: what a stake would win by them is taken off beforehand.
            fair = 1 + DEFECTS * np.maximum(0, -np.array(STAKES) / 2)
            self.capital[n] = np.clip(own * bets / fair, POOREST, RICHEST)
        self.seen += 1
        total = self.capital.sum(axis=1)
        self.lowest = np.minimum(self.lowest, total)
        # Not yet clearly above its lowest: what makes it grow is still to come.
        self.since[total <= 2 * self.lowest] = self.seen
        # Any of the values may speak; that there are several is paid for.
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
            "of": self.of,
            "seen": self.seen,
            "since": self.since.tolist(),
            "lowest": self.lowest.tolist(),
            "capital": self.capital.tolist(),
            "counts": [{str(n): int(row[n]) for n in np.flatnonzero(row)} for row in self.counts],
        }
        write_json(path, state)

    def restore(self, path: Path) -> None:
        """Read what `save` wrote into a watch that has seen nothing yet.

        Raises
        ------
        ValueError
            When it is no state of a watch of this detector.
        """
        try:
            state = read_json(path)
            if state["of"] != self.of:
                raise ValueError
            counts = np.zeros_like(self.counts)
            for row, own in zip(counts, state["counts"], strict=True):
                row[[int(level) for level in own]] = list(own.values())
            since, lowest, capital = (np.array(state[n]) for n in ("since", "lowest", "capital"))
            seen = state["seen"]
        except (TypeError, ValueError, LookupError, AttributeError):
            raise ValueError(
                f"{path}: no state of a watch of this detector; remove it to start anew"
            ) from None
        self.counts, self.capital, self.seen = counts, capital, seen
        self.since, self.lowest = since, lowest
