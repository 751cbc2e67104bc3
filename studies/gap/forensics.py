"""How likely each cause makes the printed values, all causes on an equal footing.

Every cause treats the images of a class alike, so it is a table of probabilities: how often TP
anomalous and FP normal images are flagged in all.  How these fall into the two parts is then
hypergeometric, whatever the cause.  All causes get the same distribution of the number of flags;
they differ in how many of a given number of flags hit.  Probabilities are ratios of integers,
turned into floats once, and added in a fixed order: they are the same on every machine.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import comb, fsum, log10

import numpy as np

from studies.gap.enumeration import Reading, Reported, explanations, splits

NO_INFORMATION = "no information in the flags"
SOME_INFORMATION = "some information, as much in every model"
OWN_INFORMATION = "some information, each model its own"
IN_ORDER = "working, rows in order"
DECISIVE = 2.0  # log10 of a Bayes factor; Jeffreys, Theory of Probability, appendix B
STEPS = 100  # steps of the information from 0 to 1


def strength(factor: float) -> str:
    """Name the weight of a log10 Bayes factor on Jeffreys' scale (half a unit a grade)."""
    grades = ("barely worth a mention", "substantial", "strong", "very strong", "decisive")
    return grades[int(min(abs(factor) / 0.5, 4))]


def flag_window(reading: Reading, share: float) -> range:
    """List the numbers of flags within ``share`` of the number of anomalous images, both ends in.

    At least one and not all images are flagged in each.
    """
    exact = Fraction(str(share))
    low, high = (round(reading.n_anomalous * (1 + sign * exact)) for sign in (-1, 1))
    return range(max(1, low), min(reading.n_images - 1, high) + 1)


@cache
def hits_given_flags(
    n_images: int, n_anomalous: int, flags: int, information: Fraction
) -> tuple[float, ...]:
    """Distribution of TP among a given number of flags.

    Information is Youden's J, sensitivity minus false-alarm rate.  Rates (s, f) that expect
    ``flags`` flags, s P + f N = flags, and differ by J have the odds ratio s (1 - f) / (f (1 - s));
    given the number of flags, TP is Fisher's noncentral hypergeometric with it.  J = 0 is the plain
    hypergeometric: flags given to images at random.  Where J is more than so many flags allow, it
    is what they allow.

    Returns
    -------
    tuple of float, length n_anomalous + 1
    """
    n, positives, negatives = n_images, n_anomalous, n_images - n_anomalous
    top = min(Fraction(flags, positives), Fraction(n - flags, negatives))
    low = -min(Fraction(flags, negatives), Fraction(n - flags, positives))
    youden = min(max(Fraction(information), low), top)
    sensitivity = (flags + negatives * youden) / n
    alarms = (flags - positives * youden) / n
    for_, against = sensitivity * (1 - alarms), alarms * (1 - sensitivity)
    scale = for_.denominator * against.denominator
    up, down = int(for_ * scale), int(against * scale)
    first, last = max(0, flags - negatives), min(flags, positives)
    weights = [
        comb(positives, tp) * comb(negatives, flags - tp) * up ** (tp - first) * down ** (last - tp)
        for tp in range(first, last + 1)
    ]
    total = sum(weights)
    hits = [each / total for each in weights]
    return (*[0.0] * first, *hits, *[0.0] * (positives - last))


@cache
def information_table(
    n_images: int, n_anomalous: int, window: range, information: Fraction
) -> np.ndarray:
    """Make the cause whose flags carry ``information``; every number of flags is as likely.

    Returns
    -------
    array of float64, shape (n_anomalous + 1, n_normal + 1)
        Entry (TP, FP) is a probability.
    """
    table = np.zeros((n_anomalous + 1, n_images - n_anomalous + 1))
    for flags in window:
        for tp, chance in enumerate(hits_given_flags(n_images, n_anomalous, flags, information)):
            if chance:
                table[tp, flags - tp] = chance / len(window)
    return table


def working_counts(n_images: int, working: float) -> list[Fraction]:
    """Distribution of how many of ``n_images`` are right at a rate spread evenly from ``working``.

    The mean of binomials over rates from w to 1 is P(Bin(n + 1, w) <= k) / ((n + 1) (1 - w)).
    """
    low = Fraction(str(working))
    if low == 1:
        return [Fraction(int(k == n_images)) for k in range(n_images + 1)]
    trials, below, counts = n_images + 1, Fraction(0), []
    for k in range(trials):
        below += comb(trials, k) * low**k * (1 - low) ** (trials - k)
        counts.append(below / (trials * (1 - low)))
    return counts


def equal_footing(
    hits: Sequence[Fraction], alarms: Sequence[Fraction], window: range
) -> np.ndarray:
    """Give a cause with independent TP and FP the even distribution of flags of all causes.

    Parameters
    ----------
    hits, alarms : sequences of Fraction
        Distributions of TP and FP.  Numbers of flags that they exclude stay excluded.

    Returns
    -------
    array of float64, shape (n_anomalous + 1, n_normal + 1)
    """
    table = np.zeros((len(hits), len(alarms)))
    possible = []
    for flags in window:
        pairs = range(max(0, flags - len(alarms) + 1), min(flags, len(hits) - 1) + 1)
        chances = {tp: hits[tp] * alarms[flags - tp] for tp in pairs}
        total = sum(chances.values())
        if total:
            possible.append(flags)
            for tp, chance in chances.items():
                table[tp, flags - tp] = float(chance / total)
    return table / max(1, len(possible))


