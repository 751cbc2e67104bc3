"""Criteria that know no label, held against the ranking that labels give."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import skew, spearmanr

from ad.evaluation import image_auroc
from studies.common import interval, score_draws
from studies.settings.scores import KINDS


@dataclass(frozen=True)
class Scores:
    """One split's scores of the same cells under several settings.

    ``normal`` and ``level`` have shape (n_settings, n_normal), ``defective`` (n_settings,
    n_defective), ``pasted`` (n_kinds, n_settings, n_pasted); ``source`` is the column of ``normal``
    that each synthetic anomaly was pasted into.
    """

    settings: list[str]
    normal: np.ndarray
    level: np.ndarray
    defective: np.ndarray
    pasted: np.ndarray
    source: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Scores":
        """Lay out one split and one seed of a table of scores, the default first."""
        settings = sorted(table["setting"].unique(), key=lambda name: (name != "default", name))

        def wide(label: object, column: str = "score") -> pd.DataFrame:
            own = table[table["label"] == label]
            return own.pivot(index="setting", columns="image", values=column).loc[settings]

        normal, pasted = wide(0), [wide(kind) for kind in KINDS]
        source = normal.columns.get_indexer(pasted[0].columns)
        level, stack = wide(0, "level").to_numpy(), np.stack([own.to_numpy() for own in pasted])
        return cls(settings, normal.to_numpy(), level, wide(1).to_numpy(), stack, source)

    def draw(self, rng: np.random.Generator) -> "Scores":
        """Draw cells with replacement, normal and defective ones; a cell brings its pasted ones."""
        n, m = self.normal.shape[1], self.defective.shape[1]
        rows, others = rng.integers(n, size=n), rng.integers(m, size=m)
        place = np.flatnonzero(np.isin(rows, self.source))
        column = {source: number for number, source in enumerate(self.source.tolist())}
        pasted = self.pasted[:, :, [column[row] for row in rows[place].tolist()]]
        normal, level, defective = self.normal[:, rows], self.level[:, rows], self.defective
        return Scores(self.settings, normal, level, defective[:, others], pasted, place)


def aurocs(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return each setting's AUROC of what should be high against what should be low."""
    labels = np.repeat([0, 1], [low.shape[1], high.shape[1]])
    return np.array([image_auroc(labels, own) for own in np.concatenate([low, high], axis=1)])


def by_labels(scores: Scores) -> np.ndarray:
    """Return each setting's AUROC, which needs labels."""
    return aurocs(scores.normal, scores.defective)


def criteria(scores: Scores) -> dict[str, np.ndarray]:
    """Return what each criterion says of each setting; more is better. None looks at a label.

    ``spread``: standard deviation of held-out normal cells over their mean, negative. ``coverage``:
    their mean patch score in units of the features' spread, negative. ``skewness``: of the scores
    of all cells, unlabelled, as anomalies make a long tail. ``separation``: how much a synthetic
    anomaly adds to its cell's score, in standard deviations of normal scores. The others: AUROC of
    synthetic anomalies, of all kinds and of each.
    """
    normal = scores.normal
    deviation = normal.std(axis=1)
    kinds = {kind: aurocs(normal, own) for kind, own in zip(KINDS, scores.pasted, strict=True)}
    added = (scores.pasted - normal[:, scores.source]).mean(axis=(0, 2))
    unlabelled = np.concatenate([normal, scores.defective], axis=1)
    return {
        "spread": -deviation / normal.mean(axis=1),
        "coverage": -scores.level.mean(axis=1),
        "skewness": skew(unlabelled, axis=1),
        "separation": added / deviation,
        "synthetic": np.mean(list(kinds.values()), axis=0),
        **kinds,
    }


def agreement(split: Scores, *, seed: int, repeats: int = 500) -> pd.DataFrame:
    """Say how well each criterion ranks settings, and what choosing by it brings.

    ``spearman`` is the rank correlation with AUROC by labels; cells and settings are drawn for its
    interval. ``gain`` is the AUROC of the criterion's best setting minus that of the first, the
    default; cells are drawn for its interval, the choice stays.
    """
    n, truth, said = len(split.settings), by_labels(split), criteria(split)
    chosen = {name: values.argmax() for name, values in said.items()}
    rng, ranks, gains = np.random.default_rng(seed), [], []
    for _ in range(repeats):
        drawn, some = split.draw(rng), rng.integers(n, size=n)
        labels, own = by_labels(drawn), criteria(drawn)
        ranks.append({name: _rank_correlation(v[some], labels[some]) for name, v in own.items()})
        gains.append({name: labels[best] - labels[0] for name, best in chosen.items()})
    ranks, gains = pd.DataFrame(ranks), pd.DataFrame(gains)
    rows = []
    for name, values in said.items():
        row = {"criterion": name, "spearman": _rank_correlation(values, truth)}
        row["low"], row["high"] = interval(ranks[name])
        row |= {"chosen": split.settings[chosen[name]], "gain": truth[chosen[name]] - truth[0]}
        row["gain_low"], row["gain_high"] = interval(gains[name])
        rows.append(row)
    return pd.DataFrame(rows)


def _rank_correlation(said: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's; a criterion that says the same of all settings ranks none: 0."""
    return float(spearmanr(said, truth).statistic) if np.ptp(said) and np.ptp(truth) else 0.0


def gain(
    table: pd.DataFrame, setting: str, *, seed: int, reference: str = "default"
) -> pd.DataFrame:
    """Compare a setting with the default: AUROC of each split, the mean over its runs of modules.

    Cells and seeds are drawn for the intervals, the same for both settings.
    """
    rows = []
    for split, own in table.groupby("set", sort=False):
        draws, values = [], []
        for run, cells in own.groupby("run"):
            wide = cells.pivot(
                index=["image", "label"], columns=["setting", "seed"], values="score"
            )
            labels = wide.index.get_level_values("label").to_numpy(dtype=int)
            both = [wide[name].to_numpy().T for name in (reference, setting)]
            values.append([np.mean([image_auroc(labels, s) for s in each]) for each in both])
            draws.append([score_draws(image_auroc, labels, s, seed=seed + run) for s in both])
        (first, second), (drawn_first, drawn) = np.mean(values, axis=0), np.mean(draws, axis=0)
        row = {"set": split, reference: first, setting: second, "gain": second - first}
        for name, found in (("", drawn), ("gain_", drawn - drawn_first)):
            row[f"{name}low"], row[f"{name}high"] = interval(found)
        rows.append(row)
    return pd.DataFrame(rows)
