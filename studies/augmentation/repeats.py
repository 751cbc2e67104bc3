"""Banks with changed copies of normals: what each change does, and whether it hides a defect.

A change hides a defect if it leads out of the normal set: a detector that never saw it flags a
normal that was changed so, as it would flag a part that came that way.  A bank with such copies
takes both for normal.  This shows without any anomaly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.model_selection import KFold

from ad.protocol import BankImages, Protocol, cross_validate, fold_indices
from studies.shared.rates import compare_flags

PLAIN = "none"
# Gives features of changed images: (image numbers, kind, seed) to (n, h, w, dim).
Changed = Callable[[np.ndarray, str, int], np.ndarray]


@dataclass(frozen=True)
class Run:
    """One detector of one repeat.

    Parameters
    ----------
    repeat : int
    kind : str
        What the copies in the bank went through; ``none`` for no copies.
    threshold : float
        Mean of the folds' maxima.
    unseen : array, shape (n_unseen,)
        Scores of normals that neither bank nor threshold saw.
    test : array, shape (n_test,)
    changed : dict of str to array, shape (n_unseen,)
        Scores of the same normals, changed by a kind: by all kinds where the bank has no copies,
        otherwise by the bank's own.
    """

    repeat: int
    kind: str
    threshold: float
    unseen: np.ndarray
    test: np.ndarray
    changed: dict[str, np.ndarray] = field(default_factory=dict)


def outer_parts(n_normals: int, repeats: int, *, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split off a different part of the normals for each repeat: (rest, unseen) image numbers.

    The unseen parts do not overlap, so that their images can be counted together.
    """
    splitter = KFold(max(5, repeats), shuffle=True, random_state=seed)
    parts = list(splitter.split(np.zeros(n_normals)))
    return [(rest, unseen) for rest, unseen in parts[:repeats]]


@dataclass(frozen=True)
class Repeats:
    """How often, in how many folds, and with how many copies.

    Parameters
    ----------
    number : int
        Each repeat draws other unseen normals, other copies, other changes, folds and coresets.
    folds : int
        Shuffled folds of the protocol.
    n_copies : int
        Normals that get one copy; all of them where there are fewer.
    """

    number: int
    folds: int
    n_copies: int


def run_repeats(
    normals: np.ndarray,
    test: np.ndarray,
    kinds: Sequence[str],
    changed: Changed,
    protocol: Protocol,
    repeats: Repeats,
) -> list[Run]:
    """Compare banks with copies of each kind with a bank of none, on other normals each time.

    Parameters
    ----------
    normals, test : arrays, shape (n_images, h, w, dim)
        Features of unchanged images; may be memory-mapped.
    kinds : sequence of str
    changed : callable
        Gives features of changed normals by image numbers, kind and seed.
    protocol : Protocol
        Copies do not enlarge a bank.
    repeats : Repeats
    """
    runs = []
    parts = outer_parts(len(normals), repeats.number, seed=protocol.seed)
    for repeat, (rest, unseen) in enumerate(parts):
        own = replace(protocol, seed=protocol.seed + repeat)
        folds = fold_indices(len(rest), repeats.folds, shuffle=True, seed=own.seed)
        generator = np.random.default_rng([protocol.seed, repeat])
        n_copies = min(repeats.n_copies, len(rest))
        chosen = np.sort(generator.choice(len(rest), n_copies, replace=False))
        fit, plain = normals[rest], [normals[unseen], test]
        seen_by = {kind: changed(unseen, kind, own.seed) for kind in kinds}
        for kind in (PLAIN, *kinds):
            images = BankImages([fit], np.arange(len(rest)))
            if kind != PLAIN:
                copies = changed(rest[chosen], kind, own.seed)
                images = BankImages([fit, copies], np.concatenate([images.source, chosen]))
            shown = list(kinds) if kind == PLAIN else [kind]
            queries = [*plain, *(seen_by[name] for name in shown)]
            result = cross_validate(fit, queries, folds, own, images=images)
            borders = np.cumsum([len(query) for query in queries[:-1]])
            first, tested, *others = np.split(result.scores(), borders)
            by_kind = dict(zip(shown, others, strict=True))
            runs.append(Run(repeat, kind, result.threshold(), first, tested, by_kind))
    return runs


@dataclass(frozen=True)
class Departure:
    """Whether a change leads out of the normal set, and whether a bank with copies hides that.

    Both p-values are of one-sided exact tests on the images whose flag differs (McNemar).

    Parameters
    ----------
    kind : str
    n_images : int
        Unseen normals, all repeats together.
    plain, before, after : int
        How many are flagged: unchanged, by a bank without copies; changed, by a bank without and
        with such copies.
    p_leaves : float
        Of the changed being flagged no more often than the unchanged.
    p_hidden : float
        Of the changed being flagged no more seldom by a bank with copies.
    """

    kind: str
    n_images: int
    plain: int
    before: int
    after: int
    p_leaves: float
    p_hidden: float

    def leaves(self, level: float) -> bool:
        """Tell whether the change leads out of the normal set, at a level of significance."""
        return self.p_leaves < level

    def hides(self, level: float) -> bool:
        """Tell whether it does, and a bank with such copies flags it more seldom."""
        return self.leaves(level) and self.p_hidden < level


def _flags(runs: Sequence[Run], kind: str | None) -> np.ndarray:
    return np.concatenate(
        [(run.unseen if kind is None else run.changed[kind]) > run.threshold for run in runs]
    )


def departures(runs: Sequence[Run], kinds: Sequence[str]) -> list[Departure]:
    """Count for each kind how many changed normals are flagged, without and with copies."""
    without = [run for run in runs if run.kind == PLAIN]
    plain = _flags(without, None)
    found = []
    for kind in kinds:
        before = _flags(without, kind)
        after = _flags([run for run in runs if run.kind == kind], kind)
        counts = (int(each.sum()) for each in (plain, before, after))
        tests = (compare_flags(before, other, alternative="greater")[2] for other in (plain, after))
        found.append(Departure(kind, len(plain), *counts, *tests))
    return found
