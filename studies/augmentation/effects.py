"""What banks with copies do to quality: counts, and AUROC with all its variance in the interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ad.metrics import f1_score, image_auroc
from studies.augmentation.repeats import PLAIN, Run
from studies.shared.uncertainty import difference_interval, pair_wins, rate_interval

LEVEL = 0.95  # of all comparisons of a family together
DRAWS = 10_000


def run_rows(runs: Sequence[Run], labels: np.ndarray | None) -> list[dict[str, object]]:
    """List each run's figures; those that need labels are ``None`` without, AUROC for one class."""
    rated = labels is not None and len(np.unique(labels)) == 2
    rows = []
    for run in runs:
        flags = run.test > run.threshold
        rows.append(
            {
                "repeat": run.repeat,
                "copies": run.kind,
                "threshold": run.threshold,
                "false_alarms": int((run.unseen > run.threshold).sum()),
                "unseen_normals": len(run.unseen),
                "flagged": int(flags.sum()),
                "image_auroc": image_auroc(labels, run.test) if rated else None,
                "f1": None if labels is None else f1_score(labels, flags),
            }
        )
    return rows


def tested(runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """Gather the test images' scores by kind, each of shape (n_repeats, n_images)."""
    kinds = dict.fromkeys(run.kind for run in runs)
    return {kind: np.stack([run.test for run in runs if run.kind == kind]) for kind in kinds}


@dataclass(frozen=True)
class Effect:
    """AUROC with one kind of copies minus that with another, the mean over the repeats.

    Parameters
    ----------
    kind, against : str
    change : float
    low, high : float
        Interval at the level that holds for the whole family of comparisons.
    group : str
        The defect that it is about; empty for all.
    moved : bool
        Whether any pair of images changed its order in any repeat.
    """

    kind: str
    against: str
    change: float
    low: float
    high: float
    group: str = ""
    moved: bool = True

    @property
    def sure(self) -> int:
        """1 for better, -1 for worse, 0 where the interval holds no change."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class _Draws:
    """Images of each class and repeats, drawn again: how often each counts, a row a draw."""

    anomalous: np.ndarray
    normal: np.ndarray
    repeats: np.ndarray


def _draw(n_anomalous: int, n_normal: int, n_repeats: int, seed: int) -> _Draws:
    """Draw images as many as there are, and repeats one fewer, each share summing to 1.

    Of so few repeats as many would give a variance that is too small by (R - 1) / R; one fewer
    gives the right one (Rao and Wu, *JASA* 1988).
    """
    generator = np.random.default_rng(seed)
    shares = []
    for n, size in ((n_anomalous, n_anomalous), (n_normal, n_normal), (n_repeats, n_repeats - 1)):
        size = max(size, 1)
        shares.append(generator.multinomial(size, np.full(n, 1 / n), DRAWS) / size)
    return _Draws(*shares)


def _interval(wins: np.ndarray, draws: _Draws, level: float) -> tuple[float, float]:
    """Return the interval of the mean of ``wins``, shape (n_repeats, n_anomalous, n_normal)."""
    means = [((draws.anomalous @ own) * draws.normal).sum(axis=1) for own in wins]
    values = (np.stack(means, axis=1) * draws.repeats).sum(axis=1)
    return difference_interval(values, float(wins.mean()), wins.shape[1], level)


def effects(
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    pairs: Sequence[tuple[str, str]],
    groups: Mapping[str, np.ndarray] | None = None,
    *,
    seed: int,
) -> list[Effect]:
    """Compare banks by AUROC, paired by image and by repeat; one family of comparisons.

    Images of each class are drawn again, and so are the repeats: each has its own training
    normals, folds, coresets, copies and changes.  The intervals hold together with 95 %
    (Bonferroni: each at 1 - 0.05 / comparisons).  Where no pair of images changes its order the
    interval is as wide as Jeffreys' of none of the anomalous images.

    Parameters
    ----------
    labels : array, shape (n_images,)
    scores : mapping of str to array, shape (n_repeats, n_images)
    pairs : sequence of (kind, against)
    groups : mapping of str to array of bool, shape (n_images,), optional
        Anomalous images that are compared by themselves, against all normal ones.
    """
    labels = np.asarray(labels, dtype=bool)
    groups = groups or {"": labels}
    level = 1 - (1 - LEVEL) / (len(pairs) * len(groups))
    found = []
    for group, own in groups.items():
        part = own | ~labels
        wins = {
            kind: np.stack([pair_wins(labels[part], each[part]) for each in runs])
            for kind, runs in scores.items()
        }
        n_repeats, n_anomalous, n_normal = wins[pairs[0][0]].shape
        draws = _draw(n_anomalous, n_normal, n_repeats, seed)
        for kind, against in pairs:
            change = wins[kind] - wins[against]
            ends = _interval(change, draws, level)
            found.append(
                Effect(kind, against, float(change.mean()), *ends, group, bool(change.any()))
            )
    return found


def defect_groups(defects: Sequence[str | None], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Tell each defect's images, as masks of shape (n_images,)."""
    names = np.array([name or "unnamed" for name in defects])
    anomalous = np.asarray(labels, dtype=bool)
    return {str(name): (names == name) & anomalous for name in sorted(set(names[anomalous]))}


def defect_rows(found: Sequence[Effect]) -> list[dict[str, object]]:
    """Lay out effects by defect: a row a defect, a column a kind, surely changed ones marked."""
    rows: dict[str, dict[str, object]] = {}
    for e in found:
        row = rows.setdefault(e.group, {"defect": e.group})
        words = f"{e.change:+.3f} ({e.low:+.3f} to {e.high:+.3f}){' *' if e.sure else ''}"
        row[e.kind] = words if e.moved else "unchanged"
    return list(rows.values())


def kind_rows(rows: Sequence[Mapping]) -> list[dict[str, object]]:
    """Sum up the runs of each kind: mean and spread over the repeats, false alarms together."""

    def spread(own: Sequence[Mapping], key: str) -> str | None:
        values = [row[key] for row in own]
        if None in values:
            return None
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"

    table = []
    for kind in dict.fromkeys(row["copies"] for row in rows):
        own = [row for row in rows if row["copies"] == kind]
        alarms, n = (sum(row[key] for row in own) for key in ("false_alarms", "unseen_normals"))
        low, high = rate_interval(alarms, n)
        table.append(
            {
                "copies": kind,
                "image AUROC": spread(own, "image_auroc"),
                "F1": spread(own, "f1"),
                "false alarms": f"{alarms} of {n} ({low:.1%} to {high:.1%})",
                "threshold": spread(own, "threshold"),
            }
        )
    return table


def comparisons(kinds: Sequence[str], control: str) -> list[tuple[str, str]]:
    """List what is compared: each kind with no copies, and with the control's copies."""
    return [(kind, PLAIN) for kind in kinds] + [
        (kind, control) for kind in kinds if kind != control
    ]
