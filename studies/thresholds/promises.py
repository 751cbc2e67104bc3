"""Threshold rules measured on normal cells that neither a bank nor a threshold has seen.

Every cell is left out once, with others at random (new cells of known modules) or with its
neighbours in the order of files (unseen modules); the whole protocol runs on the normal cells that
are left. One table of scores holds all of it, and figures follow by ``groupby``.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.model_selection import KFold

from ad.evaluation import image_auroc
from ad.params import CrossValidation
from ad.protocol import aggregate_folds, run_protocol
from ad.thresholds import final_threshold
from studies.common import by_seed, gain, interval, over_seeds

EXPERIMENT = ["set", "new", "folds", "seed"]  # columns that tell experiments apart
KNOWN, UNSEEN, OTHER = "known modules", "unseen modules", "other runs"
FOLDS = {True: "shuffled", False: "in file order"}
ARMS = ((KNOWN, True), (KNOWN, False), (UNSEEN, True), (UNSEEN, False))
MODULE = 60  # cells; a stretch of so many files stands in for a module
CONFORMAL, CROSS = "conformal:0.05", "cross_conformal:0.05"
RULES = {
    "max": None,  # promises nothing; see `promises`
    "quantile:0.95": 0.05,
    "quantile:0.99": 0.01,
    "mean_sd:2": 0.0228,  # of a normal law
    "mean_sd:3": 0.00135,
    CONFORMAL: 0.05,
    CROSS: 0.05,
}


def random_parts(n: int, parts: int, *, seed: int) -> np.ndarray:
    """Deal n cells out to parts at random; return each cell's part."""
    part = np.empty(n, dtype=int)
    for number, (_, own) in enumerate(KFold(parts, shuffle=True, random_state=seed).split(part)):
        part[own] = number
    return part


