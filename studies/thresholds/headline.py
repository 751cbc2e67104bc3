"""How sure the headline is: its F1 with the threshold, the banks and the seed drawn again too.

An interval over test images that holds the threshold fixed leaves out that another training set,
another split or another first pick would have given another threshold.  Here the protocol runs
again: with other seeds and folds, and on training images drawn again with replacement (Efron's
bootstrap).  Copies of a drawn image stay in one fold, because a bank that knows the image would
make its held-out score too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ad.metrics import f1_score
from ad.params import CrossValidation
from ad.progress import progress_bar
from ad.protocol import CrossValidated, Folds, Protocol, cross_validate, fold_indices
from studies.thresholds.rules import configured_rule, threshold_of

Interval = tuple[float, float]
DRAWS = 4000


def folds_of_drawn(drawn: np.ndarray, folds: int, *, seed: int) -> Folds:
    """Split drawn image numbers into (different training images, held-out images with copies)."""
    different = np.unique(drawn)
    return [
        (different[kept], np.sort(drawn[np.isin(drawn, different[held_out])]))
        for kept, held_out in fold_indices(len(different), folds, shuffle=True, seed=seed)
    ]


def run_again(
    normals: np.ndarray,
    test: np.ndarray,
    protocol: Protocol,
    folds: int,
    repeats: int,
    *,
    draw: bool,
) -> list[CrossValidated]:
    """Run the protocol again with other seeds and other, shuffled folds.

    Parameters
    ----------
    normals, test : arrays, shape (n_images, h, w, dim)
    protocol : Protocol
        Repeat r takes its seed plus r.
    folds, repeats : int
    draw : bool
        Draw the training images again, too.  A bank keeps its size, although fewer different
        images stand behind it.
    """
    n, found = len(normals), []
    generator = np.random.default_rng(protocol.seed)
    what = "training images drawn again" if draw else "other seeds"
    with progress_bar(repeats, what, "run") as bar:
        for seed in range(protocol.seed + 1, protocol.seed + 1 + repeats):
            drawn = generator.integers(n, size=n) if draw else np.arange(n)
            ratio = min(1.0, protocol.coreset.ratio * n / len(np.unique(drawn)))
            coreset = protocol.coreset.model_copy(update={"ratio": ratio})
            own = replace(protocol, seed=seed, coreset=coreset)
            split = folds_of_drawn(drawn, folds, seed=seed)
            found.append(cross_validate(normals, [test], split, own))
            bar.update(1)
    return found


@dataclass(frozen=True)
class Setter:
    """A training image that the threshold hangs on.

    Parameters
    ----------
    number, fold : int
    score, next_score : float
        Its held-out score, and the largest other one of its fold.
    threshold : float
        Without its score.
    """

    number: int
    fold: int
    score: float
    next_score: float
    threshold: float


def setters(base: CrossValidated, folds: Folds, rule: str) -> list[Setter]:
    """Leave each fold's largest held-out score out in turn; the one that moves most first."""
    whole, found = threshold_of(rule, base.held_out), []
    for fold, ((_, held_out), own) in enumerate(zip(folds, base.held_out, strict=True)):
        place, rest = int(own.argmax()), list(base.held_out)
        others = np.delete(own, place)
        rest[fold : fold + 1] = [others] if len(others) else []  # or the fold goes with its image
        scores = float(own[place]), float(others.max(initial=-np.inf))
        found.append(Setter(int(held_out[place]), fold, *scores, threshold_of(rule, rest)))
    return sorted(found, key=lambda each: -abs(each.threshold - whole))


@dataclass(frozen=True)
class Runs:
    """The pipeline's run, and the protocol run again.

    Parameters
    ----------
    rule : str
        The pipeline's, as `studies.thresholds.rules.threshold_of` takes it.
    folds : Folds
    base : CrossValidated
    hanging : int
        The training image that the threshold hangs on.
    without : CrossValidated
        Run without it.
    seeds : list of CrossValidated
        Other seeds and folds.
    training : list of CrossValidated
        Other seeds and folds, and training images drawn again.
    """

    rule: str
    folds: Folds
    base: CrossValidated
    hanging: int
    without: CrossValidated
    seeds: list[CrossValidated]
    training: list[CrossValidated]