def standard_causes(reading: Reading, *, working: float, window: float) -> dict[str, np.ndarray]:
    """Build the causes that the study compares.

    Each is a table over (TP, FP), or a stack of tables, equally likely, of which all models have
    the same one.

    Parameters
    ----------
    working : float
        A working detector has a sensitivity and a specificity of at least this, evenly spread up
        to 1; with 1 it is perfect.
    window : float
        See `flag_window`.
    """
    return dict(
        _causes(reading.n_anomalous, reading.n_normal, working, flag_window(reading, window))
    )


@cache
def _causes(positives: int, negatives: int, working: float, flags: range) -> dict[str, np.ndarray]:
    """Build the tables of `standard_causes` once for each composition of a test set."""
    counts = positives + negatives, positives
    hits, quiet = working_counts(positives, working), working_counts(negatives, working)
    alarms = quiet[::-1]
    any_hits = [Fraction(1, positives + 1)] * (positives + 1)
    any_alarms = [Fraction(1, negatives + 1)] * (negatives + 1)
    amounts = [Fraction(step, STEPS) for step in range(1, STEPS + 1)]
    some = [information_table(*counts, flags, amount) for amount in amounts]
    return {
        NO_INFORMATION: information_table(*counts, flags, Fraction(0)),
        SOME_INFORMATION: np.stack(some),
        OWN_INFORMATION: sum(some) / len(some),
        IN_ORDER: equal_footing(hits, alarms, flags),
        "threshold too high": equal_footing(any_hits, alarms, flags),
        "threshold too low": equal_footing(hits, any_alarms, flags),
        "labels flipped": equal_footing(hits[::-1], quiet, flags),
    }


@cache
def shares(reported: Reported, reading: Reading) -> tuple[float, ...]:
    """Chance that TP and FP fall into the two parts as each explanation says.

    Within a class all images are alike: which of them are flagged is a draw without replacement.
    """
    found = explanations(reported, reading)
    keys = ("public_images", "public_anomalous", "public_tp", "public_fp", "tp", "fp")
    positives, negatives = reading.n_anomalous, reading.n_normal
    chances = []
    for size, count, one_tp, one_fp, tp, fp in zip(
        *(found[key].tolist() for key in keys), strict=True
    ):
        ways = comb(count, one_tp) * comb(positives - count, tp - one_tp)
        ways *= comb(size - count, one_fp) * comb(negatives - size + count, fp - one_fp)
        chances.append(ways / (comb(positives, tp) * comb(negatives, fp)))
    return tuple(chances)


def split_likelihoods(reported: Reported, reading: Reading, tables: np.ndarray) -> np.ndarray:
    """Probability of a model's two printed values, for each split and each cause.

    Parameters
    ----------
    tables : array of float64, shape (causes, n_anomalous + 1, n_normal + 1)

    Returns
    -------
    array of float64, shape (n_splits, causes)
    """
    found, n_splits = explanations(reported, reading), len(splits(reading)[0])
    chances = np.array(shares(reported, reading), dtype=np.float64)
    weighted = chances * tables[:, found["tp"], found["fp"]]  # (causes, n_explanations)
    return np.stack([np.bincount(found["split"], row, n_splits) for row in weighted], axis=1)


def likelihoods(
    models: Sequence[Reported], reading: Reading, causes: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Probability of every printed value together under each cause, averaged over the splits.

    The models share the split and, of a stack, the table; given both, they are taken as
    independent.  All are 0 where no split fits the reading.

    Parameters
    ----------
    causes : mapping of str to array
        See `standard_causes`.
    """
    stacks = [table if table.ndim == 3 else table[None] for table in causes.values()]
    values = iter(joint_likelihoods(models, reading, np.concatenate(stacks)))
    return {
        name: fsum(next(values) for _ in stack) / len(stack)
        for name, stack in zip(causes, stacks, strict=True)
    }


def joint_likelihoods(
    models: Sequence[Reported], reading: Reading, tables: np.ndarray
) -> list[float]:
    """Average the product of the models' likelihoods over the splits; one value a cause."""
    product = np.ones((len(splits(reading)[0]), len(tables)))
    for model in models:
        product *= split_likelihoods(model, reading, tables)
    weights = splits(reading)[1]
    return [
        fsum(weight * value for weight, value in zip(weights, column, strict=True))
        for column in product.T.tolist()
    ]


def log10_factor(for_: float, against: float) -> float:
    """Return the log10 Bayes factor of two likelihoods; infinite where one is impossible.

    Raises
    ------
    ValueError
        When both are impossible: the values then say nothing about the two.
    """
    if not for_ and not against:
        raise ValueError("neither cause gives the printed values; look at the reading")
    if not for_ or not against:
        return float("inf") if for_ else float("-inf")
    return log10(for_) - log10(against)
