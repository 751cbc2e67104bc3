"""Rules measured on normals that neither a bank nor a threshold has seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold

from ad.progress import progress_bar
from ad.protocol import Folds, Protocol, aggregate_folds, cross_validate
from studies.shared.uncertainty import rate_interval
from studies.thresholds.rules import conformal_p_values, promised_rate, threshold_of


@dataclass(frozen=True)
class NestedScores:
    """Scores of one outer part, with everything that its thresholds may look at.

    Parameters
    ----------
    inner : list of array
        One a fold: the held-out scores of the fold's validation normals.
    outer : array of float64, shape (folds, n_outer)
        Scores of normals that no bank and no threshold has seen, against each fold's bank.
    """

    inner: list[np.ndarray]
    outer: np.ndarray


def cross_conformal_p_values(nested: NestedScores) -> np.ndarray:
    """Compare each new image, as each bank scores it, with that bank's own held-out normals.

    p = (1 + sum over folds of #{held-out scores at least the image's by the same bank}) / (n + 1):
    no fold's scores are ever laid beside another bank's.  A level of a is kept up to about 2 a
    whatever the law of the scores, and near a where the banks are alike (Vovk, *Cross-conformal
    predictors*, 2015; Barber et al., *Predictive inference with the jackknife+*, 2021, theorem 4).

    Returns
    -------
    array of float64, shape (n_outer,)
    """
    above = sum(
        len(own) - np.searchsorted(np.sort(own), scores, side="left")
        for own, scores in zip(nested.inner, nested.outer, strict=True)
    )
    return (1 + above) / (1 + sum(map(len, nested.inner)))


def nested_scores(
    features: np.ndarray,
    protocol: Protocol,
    *,
    outer_folds: int,
    split: Callable[[np.ndarray], Folds],
) -> list[NestedScores]:
    """Run the protocol's cross-validation on all but an outer part of the normals, each in turn.

    Parameters
    ----------
    features : array, shape (n_images, h, w, dim)
        Of normal training images; may be memory-mapped.
    protocol : Protocol
        Its seed is that of the outer split, too.
    outer_folds : int
        Parts that are held out in turn; every image is an outer one once.  Drawn at random.
    split : callable
        Takes the numbers of the other images; returns the folds inside as (training, held-out)
        places among them.
    """
    splitter = KFold(outer_folds, shuffle=True, random_state=protocol.seed)
    results = []
    with progress_bar(outer_folds, "nested folds", "outer part") as bar:
        for rest, outer in splitter.split(features):
            found = cross_validate(features[rest], [features[outer]], split(rest), protocol)
            results.append(NestedScores(found.held_out, found.fold_scores))
            bar.update(1)
    return results


def standardised(nested: NestedScores) -> NestedScores:
    """Bring each fold's scores to mean 0 and standard deviation 1 of its held-out normals."""
    centre = np.array([own.mean() for own in nested.inner])
    spread = np.array([own.std(ddof=1) for own in nested.inner])
    inner = [(s - c) / d for s, c, d in zip(nested.inner, centre, spread, strict=True)]
    return NestedScores(inner, (nested.outer - centre[:, None]) / spread[:, None])


def judged(nested: NestedScores, aggregate: str) -> tuple[NestedScores, np.ndarray]:
    """Return scores as an aggregation sees them, and the outer ones aggregated, (n_outer,).

    ``standardised`` before ``max``, ``mean`` or ``median`` brings the folds to one scale first.
    """
    how = aggregate.removeprefix("standardised ")
    own = standardised(nested) if how != aggregate else nested
    return own, aggregate_folds(own.outer, how)


def flags_of(nested: Sequence[NestedScores], rule: str, aggregate: str = "max") -> np.ndarray:
    """Flag the outer normals of all parts by a rule, shape (n_normals,)."""
    seen = [judged(part, aggregate) for part in nested]
    return np.concatenate([scores > threshold_of(rule, own.inner) for own, scores in seen])


def compare_rules(
    nested: Sequence[NestedScores], rules: Sequence[str], aggregates: Sequence[str]
) -> list[dict[str, object]]:
    """Measure each rule's false alarms on the outer normals, for each aggregation over folds.

    Returns
    -------
    list of dict
        ``rule``, ``aggregate``, ``promised`` (rate or ``None``), ``alarms``, ``normals``,
        ``measured``, ``low``, ``high`` (95 %, Jeffreys; the outer parts share their banks, so the
        true uncertainty is a little wider).
    """
    size = round(np.mean([sum(map(len, part.inner)) for part in nested]))
    rows = []
    for aggregate in aggregates:
        for rule in rules:
            flags = flags_of(nested, rule, aggregate)
            low, high = rate_interval(int(flags.sum()), len(flags))
            rows.append(
                {
                    "rule": rule,
                    "aggregate": aggregate,
                    "promised": promised_rate(rule, size),
                    "alarms": int(flags.sum()),
                    "normals": len(flags),
                    "measured": float(flags.mean()),
                    "low": low,
                    "high": high,
                }
            )
    return rows


def p_values(nested: Sequence[NestedScores]) -> dict[str, np.ndarray]:
    """Return conformal p-values of the outer normals by the way that the banks are used."""
    found: dict[str, list[np.ndarray]] = {}
    for part in nested:
        pooled = np.concatenate(part.inner)
        for own in part.outer:
            found.setdefault("one bank", []).append(conformal_p_values(pooled, own))
        for how in ("max", "mean"):
            scores = aggregate_folds(part.outer, how)
            found.setdefault(f"{how} over banks", []).append(conformal_p_values(pooled, scores))
        found.setdefault("cross-conformal", []).append(cross_conformal_p_values(part))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def fold_shift(nested: Sequence[NestedScores]) -> dict[str, float]:
    """Measure both halves of the protocol's bias, in standard deviations of a single bank's score.

    Returns
    -------
    dict
        ``score_shift``: how much the maximum over the folds' banks lies above the score of one
        bank, on average.  ``threshold_shift``: how much the mean of the maxima lies below the
        largest of all held-out scores.  Both raise the rate of false alarms.  ``correlation``:
        mean correlation of a normal's scores between two banks.
    """
    spread = np.mean([n.outer.std(axis=1, ddof=1).mean() for n in nested])
    score = np.mean([(n.outer.max(axis=0) - n.outer.mean(axis=0)).mean() for n in nested])
    maxima = [[own.max() for own in n.inner] for n in nested]
    threshold = np.mean([max(own) - np.mean(own) for own in maxima])
    between = []
    for n in nested:
        matrix = np.corrcoef(n.outer)
        between.append(matrix[np.triu_indices(len(matrix), 1)].mean())
    return {
        "score_shift": float(score / spread),
        "threshold_shift": float(threshold / spread),
        "correlation": float(np.mean(between)),
    }


CURVES = {
    "maximum": "maximum over banks, mean of maxima (protocol)",
    "mean": "mean over banks, mean of maxima",
    "one bank": "one bank, mean of maxima",
    "one bank, largest": "one bank, largest score of all",
}


def simulate_protocol(
    correlations: Sequence[float], *, n_normal: int, folds: int, seed: int, repeats: int = 2000
) -> list[dict[str, float]]:
    """Run the protocol on Gaussian scores whose law is known: all images alike, all banks alike.

    An image's score against bank k is sqrt(r) a + sqrt(1 - r) e_k, r the correlation between
    banks.  Any false-alarm rate above 1 / (n_normal / folds + 1) then comes from the protocol.

    Returns
    -------
    list of dict
        For each correlation: the false-alarm rates, by the names of `CURVES`.
    """
    rows = []
    for correlation in correlations:
        generator = np.random.default_rng(seed)
        held_out = generator.standard_normal((repeats, folds, n_normal // folds))
        maxima = held_out.max(axis=2)  # each image meets one bank only: its correlation is idle
        threshold = maxima.mean(axis=1)
        common = generator.standard_normal((repeats, 200, 1)) * np.sqrt(correlation)
        own = generator.standard_normal((repeats, 200, folds)) * np.sqrt(1 - correlation)
        new = common + own
        rows.append(
            {
                "correlation": float(correlation),
                "maximum": float((new.max(axis=2) > threshold[:, None]).mean()),
                "mean": float((new.mean(axis=2) > threshold[:, None]).mean()),
                "one bank": float((new[:, :, 0] > threshold[:, None]).mean()),
                "one bank, largest": float((new[:, :, 0] > maxima.max(axis=1)[:, None]).mean()),
            }
        )
    return rows
