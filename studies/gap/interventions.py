"""Count what a change in a run changes.

A ``Control`` is the unchanged run, and a ``Row`` one factor's effect on it; the modules
``*_factors`` carry the factors out.
"""

from dataclasses import dataclass

import numpy as np

from ad.dataset import of_split
from ad.metrics import both_classes, f1_score, image_auroc
from ad.protocol import BankImages, CrossValidated, Protocol, cross_validate, fold_indices
from pages.evaluation import known_labels
from studies.gap.case import Case

NUMERICAL, CHOICE, MISTAKE = "numerical or chance", "choice", "mistake"
RUN, REENACTED, ARGUED, NOT_RUN = "run", "re-enacted", "argued", "not run"


@dataclass(frozen=True)
class Outcome:
    """What a detector says.

    Parameters
    ----------
    folds : CrossValidated
    scores : array, shape (n_test,)
    threshold : float
    """

    folds: CrossValidated
    scores: np.ndarray
    threshold: float

    @property
    def flags(self) -> np.ndarray:
        """Return which test images are flagged, shape (n_test,)."""
        return self.scores > self.threshold


@dataclass(frozen=True)
class Row:
    """One factor's effect.

    ``f1``, ``image_auroc`` and ``hits`` are ``None`` where labels are unknown, and all figures
    where the factor was not run; ``note`` then says why, or argues what it would do.
    """

    factor: str
    kind: str
    how: str  # RUN, REENACTED, ARGUED or NOT_RUN
    note: str = ""
    f1: float | None = None
    image_auroc: float | None = None
    n_flagged: int | None = None
    flags_changed: int | None = None
    hits: int | None = None  # anomalous images that are flagged
    group: str = ""


@dataclass(frozen=True)
class Control:
    """The unchanged run and what the factors re-use of it."""

    case: Case
    features: np.ndarray  # (n_images, h, w, dim), train before test
    outcome: Outcome
    labels: np.ndarray | None  # (n_test,)

    @property
    def n_train(self) -> int:
        """Count the training images."""
        return len(self.features) - len(self.outcome.scores)

    def row(
        self,
        factor: str,
        outcome: Outcome | np.ndarray,
        *,
        kind: str = NUMERICAL,
        how: str = RUN,
        note: str = "",
    ) -> Row:
        """Compare an outcome, or flags alone, with the control."""
        scores = outcome.scores if isinstance(outcome, Outcome) else None
        flags = outcome.flags if isinstance(outcome, Outcome) else np.asarray(outcome, dtype=bool)
        f1 = auroc = hits = None
        if self.labels is not None:
            f1 = f1_score(self.labels, flags)
            hits = int(flags[self.labels == 1].sum())
            if scores is not None and both_classes(self.labels):
                auroc = image_auroc(self.labels, scores)
        changed = int(np.sum(flags != self.outcome.flags))
        return Row(factor, kind, how, note, f1, auroc, int(flags.sum()), changed, hits)

    def changed(self, factor: str, features: np.ndarray, *, kind: str = NUMERICAL) -> Row:
        """Run the protocol on other features and compare."""
        return self.row(factor, detect(features, self.n_train, self.case), kind=kind)


@dataclass(frozen=True)
class Change:
    """What differs in a run behind the features; by default nothing.

    Parameters
    ----------
    start_seed, projection_seed : int, optional
        Of the coresets.
    fold_seed : int, optional
        Shuffle the folds with it; by default they are runs of neighbours.
    index : str
        See `ad.neighbors.find_neighbors`.
    bank_features : array, optional
        Training features that the banks are drawn from, where their rows are others.
    """

    start_seed: int | None = None
    projection_seed: int | None = None
    fold_seed: int | None = None
    index: str = "exact"
    bank_features: np.ndarray | None = None


def detect(features: np.ndarray, n_train: int, case: Case, change: Change | None = None) -> Outcome:
    """Carry out the protocol: folds, coresets, thresholds, test scores.

    Parameters
    ----------
    features : array of float32, shape (n_images, h, w, dim)
        Train before test.
    n_train : int
    case : Case
    change : Change, optional
    """
    change, seed = change or Change(), case.seed
    protocol = Protocol(
        case.coreset,
        case.score.model_copy(update={"index": change.index}),
        seed if change.start_seed is None else change.start_seed,
        seed if change.projection_seed is None else change.projection_seed,
    )
    shuffle = change.fold_seed is not None
    folds = fold_indices(n_train, case.folds, shuffle=shuffle, seed=change.fold_seed or 0)
    images = None
    if change.bank_features is not None:
        images = BankImages([change.bank_features[:n_train]], np.arange(n_train))
    normals, test = features[:n_train], features[n_train:]
    return decide(cross_validate(normals, [test], folds, protocol, images=images))


def decide(folds: CrossValidated, *, rule: str = "max", aggregate: str = "max") -> Outcome:
    """Choose the threshold and aggregate the folds."""
    return Outcome(folds, folds.scores(aggregate), folds.threshold(rule))


def run_control(case: Case) -> Control:
    """Run the case unchanged, images to flags."""
    features = case.features()
    labels = known_labels(of_split(case.records(), "test"))
    return Control(case, features, detect(features, case.n_train(), case), labels)
