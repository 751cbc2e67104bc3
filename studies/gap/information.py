"""How much the flags told of the images: the likelihood of the printed values, profiled over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import fsum

import numpy as np

from studies.gap.enumeration import Reading, Reported
from studies.gap.forensics import (
    DECISIVE,
    STEPS,
    flag_window,
    information_table,
    joint_likelihoods,
    log10_factor,
)


@dataclass(frozen=True)
class Profile:
    """Likelihood of the printed values over the information in the flags, J from -1 to 1.

    Parameters
    ----------
    information : list of float
        Youden's J, the same in all models.
    likelihood : list of float
    """

    information: list[float]
    likelihood: list[float]

    @property
    def none(self) -> float:
        """Return the likelihood without information, J = 0."""
        return self.likelihood[self.information.index(0.0)]

    def above(self, least: float) -> list[float]:
        """Return the likelihoods of J of at least ``least``."""
        pairs = zip(self.information, self.likelihood, strict=True)
        return [value for amount, value in pairs if amount >= least - 1e-9]

    def factors(self, least: float) -> tuple[float, float]:
        """Compare no information with J of at least ``least``: log10 Bayes factors.

        Returns
        -------
        float
            Against J spread evenly from ``least`` to 1.
        float
            Against the J in this range that suits the printed values best: no spread of J over
            the range does better.
        """
        values = self.above(least)
        return (
            log10_factor(self.none, fsum(values) / len(values)),
            log10_factor(self.none, max(values)),
        )

    def decisive_from(self) -> float | None:
        """Return the least J from which every larger one is decisively unlikely; ``None`` if none.

        Decisively: its likelihood is at least 100 times below the one without information.
        """
        least = None
        for amount, value in zip(self.information[::-1], self.likelihood[::-1], strict=True):
            if amount <= 0 or value * 10**DECISIVE > self.none:
                return least
            least = amount
        return least

    def upper_bound(self, level: float = 0.95) -> float:
        """Return the J that the true one is below with this probability, J even from -1 to 1."""
        total, below = fsum(self.likelihood), []
        for amount, value in zip(self.information, self.likelihood, strict=True):
            below.append(value)
            if fsum(below) >= level * total:
                return amount
        return 1.0


def information_profile(
    models: Sequence[Reported], reading: Reading, window: float, *, least: int = -1
) -> Profile:
    """Compute the likelihood of the printed values over the information in the flags.

    Parameters
    ----------
    window : float
        See `studies.gap.forensics.flag_window`.
    least : {-1, 0}
        Least information looked at; below 0 the flags are wrong more often than chance.
    """
    amounts = [Fraction(step, STEPS) for step in range(least * STEPS, STEPS + 1)]
    flags = flag_window(reading, window)
    counts = (reading.n_images, reading.n_anomalous)
    tables = np.stack([information_table(*counts, flags, amount) for amount in amounts])
    return Profile(
        [float(amount) for amount in amounts], joint_likelihoods(models, reading, tables)
    )