def run_headline(
    normals: np.ndarray,
    test: np.ndarray,
    protocol: Protocol,
    cv: CrossValidation,
    repeats: tuple[int, int],
) -> Runs:
    """Run the protocol as the pipeline does, without one image, and again.

    Parameters
    ----------
    normals, test : arrays, shape (n_images, h, w, dim)
    protocol : Protocol
    cv : CrossValidation
    repeats : (int, int)
        With other seeds; on training images drawn again.
    """
    rule = configured_rule(cv.threshold)
    folds = fold_indices(len(normals), cv.folds, shuffle=cv.shuffle, seed=protocol.seed)
    base = cross_validate(normals, [test], folds, protocol)
    hanging = setters(base, folds, rule)[0].number
    fewer = [(kept[kept != hanging], held[held != hanging]) for kept, held in folds]
    fewer = [(kept, held) for kept, held in fewer if len(held)]
    without = cross_validate(normals, [test], fewer, protocol)
    seeds, training = (
        run_again(normals, test, protocol, cv.folds, number, draw=draw)
        for number, draw in zip(repeats, (False, True), strict=True)
    )
    return Runs(rule, folds, base, hanging, without, seeds, training)


def f1_draws(labels: np.ndarray, flags: np.ndarray, *, seed: int) -> np.ndarray:
    """Return F1 with test images of each class drawn again, and a run for each draw in turn.

    Equal seeds draw equal images, so that two rules can be compared draw by draw.

    Parameters
    ----------
    labels : array, shape (n_images,)
    flags : array of bool, shape (n_runs, n_images)

    Returns
    -------
    array of float64, shape (DRAWS,)
    """
    generator = np.random.default_rng(seed)
    labels, runs = np.asarray(labels, dtype=bool), np.arange(DRAWS) % len(flags)
    hits = {}
    for own in (True, False):
        part = flags[:, labels == own]
        n = part.shape[1]
        weights = generator.multinomial(n, np.full(n, 1 / n), DRAWS) if n else np.zeros((DRAWS, 0))
        hits[own] = (weights * part[runs]).sum(axis=1)
    return 2 * hits[True] / np.maximum(hits[True] + hits[False] + labels.sum(), 1)


def _interval(values: np.ndarray, level: float = 0.95) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def flags_by(runs: Sequence[CrossValidated], rule: str, aggregate: str) -> np.ndarray:
    """Flag the test images in each run by a rule, shape (n_runs, n_images)."""
    return np.stack([r.scores(aggregate) > threshold_of(rule, r.held_out) for r in runs])


@dataclass(frozen=True)
class Headline:
    """F1 of one threshold rule and its 95 % intervals, each with more in it than the one before.

    Parameters
    ----------
    rule : str
    threshold, f1 : float
    fixed, seeds, whole : (low, high)
        Test images drawn again; other seeds and folds as well; training images as well.
    middle : float
        Median of the draws behind ``whole``.
    difference, low, high : float
        F1 minus that of the pipeline's rule, and its interval with everything in it, paired; the
        intervals of all other rules hold together with 95 % (Bonferroni).
    """

    rule: str
    threshold: float
    f1: float
    fixed: Interval
    seeds: Interval
    whole: Interval
    middle: float
    difference: float
    low: float
    high: float


def fixed_f1(
    labels: np.ndarray, run: CrossValidated, rule: str, aggregate: str, *, seed: int
) -> tuple[float, Interval]:
    """Return F1 of one run, and its interval over test images, the threshold held fixed."""
    flags = flags_by([run], rule, aggregate)
    return f1_score(labels, flags[0]), _interval(f1_draws(labels, flags, seed=seed))


def headlines(
    labels: np.ndarray, runs: Runs, rules: Sequence[str], aggregate: str, *, seed: int
) -> list[Headline]:
    """Give F1 and intervals of the pipeline's rule, then of others, each laid beside it."""
    found, reference = [], None
    every = list(dict.fromkeys([runs.rule, *rules]))
    level = 1 - 0.05 / max(1, len(every) - 1)
    for rule in every:
        f1, fixed = fixed_f1(labels, runs.base, rule, aggregate, seed=seed)
        seeds = flags_by([runs.base, *runs.seeds], rule, aggregate)
        draws = f1_draws(labels, flags_by(runs.training, rule, aggregate), seed=seed)
        reference = (f1, draws) if reference is None else reference
        found.append(
            Headline(
                rule,
                threshold_of(rule, runs.base.held_out),
                f1,
                fixed,
                _interval(f1_draws(labels, seeds, seed=seed)),
                _interval(draws),
                float(np.median(draws)),
                f1 - reference[0],
                *_interval(draws - reference[1], level),
            )
        )
    return found
