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
from studies.thresholds.rules import threshold_of

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
class Runs:
    """The pipeline's run, and the protocol run again.

    Parameters
    ----------
    base : CrossValidated
    seeds : list of CrossValidated
        Other seeds and folds.
    training : list of CrossValidated
        Other seeds and folds, and training images drawn again.
    """

    base: CrossValidated
    seeds: list[CrossValidated]
    training: list[CrossValidated]


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


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
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
        F1 minus that of the pipeline's rule, and its interval with everything in it, paired.
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


def headlines(
    labels: np.ndarray, runs: Runs, rules: Sequence[str], aggregate: str, *, seed: int
) -> list[Headline]:
    """Give each rule's F1 and intervals; the first rule is the one that the others are laid by."""
    found, reference = [], None
    for rule in rules:
        own, seeds, training = (
            flags_by(part, rule, aggregate) for part in ([runs.base], runs.seeds, runs.training)
        )
        f1, draws = f1_score(labels, own[0]), f1_draws(labels, training, seed=seed)
        reference = (f1, draws) if reference is None else reference
        found.append(
            Headline(
                rule,
                threshold_of(rule, runs.base.held_out),
                f1,
                _interval(f1_draws(labels, own, seed=seed)),
                _interval(f1_draws(labels, np.concatenate([own, seeds]), seed=seed)),
                _interval(draws),
                float(np.median(draws)),
                f1 - reference[0],
                *_interval(draws - reference[1]),
            )
        )
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
    f1 : float or None
        At that threshold; ``None`` without labels.
    """

    number: int
    fold: int
    score: float
    next_score: float
    threshold: float
    f1: float | None


def setters(
    base: CrossValidated,
    folds: Folds,
    rule: str,
    test_scores: np.ndarray,
    labels: np.ndarray | None,
) -> list[Setter]:
    """Leave each fold's largest held-out score out in turn; the one that moves most first."""
    whole, found = threshold_of(rule, base.held_out), []
    for fold, ((_, held_out), own) in enumerate(zip(folds, base.held_out, strict=True)):
        if len(own) < 2:
            continue
        place = int(own.argmax())
        rest = list(base.held_out)
        rest[fold] = np.delete(own, place)
        threshold = threshold_of(rule, rest)
        f1 = None if labels is None else f1_score(labels, test_scores > threshold)
        scores = float(own[place]), float(rest[fold].max())
        found.append(Setter(int(held_out[place]), fold, *scores, threshold, f1))
    return sorted(found, key=lambda each: -abs(each.threshold - whole))


def without_image(folds: Folds, number: int) -> Folds:
    """Take an image out of every fold, training and held-out part."""
    return [(kept[kept != number], held[held != number]) for kept, held in folds]
