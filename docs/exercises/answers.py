"""Your answers to docs/exercises.md. Replace ``raise NotImplementedError`` by your own code."""

import numpy as np


def forged_table() -> dict[str, int]:
    """1. Counts of 40 anomalous and 60 normal images whose F1 prints 0.44.

    Returns
    -------
    dict
        ``true_positive``, ``false_negative``, ``false_positive``, ``true_negative``.
    """
    raise NotImplementedError


def broken_order(record: dict, rng: np.random.Generator) -> dict:
    """2. The record of a run whose rows were joined by position, in another order of its files.

    Parameters
    ----------
    record : dict
        With ``scores`` (id to score) and ``submission`` (rows of id and flag) among other fields;
        see `studies.gap.compare.Record`.
    """
    raise NotImplementedError


def image_that_sets_the_threshold(held_out: list[dict[str, float]]) -> str:
    """3. The id without which the mean of the folds' largest scores falls the most.

    Parameters
    ----------
    held_out : list of dict
        A fold each: the scores of its held-out normal images, by id.
    """
    raise NotImplementedError


def normals_that_fool_conformal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """4. Scores of 200 normals to calibrate on, and of 200 new normals."""
    raise NotImplementedError


def threshold_rule(scores: np.ndarray) -> float:
    """5. A threshold from the scores of normal images, some 40 of them."""
    raise NotImplementedError


def new_backbone() -> dict[str, object]:
    """6. ``name`` and ``layers`` of a network, as ``params.yaml`` has them below ``backbone``."""
    raise NotImplementedError


def better_coreset(points: np.ndarray, n_select: int) -> np.ndarray:
    """7. Rows of ``points`` (n, 2), ``n_select`` of them, that cover better than greedy's."""
    raise NotImplementedError
