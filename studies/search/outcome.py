"""What a search found, beside what the test labels say afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from ad.metrics import both_classes, f1_score, image_auroc
from studies.search.images import DECIDING
from studies.search.judge import Scored, kind_aurocs
from studies.search.trials import Tried
from studies.shared.uncertainty import auroc_difference, auroc_interval, paired_interval, spearman

FEWEST = 8  # trials that a correlation is taken over
REPEATS = 2000  # of bootstraps


@dataclass(frozen=True)
class Correlation:
    """Rank correlation over some trials, with its interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def differences_to_best(
    normal: np.ndarray, synthetic: np.ndarray, *, seed: int, repeats: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Say how far each trial lies below the best one, and how well that is known.

    Held-out images are drawn again, each with its synthetic anomalies, the same ones for every
    trial.  The best of many is best by luck too, and no resampling of images shows that part.

    Parameters
    ----------
    normal : array of float, shape (n_trials, n_images)
        Scores of held-out normals.
    synthetic : array of float, shape (n_trials, n_kinds, n_images)
        Scores of the same images with anomalies of each kind.

    Returns
    -------
    differences, errors : arrays of float, shape (n_trials,)
        Objective of the best minus the trial's own, and the standard error of that; 0 for the best.
    """
    n_images = normal.shape[1]

    def objectives(images: np.ndarray) -> np.ndarray:
        # Mean AUROC of the kinds: an anomalous score above a normal one counts 1, an equal one 1/2.
        own, pasted = normal[:, None, :, None][:, :, images], synthetic[:, :, None, images]
        return ((pasted > own) + 0.5 * (pasted == own)).mean(axis=(1, 2, 3))

    generator = np.random.default_rng(seed)
    values = objectives(np.arange(n_images))
    best = int(values.argmax())
    drawn = np.stack(
        [objectives(generator.integers(0, n_images, n_images)) for _ in range(repeats)]
    )
    return values[best] - values, (drawn[:, [best]] - drawn).std(axis=0, ddof=1)


@dataclass(frozen=True)
class Outcome:
    """All trials of a search with their scores.

    Parameters
    ----------
    tried : sequence of Tried
        The default first.
    scored : sequence of Scored
    labels : array or None
        Of the test images; nothing is rated where they are unknown or of one class.
    seed : int
        Of the resampling.
    """

    tried: Sequence[Tried]
    scored: Sequence[Scored]
    labels: np.ndarray | None
    seed: int

    @property
    def rated(self) -> bool:
        """Tell whether the labels rate the trials."""
        return self.labels is not None and both_classes(self.labels)

    @cached_property
    def values(self) -> np.ndarray:
        """What the search sees of each trial."""
        return np.array([each.value for each in self.tried])

    @property
    def chosen(self) -> int:
        """The best trial by synthetic anomalies; the first of equals."""
        return int(self.values.argmax())

    @cached_property
    def behind(self) -> tuple[np.ndarray, np.ndarray]:
        """How far each trial lies below the best, and the standard error of that."""
        pasted = [[each.pasted[kind] for kind in DECIDING] for each in self.scored]
        normal = np.stack([each.normal for each in self.scored])
        return differences_to_best(normal, np.array(pasted), seed=self.seed, repeats=REPEATS // 4)

    @property
    def alike(self) -> np.ndarray:
        """Mark the trials within one standard error of the best."""
        return self.behind[0] <= self.behind[1]

    @cached_property
    def aurocs(self) -> np.ndarray:
        """Test AUROC of each trial."""
        return np.array([image_auroc(self.labels, each.test) for each in self.scored])

    @cached_property
    def f1s(self) -> np.ndarray:
        """Test F1 of each trial; the threshold is the largest score of a held-out normal."""
        return np.array([f1_score(self.labels, e.test > e.normal.max()) for e in self.scored])

    @property
    def oracle(self) -> int:
        """The best trial by the test labels."""
        return int(self.aurocs.argmax())

    @cached_property
    def kinds(self) -> list[dict[str, float]]:
        """AUROC by kind of synthetic anomaly, of each trial."""
        return [kind_aurocs(each.normal, each.pasted) for each in self.scored]

    def marks(self) -> dict[str, int]:
        """Name the trials that are looked at."""
        marks = {"default": 0, "chosen without labels": self.chosen}
        return marks | ({"oracle": self.oracle} if self.rated else {})

    def interval(self, number: int) -> str:
        """Write a trial's test AUROC with its interval."""
        low, high = auroc_interval(self.labels, self.scored[number].test, seed=self.seed)
        return f"{self.aurocs[number]:.3f} ({low:.3f} to {high:.3f})"

    def difference(self, first: int, second: int) -> tuple[float, float, float]:
        """Return test AUROC of ``second`` minus ``first`` with its interval, images paired."""
        scores = [self.scored[number].test for number in (first, second)]
        return auroc_difference(self.labels, *scores, seed=self.seed)

    def correlation(self, among: np.ndarray | None = None, kind: str | None = None) -> Correlation:
        """Correlate what the search sees with test AUROC, over all trials or some.

        Parameters
        ----------
        among : array of bool, optional
            The trials that count.
        kind : str, optional
            AUROC of this kind of synthetic anomaly instead of the mean over the deciding ones.
        """
        seen = self.values if kind is None else np.array([each[kind] for each in self.kinds])
        among = np.ones(len(seen), dtype=bool) if among is None else among
        pair = seen[among], self.aurocs[among]
        low, high = paired_interval(spearman, *pair, seed=self.seed, repeats=REPEATS)
        return Correlation(spearman(*pair), low, high, int(among.sum()))

    @property
    def better_half(self) -> np.ndarray:
        """Mark the better half of the trials by synthetic anomalies, where a choice is made."""
        return self.values >= np.median(self.values)

    @cached_property
    def half(self) -> Correlation:
        """The correlation in the better half."""
        return self.correlation(self.better_half)

    @cached_property
    def whole(self) -> Correlation:
        """The correlation over all trials."""
        return self.correlation()

    @cached_property
    def carrier(self) -> tuple[str, object, Correlation] | None:
        """The one value of a setting that carries most of the correlation over all trials.

        Its setting, itself, and the correlation without its trials, the lowest such; None where
        no value leaves enough trials on both sides.
        """
        choices = [asdict(each.choice) for each in self.tried]
        found = []
        for setting in choices[0]:
            for value in sorted({choice[setting] for choice in choices}):
                without = np.array([choice[setting] != value for choice in choices])
                if without.sum() >= FEWEST and 2 <= (~without).sum() <= len(choices) / 2:
                    rho = spearman(self.values[without], self.aurocs[without])
                    found.append((rho, setting, value, without))
        if not found:
            return None
        _, setting, value, without = min(found, key=lambda each: each[0])
        return setting, value, self.correlation(without)


def look_back(
    tried: Sequence[Tried],
    afterwards: Callable[[object], Scored],
    labels: np.ndarray | None,
    *,
    seed: int,
) -> Outcome:
    """Score every configuration that was tried once more, on everything."""
    return Outcome(tried, [afterwards(each.choice) for each in tried], labels, seed)
