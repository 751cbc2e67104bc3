"""Factors of the threshold: its rule, the aggregation over folds, one mistaken for another."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ad.protocol import CrossValidated
from studies.gap.interventions import CHOICE, MISTAKE, REENACTED, Control, Outcome, Row, decide

BATCH = 32  # test images whose scores are scaled together


def best_f1_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the score at which F1 is best, the lowest of several; as F1AdaptiveThreshold does.

    Without anomalous images every F1 is 0, so the lowest score is taken and nearly everything is
    flagged (anomalib's issues 2433 and 3357).

    Parameters
    ----------
    labels : array of int, shape (n,)
    scores : array of float, shape (n,)
    """
    candidates = np.sort(scores)
    flagged = scores >= candidates[:, None]  # (candidates, n)
    hits = (flagged & (labels == 1)).sum(axis=1)
    return float(candidates[np.argmax(2 * hits / (flagged.sum(axis=1) + (labels == 1).sum()))])


def adaptive_threshold(held_out: Sequence[np.ndarray]) -> float:
    """Average over the folds the thresholds of best F1 on their normal images."""
    return float(np.mean([best_f1_threshold(np.zeros(len(own)), own) for own in held_out]))


def scaled(scores: np.ndarray) -> np.ndarray:
    """Bring scores to 0..1 by their own smallest and largest."""
    spread = scores - scores.min()
    return spread / max(spread.max(), np.finfo(float).tiny)


def threshold_factors(control: Control) -> Iterator[Row]:
    """Change the threshold's rule or the aggregation, then make the mistakes."""
    folds = control.outcome.folds
    for rule in ("quantile:0.99", "quantile:0.95", "mean_sd:3"):
        yield control.row(f"threshold {rule}", decide(folds, rule=rule), kind=CHOICE)
    for how in ("mean", "median"):
        found = decide(folds, aggregate=how)
        yield control.row(f"folds' scores by {how}", found, kind=CHOICE)
    first = decide(CrossValidated(folds.held_out[:1], folds.fold_scores[:1]))
    yield control.row("first fold only", first, kind=CHOICE)
    for name, outcome in threshold_mistakes(control).items():
        yield control.row(name, outcome, kind=MISTAKE)
    yield control.row("labels flipped", ~control.outcome.flags, kind=MISTAKE, how=REENACTED)


def threshold_mistakes(control: Control) -> dict[str, Outcome]:
    """Mistake one scale, or one rule, for another."""
    outcome, squared = control.outcome, control.case.score.squared
    scores, limit = outcome.scores, outcome.threshold
    # Classes mixed, as in the competition's folder: in blocks of a class a batch says too much.
    mixed = np.random.default_rng(control.case.seed).permutation(len(scores))
    batched = np.empty(len(scores))
    for start in range(0, len(scores), BATCH):
        batch = mixed[start : start + BATCH]
        batched[batch] = scaled(scores[batch])
    return {
        "threshold of best F1 on normal-only data (the minimum)": replace(
            outcome, threshold=adaptive_threshold(outcome.folds.held_out)
        ),
        "squared scores against a plain threshold": replace(
            outcome,
            scores=scores if squared else scores**2,
            threshold=float(np.sqrt(limit)) if squared else limit,
        ),
        "0.5 of scores scaled to 0..1 on the test set": replace(
            outcome, scores=scaled(scores), threshold=0.5
        ),
        f"0.5 of scores scaled to 0..1 in batches of {BATCH}": replace(
            outcome, scores=batched, threshold=0.5
        ),
    }
