"""What confusion tables give a printed F1, and how likely each cause makes the printed values.

A leaderboard prints the F1 of a public and of a private part of the test set.  Every cause looked
at here treats the images of a class alike, so it is a table of probabilities: how often TP
anomalous and FP normal images are flagged in all.  How these fall into the two parts is then
hypergeometric, whatever the cause.  Sums are exact; where a cause's table is drawn (Monte Carlo),
the error is stated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.special import gammaln
from scipy.stats import betabinom, binom, hypergeom

ROWS_PERMUTED = "working, rows permuted"


@dataclass(frozen=True)
class Reported:
    """One model's printed F1 values, as text, digit by digit."""

    name: str
    public: str
    private: str


def parse_reported(text: str) -> list[Reported]:
    """Read ``name:public:private`` for each model, with commas between models."""
    models = []
    for part in text.split(","):
        fields = part.strip().split(":")
        if len(fields) != 3:
            raise ValueError(f"{part!r} is not name:public:private, as in ResNet-50:0.3846:0.375")
        decimals(fields[1]), decimals(fields[2])
        models.append(Reported(*fields))
    return models


@dataclass(frozen=True)
class Reading:
    """How the printed values are read and how the test set may be split.

    Parameters
    ----------
    n_images, n_anomalous : int
        Composition of the test set.
    public_sizes : tuple of int
        Possible numbers of public images; each is as likely as the others.
    private : {"rest", "all"}
        The private part is the images that are not public, or all of them.
    digits : {"given", "zeros dropped"}
        Digits as printed, or to the longest of the model's two values (0.44 beside 0.35714 then
        means 0.44000).
    rounding : {"round", "truncate", "either"}
    stratified : bool
        The public part has the anomalous share of the whole (to the nearest image); otherwise it is
        drawn at random.
    """

    n_images: int = 100
    n_anomalous: int = 40
    public_sizes: tuple[int, ...] = tuple(range(10, 95, 5))
    private: str = "rest"
    digits: str = "given"
    rounding: str = "either"
    stratified: bool = False


def shares_of(n_images: int, percentages: Sequence[int]) -> tuple[int, ...]:
    """Turn percentages of a test set into different numbers of images."""
    return tuple(sorted({round(n_images * each / 100) for each in percentages}))


def standard_reading(n_images: int, n_anomalous: int) -> Reading:
    """Read values of a test set whose public part is any tenth to nine tenths of it."""
    sizes = shares_of(n_images, range(10, 95, 5))
    return Reading(n_images=n_images, n_anomalous=n_anomalous, public_sizes=sizes)


@dataclass(frozen=True)
class Hypothesis:
    """A cause: the joint distribution of TP and FP over the whole test set.

    Parameters
    ----------
    name : str
    tables : array of float64, shape (batches, n_anomalous + 1, n_normal + 1)
        ``tables[:, tp, fp]`` is a probability.  One batch where it is exact; several independent
        Monte Carlo batches otherwise.
    """

    name: str
    tables: np.ndarray


def decimals(text: str) -> int:
    """Count the digits behind the point of a printed value."""
    whole, point, behind = text.partition(".")
    if not (whole.isdigit() and (behind.isdigit() or not point)):
        raise ValueError(f"{text!r} is no printed F1; write it as a decimal such as 0.44")
    return len(behind)


def printed_as(
    numerator: np.ndarray, denominator: np.ndarray, text: str, *, digits: int, rounding: str
) -> np.ndarray:
    """Tell which fractions print as ``text``; integers only, so no border is lost to rounding.

    Parameters
    ----------
    numerator, denominator : arrays of int
        A zero denominator never matches.
    text : str
        The printed value.
    digits : int
        Digits behind the point that it stands for.
    rounding : {"round", "truncate", "either"}
        Halves may round either way.
    """
    if rounding not in ("round", "truncate", "either"):
        raise ValueError(f"rounding={rounding!r} must be round, truncate or either")
    scale = 10**digits
    value = Fraction(text) * scale
    if value.denominator != 1:
        raise ValueError(f"{text} has more than digits={digits} digits")
    units = int(value)
    top, below = numerator * scale, denominator * units
    rounds = (2 * top >= 2 * below - denominator) & (2 * top <= 2 * below + denominator)
    truncates = (top >= below) & (top < below + denominator)
    match = {"round": rounds, "truncate": truncates, "either": rounds | truncates}[rounding]
    return match & (denominator > 0)