def measure(
    features: np.ndarray,
    cells: pd.DataFrame,
    part: np.ndarray,
    *,
    shuffle: bool,
    seed: int,
    asked: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Leave out each part in turn, run the protocol on the other normal cells, score the part.

    Parameters
    ----------
    features : array, shape (n_cells, h, w, dim)
    cells : DataFrame
        ``cell``, ``run``, ``place`` and ``label``, a row for each of ``features``, in file order.
    part : array of int, shape (n_cells,)
    shuffle : bool
        Of the folds inside: ``cv.shuffle``.
    seed : int
        Of the folds inside and of the banks.
    asked : sequence of int, optional
        Parts that are left out; by default each one.

    Returns
    -------
    DataFrame
        A row a score: ``part``, ``bank``, ``role`` (``held out`` by the bank's fold, or ``new``),
        ``image``, ``module`` (its stretch of neighbouring files), ``label``, ``score``.
    """
    about = pd.DataFrame({"image": cells["cell"], "label": cells["label"]})
    about["module"] = 1000 * cells["run"] + cells["cell"] // MODULE
    rows = []
    for number in np.unique(part) if asked is None else asked:
        kept = np.flatnonzero((part != number) & (cells["label"] == 0))
        new = np.flatnonzero(part == number)
        cv = CrossValidation(shuffle=shuffle)
        found = run_protocol(features[kept], features[new], cv=cv, seed=seed)
        for bank, (_, held_out) in enumerate(found.folds):
            for role, own, scores in (
                ("held out", kept[held_out], found.held_out[bank]),
                ("new", new, found.fold_scores[bank]),
            ):
                where = {"part": number, "bank": bank, "role": role, "score": scores}
                rows.append(about.iloc[own].assign(**where))
    return pd.concat(rows, ignore_index=True)


def measure_run(
    features: np.ndarray,
    cells: pd.DataFrame,
    *,
    name: str,
    parts: int,
    seeds: Sequence[int],
    arms: Sequence[tuple[str, bool]] = ARMS,
) -> pd.DataFrame:
    """Measure a run of modules; see `measure`.

    Parameters
    ----------
    arms : sequence of (str, bool)
        Which cells are new, and whether the folds inside are shuffled. The parts are drawn at
        random for new cells of `KNOWN` modules, and stretches of neighbouring files for `UNSEEN`.
    """
    tables = []
    for seed in seeds:
        parts_of = {
            KNOWN: random_parts(len(cells), parts, seed=seed),
            UNSEEN: (cells["place"] * parts).astype(int).to_numpy(),
        }
        for new, shuffle in arms:
            found = measure(features, cells, parts_of[new], shuffle=shuffle, seed=seed)
            tables.append(found.assign(set=name, new=new, folds=FOLDS[shuffle], seed=seed))
    return pd.concat(tables, ignore_index=True)


def conformal_threshold(held_out: np.ndarray, rate: float) -> float:
    """Return the r-th smallest held-out score, r = ceil((n + 1) (1 - rate)).

    A new score exceeds it with chance at most ``rate`` if it and the held-out scores are
    exchangeable (split conformal: Vovk et al., *Algorithmic Learning in a Random World*, 2005).
    """
    n = len(held_out)
    rank = int(np.ceil((n + 1) * (1 - rate) - 1e-9))  # 0.95 is a little above 95 / 100
    return float(np.sort(held_out)[rank - 1]) if rank <= n else np.inf


def cross_conformal(held_out: Sequence[np.ndarray], new: np.ndarray) -> np.ndarray:
    """Return p-values of new images, each bank's score beside that bank's own held-out scores.

    p = (1 + number of held-out scores at least as high, over all banks) / (n + 1). Flagging p <= a
    is sure to flag no more than 2 a + 2 (1 - a) (k - 1) / (n + k) of exchangeable normal images
    with k banks, and not a: with n = 218 and k = 5, 13.4 % where a is 5 % (Vovk, *Cross-conformal
    predictors*, 2015; Gasparin and Ramdas, arXiv:2503.01495, abstract).

    Parameters
    ----------
    held_out : sequence of arrays, one a bank
    new : array, shape (n_banks, n_images)
    """
    above = sum(
        len(own) - np.searchsorted(np.sort(own), scores, side="left")
        for own, scores in zip(held_out, new, strict=True)
    )
    return (1 + above) / (1 + sum(map(len, held_out)))


def flag(scores: pd.DataFrame, rules: Sequence[str] = tuple(RULES)) -> pd.DataFrame:
    """Flag the new images by each rule, by the maximum over banks and by the mean.

    Parameters
    ----------
    scores : DataFrame
        `measure`'s, with the columns `EXPERIMENT`.

    Returns
    -------
    DataFrame
        A row for each image, rule and ``aggregate``: ``score`` and ``flagged``.
    """
    tables = []
    for key, own in scores.groupby([*EXPERIMENT, "part"]):
        held = own[own["role"] == "held out"].groupby("bank")["score"].apply(np.array).tolist()
        wide = own[own["role"] == "new"].pivot(
            index=["image", "module", "label"], columns="bank", values="score"
        )
        banks = wide.to_numpy().T  # (banks, images)
        for aggregate in ("max", "mean"):
            found = aggregate_folds(banks, aggregate)
            for rule in rules:
                table = wide.index.to_frame(index=False)
                table[[*EXPERIMENT, "part"]] = key
                flagged = _flags(rule, held, banks, found)
                how = {"rule": rule, "aggregate": aggregate, "score": found, "flagged": flagged}
                tables.append(table.assign(**how))
    return pd.concat(tables, ignore_index=True)


def _flags(rule: str, held: list[np.ndarray], banks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Flag images by one rule."""
    if rule == CROSS:  # it looks at every bank by itself, so there is nothing to aggregate
        return cross_conformal(held, banks) <= RULES[CROSS]
    if rule == CONFORMAL:
        return scores > conformal_threshold(np.concatenate(held), RULES[CONFORMAL])
    return scores > final_threshold(held, rule)


def promised(rule: str, n_normal: float, folds: int = 5) -> float:
    """Return the rate of false alarms that a rule's name promises.

    A new score exceeds the largest of m exchangeable ones with chance 1 / (m + 1): what the
    protocol would keep with one bank and one fold of m = n / folds held-out images.
    """
    return RULES[rule] or 1 / (n_normal / folds + 1)


def rates(flags: pd.DataFrame, *, seed: int, level: float, repeats: int = 4000) -> pd.DataFrame:
    """Return each rule's rate of false alarms with an interval, and the rate of defects found.

    The interval is the wider of two at either end: modules drawn with replacement, as the cells of
    one are alike; and the exact binomial one, as few alarms tell little about modules.

    Parameters
    ----------
    flags : DataFrame
        `flag`'s. Seeds are averaged image by image first.
    level : float
        Of an interval; above 0.95 where several rules are looked at together.
    """
    by = ["set", "new", "folds", "rule", "aggregate"]
    rows = []
    for key, own in flags.groupby(by, sort=False):
        image = own.groupby(["label", "module", "image"])["flagged"].mean()
        normal = image.loc[0]
        low, high = _rate_interval(normal, seed=seed, level=level, repeats=repeats)
        defects = image[image.index.get_level_values("label") == 1]
        found = (len(normal), normal.mean(), low, high, len(defects), defects.mean())
        rows.append((*key, *found))
    names = ["normal", "false_alarms", "low", "high", "defects", "found"]
    return pd.DataFrame(rows, columns=[*by, *names])


def _rate_interval(
    flagged: pd.Series, *, seed: int, level: float, repeats: int
) -> tuple[float, float]:
    """Return the interval of a rate; ``flagged`` by module and image, from 0 to 1."""
    modules = flagged.groupby("module").agg(["sum", "size"]).to_numpy()
    rng = np.random.default_rng(seed)
    drawn = modules[rng.integers(len(modules), size=(repeats, len(modules)))].sum(axis=1)
    low, high = interval(drawn[:, 0] / drawn[:, 1], level)
    exact = binomtest(round(flagged.sum()), len(flagged)).proportion_ci(level)
    return min(low, exact.low), max(high, exact.high)


def compare_aggregates(flags: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return AUROC by the maximum and by the mean over banks, and their paired difference."""
    keys, rows = ["set", "new", "folds"], []
    for key, own in flags[flags["rule"] == "max"].groupby(keys, sort=False):
        labels, by_max = by_seed(own[own["aggregate"] == "max"])
        _, by_mean = by_seed(own[own["aggregate"] == "mean"])
        aurocs = [over_seeds(image_auroc, labels, scores) for scores in (by_max, by_mean)]
        rows.append((*key, *aurocs, *gain(image_auroc, labels, by_max, by_mean, seed=seed)))
    return pd.DataFrame(rows, columns=[*keys, "max", "mean", "difference", "low", "high"])