def matching_tables(
    text: str, n_images: int, n_anomalous: int, *, digits: int | None = None, rounding: str
) -> np.ndarray:
    """Enumerate the confusion tables whose F1 prints as ``text``.

    Returns
    -------
    array of int, shape (n_tables, 2)
        TP and FP; FN and TN follow from the counts.
    """
    tp, fp = np.mgrid[: n_anomalous + 1, : n_images - n_anomalous + 1]
    digits = decimals(text) if digits is None else digits
    match = printed_as(2 * tp, tp + fp + n_anomalous, text, digits=digits, rounding=rounding)
    return np.argwhere(match)


def _splits(reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """List (public images, public anomalous) and their prior probabilities."""
    n, anomalous = reading.n_images, reading.n_anomalous
    splits, weights = [], []
    for size in reading.public_sizes:
        if not 0 < size < n:
            raise ValueError(f"public_sizes: {size} must be 1 to {n - 1}")
        counts = np.arange(max(0, size - (n - anomalous)), min(size, anomalous) + 1)
        if reading.stratified:
            counts = np.array([round(size * anomalous / n)])
        probability = hypergeom.pmf(counts, n, anomalous, size)
        if reading.stratified:
            probability = np.ones(1)
        splits += [(size, count) for count in counts]
        weights.append(probability / len(reading.public_sizes))
    return np.array(splits), np.concatenate(weights)


def explanations(reported: Reported, reading: Reading) -> dict[str, np.ndarray]:
    """Enumerate every split and pair of confusion tables that print both values of a model.

    Returns
    -------
    dict of arrays of int, one entry an explanation
        ``split`` (its number in the reading), ``public_images``, ``public_anomalous``,
        ``public_tp``, ``public_fp``, and over all images ``tp``, ``fp``.
    """
    if reading.private not in ("rest", "all"):
        raise ValueError(f"private={reading.private!r} must be rest or all")
    if reading.digits not in ("given", "zeros dropped"):
        raise ValueError(f"digits={reading.digits!r} must be 'given' or 'zeros dropped'")
    digits = [decimals(reported.public), decimals(reported.private)]
    if reading.digits == "zeros dropped":
        digits = [max(digits)] * 2
    n, anomalous = reading.n_images, reading.n_anomalous
    nested = reading.private == "all"
    found = []
    for number, (size, count) in enumerate(_splits(reading)[0]):
        public = matching_tables(
            reported.public, size, count, digits=digits[0], rounding=reading.rounding
        )
        private = matching_tables(
            reported.private,
            n if nested else n - size,
            anomalous if nested else anomalous - count,
            digits=digits[1],
            rounding=reading.rounding,
        )
        one, two = np.repeat(public, len(private), axis=0), np.tile(private, (len(public), 1))
        total = two if nested else one + two
        rest = total - one
        fits = ((rest >= 0) & (rest <= (anomalous - count, n - size - anomalous + count))).all(1)
        head = np.tile((number, size, count), (len(one), 1))
        found.append(np.hstack([head, one, total])[fits])
    columns = np.concatenate(found).T
    names = ("split", "public_images", "public_anomalous", "public_tp", "public_fp", "tp", "fp")
    return dict(zip(names, columns, strict=True))


def _log_comb(n: np.ndarray | int, k: np.ndarray) -> np.ndarray:
    return gammaln(np.asarray(n) + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def split_likelihoods(reported: Reported, reading: Reading, tables: np.ndarray) -> np.ndarray:
    """Probability of a model's two printed values, for each split and each cause.

    Parameters
    ----------
    tables : array of float64, shape (causes, n_anomalous + 1, n_normal + 1)

    Returns
    -------
    array of float64, shape (n_splits, causes)
    """
    found = explanations(reported, reading)
    n, anomalous = reading.n_images, reading.n_anomalous
    size, count = found["public_images"], found["public_anomalous"]
    tp, fp, one_tp, one_fp = (found[key] for key in ("tp", "fp", "public_tp", "public_fp"))
    # Within a class all images are alike: which of them are flagged is a draw without replacement.
    log_share = (
        _log_comb(count, one_tp)
        + _log_comb(anomalous - count, tp - one_tp)
        - _log_comb(anomalous, tp)
        + _log_comb(size - count, one_fp)
        + _log_comb(n - size - anomalous + count, fp - one_fp)
        - _log_comb(n - anomalous, fp)
    )
    share = np.exp(log_share)
    n_splits = len(_splits(reading)[0])
    return np.stack(
        [np.bincount(found["split"], share * table[tp, fp], n_splits) for table in tables], axis=1
    )


@dataclass(frozen=True)
class Likelihood:
    """Probability of all printed values under one cause, with the Monte Carlo standard error."""

    name: str
    value: float
    error: float


def likelihoods(
    reported: Sequence[Reported], readings: Mapping[Reading, float], causes: Sequence[Hypothesis]
) -> list[Likelihood]:
    """Probability of every printed value together, averaged over readings and splits.

    The models share the split; given it, they are taken as independent.

    Parameters
    ----------
    reported : sequence of Reported
    readings : mapping
        Prior weight of each reading; scaled to sum 1.
    causes : sequence of Hypothesis
        The error of a drawn table is a jackknife over its batches.
    """
    total = sum(readings.values())
    batches = [len(cause.tables) for cause in causes]
    stacked = []
    for cause in causes:
        mean = cause.tables.mean(axis=0)
        stacked.append(mean)
        if len(cause.tables) > 1:  # leave one batch out
            stacked += [(len(cause.tables) * mean - one) / (len(cause.tables) - 1)
                        for one in cause.tables]  # fmt: skip
    tables = np.stack(stacked)
    joint = np.zeros(len(tables))
    for reading, weight in readings.items():
        product = np.ones((len(_splits(reading)[0]), len(tables)))
        for model in reported:
            product *= split_likelihoods(model, reading, tables)
        joint += weight / total * (_splits(reading)[1] @ product)
    results, position = [], 0
    for cause, count in zip(causes, batches, strict=True):
        value, error = joint[position], 0.0
        if count > 1:
            left_out = joint[position + 1 : position + 1 + count]
            error = np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())
        results.append(Likelihood(cause.name, float(value), float(error)))
        position += 1 + count * (count > 1)
    return results


def posterior(
    results: Sequence[Likelihood], priors: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return each cause's posterior probability; priors are equal unless given.

    Raises
    ------
    ValueError
        When a prior is missing, or no cause can give the printed values.
    """
    if priors is not None and set(priors) != {r.name for r in results}:
        odd = sorted(set(priors) ^ {r.name for r in results})
        raise ValueError(f"priors and causes differ: {', '.join(odd)}")
    weighted = {r.name: r.value * (1.0 if priors is None else priors[r.name]) for r in results}
    total = sum(weighted.values())
    if total == 0:
        raise ValueError("no cause gives the printed values; look at the reading")
    return {name: value / total for name, value in weighted.items()}


# The causes. Rates: sensitivity = share of anomalous images flagged, false_alarms = share of
# normal images flagged.


def rates_table(
    sensitivity: np.ndarray, false_alarms: np.ndarray, *, n_anomalous: int, n_normal: int
) -> np.ndarray:
    """Distribution of (TP, FP) for independent flags, averaged over pairs of rates.

    Parameters
    ----------
    sensitivity, false_alarms : arrays, shape (n_pairs,)
    """
    tp = binom.pmf(np.arange(n_anomalous + 1), n_anomalous, np.asarray(sensitivity)[:, None])
    fp = binom.pmf(np.arange(n_normal + 1), n_normal, np.asarray(false_alarms)[:, None])
    return tp.T @ fp / len(tp)


def measured_cause(
    name: str, hits: tuple[int, int], alarms: tuple[int, int], *, reading: Reading
) -> Hypothesis:
    """Make a cause of a detector that was measured elsewhere.

    Its rates are as uncertain as the counts leave them (Jeffreys' prior, a beta distribution with
    1/2 and 1/2), so TP and FP are beta-binomial.

    Parameters
    ----------
    hits : tuple of int
        Anomalous images that were flagged, and how many there were.
    alarms : tuple of int
        The same of the normal images.
    reading : Reading
        Its test set's composition.
    """
    n_normal = reading.n_images - reading.n_anomalous
    tp, fp = (
        betabinom.pmf(np.arange(n + 1), n, flagged + 0.5, count - flagged + 0.5)
        for n, (flagged, count) in ((reading.n_anomalous, hits), (n_normal, alarms))
    )
    return Hypothesis(name, np.outer(tp, fp)[None])


def permuted_table(table: np.ndarray) -> np.ndarray:
    """Give the rows of a detector to images at random: only its number of flags is left."""
    n_anomalous, n_normal = table.shape[0] - 1, table.shape[1] - 1
    tp, fp = np.mgrid[: n_anomalous + 1, : n_normal + 1]
    flags = np.bincount((tp + fp).ravel(), table.ravel())
    chance = hypergeom.pmf(tp, n_anomalous + n_normal, n_anomalous, tp + fp)
    return flags[tp + fp] * chance


def partly_permuted_tables(
    sensitivity: np.ndarray,
    false_alarms: np.ndarray,
    *,
    n_anomalous: int,
    n_normal: int,
    draws: int,
    batches: int,
    seed: int,
) -> np.ndarray:
    """Exchange the rows of a share of the images, any share equally likely; by Monte Carlo.

    Returns
    -------
    array of float64, shape (batches, n_anomalous + 1, n_normal + 1)
    """
    generator = np.random.default_rng(seed)
    tables = np.zeros((batches, n_anomalous + 1, n_normal + 1))
    for table in tables:
        pair = generator.integers(len(sensitivity), size=draws)
        moved = generator.integers(0, n_anomalous + n_normal + 1, draws)
        moved_anomalous = generator.hypergeometric(n_anomalous, n_normal, moved)
        hits = generator.binomial(n_anomalous, np.asarray(sensitivity)[pair])
        alarms = generator.binomial(n_normal, np.asarray(false_alarms)[pair])
        moved_hits = generator.hypergeometric(hits, n_anomalous - hits, moved_anomalous)
        moved_alarms = generator.hypergeometric(alarms, n_normal - alarms, moved - moved_anomalous)
        flags = moved_hits + moved_alarms
        again = generator.hypergeometric(moved_anomalous, moved - moved_anomalous, flags)
        tp, fp = hits - moved_hits + again, alarms - moved_alarms + flags - again
        np.add.at(table, (tp, fp), 1 / draws)
    return tables


def _grid(low: tuple[float, float], high: tuple[float, float], steps: int = 41) -> np.ndarray:
    """Cross two even grids; columns are sensitivity and false-alarm rate."""
    axes = [np.linspace(a, b, steps) for a, b in zip(low, high, strict=True)]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def standard_causes(
    *,
    n_images: int = 100,
    n_anomalous: int = 40,
    working: float = 0.9,
    draws: int = 20_000,
    batches: int = 10,
    seed: int = 0,
) -> list[Hypothesis]:
    """Build the causes that the study compares.

    Parameters
    ----------
    working : float
        A working detector has a sensitivity and a specificity of at least this, evenly spread up
        to 1; with 1 it is perfect.
    draws, batches, seed
        For the one cause that is drawn.
    """
    counts = {"n_anomalous": n_anomalous, "n_normal": n_images - n_anomalous}
    good = _grid((working, 0.0), (1.0, 1.0 - working), 21)
    anything = _grid((0.0, 0.0), (1.0, 1.0))
    degraded = anything[anything[:, 0] >= anything[:, 1]]
    rate = np.linspace(0, 1, 201)
    too_high = _grid((0.0, 0.0), (1.0, 1.0 - working))
    too_low = _grid((working, 0.0), (1.0, 1.0))
    works = rates_table(*good.T, **counts)
    tp, fp = np.indices(works.shape)
    near = [  # every number of flags from three to five quarters of the right one
        hypergeom.pmf(tp, n_images, n_anomalous, flags) * (tp + fp == flags)
        for flags in range(round(0.75 * n_anomalous), round(1.25 * n_anomalous) + 1)
    ]
    everything = np.zeros_like(works)
    everything[-1, -1] = 1.0
    exact = {
        "working, rows in order": works,
        ROWS_PERMUTED: permuted_table(works),
        "random flags, any rate": rates_table(rate, rate, **counts),
        "random flags, near the right number": sum(near) / len(near),
        "degraded, any rates above chance": rates_table(*degraded.T, **counts),
        "threshold too high": rates_table(*too_high.T, **counts),
        "threshold too low": rates_table(*too_low.T, **counts),
        "all flagged": everything,
        "nothing flagged": everything[::-1, ::-1],
        "labels flipped": works[::-1, ::-1],
    }
    partly = partly_permuted_tables(*good.T, **counts, draws=draws, batches=batches, seed=seed)
    return [
        *(Hypothesis(name, table[None]) for name, table in exact.items()),
        Hypothesis("working, part of the rows permuted", partly),
    ]


def sensitivity_analysis(
    reported: Sequence[Reported], variants: Mapping[str, tuple[Reading, float]], *, seed: int = 0
) -> list[dict[str, object]]:
    """Repeat the comparison under other readings and other ideas of a working detector.

    Parameters
    ----------
    variants : mapping
        Name to (reading, ``working`` of `standard_causes`).

    Returns
    -------
    list of dict
        Each variant's name and the log10 likelihood of every cause (``-inf`` if impossible).
    """
    rows, built = [], {}
    for name, (reading, working) in variants.items():
        key = (reading.n_images, reading.n_anomalous, working)
        if key not in built:
            built[key] = standard_causes(
                n_images=key[0], n_anomalous=key[1], working=working, seed=seed
            )
        causes = built[key]
        with np.errstate(divide="ignore"):
            found = {
                each.name: float(np.log10(each.value))
                for each in likelihoods(reported, {reading: 1.0}, causes)
            }
        rows.append({"variant": name, **found})
    return rows


def standard_variants(base: Reading, *, working: float) -> dict[str, tuple[Reading, float]]:
    """One change at a time from a base reading, for `sensitivity_analysis`."""
    n = base.n_images
    few, many = max(1, base.n_anomalous - n // 20), min(n - 1, base.n_anomalous + n // 20)
    half = round(n / 2)
    return {
        "base": (base, working),
        "private = all images": (replace(base, private="all"), working),
        "zeros dropped": (replace(base, digits="zeros dropped"), working),
        "private = all, zeros dropped": (
            replace(base, private="all", digits="zeros dropped"),
            working,
        ),
        "rounded only": (replace(base, rounding="round"), working),
        "truncated only": (replace(base, rounding="truncate"), working),
        "public part stratified": (replace(base, stratified=True), working),
        "public 20 to 40 %": (
            replace(base, public_sizes=shares_of(n, (20, 25, 30, 35, 40))),
            working,
        ),
        f"public {half} images": (replace(base, public_sizes=(half,)), working),
        "working means at least 0.8": (base, 0.8),
        "working means at least 0.95": (base, 0.95),
        "working means perfect": (base, 1.0),
        f"{few} anomalous": (replace(base, n_anomalous=few), working),
        f"{many} anomalous": (replace(base, n_anomalous=many), working),
    }
