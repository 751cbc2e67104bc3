"""Detectors beside the default: two other methods, and PatchCore asked about unseen modules.

All of them learn from normal images alone, from the same features, folds and threshold rule.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from ad.params import CrossValidation
from ad.protocol import Result, fold_indices, run_protocol

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]  # normals, queries: the queries' scores


def pooled_neighbors(normals: np.ndarray, queries: np.ndarray, *, k: int = 5) -> np.ndarray:
    """Score images by the mean distance of their mean feature to those of the k nearest normals.

    Parameters
    ----------
    normals : array, shape (n_normals, h, w, dim)
    queries : array, shape (n_queries, h, w, dim)

    Returns
    -------
    array of float64, shape (n_queries,)
    """
    known, asked = (each.mean(axis=(1, 2), dtype=np.float64) for each in (normals, queries))
    return NearestNeighbors(n_neighbors=k).fit(known).kneighbors(asked)[0].mean(axis=1)


def gaussian_a_position(normals: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Score images by their largest Mahalanobis distance to a Gaussian of each position.

    PaDiM (Defard et al., 2021), on all dimensions; covariances are Ledoit and Wolf's, which need
    no setting, in place of the paper's plus 0.01 times the identity.

    Parameters
    ----------
    normals : array, shape (n_normals, h, w, dim)
    queries : array, shape (n_queries, h, w, dim)

    Returns
    -------
    array of float64, shape (n_queries,)
    """
    largest = np.zeros(len(queries))
    for row, column in np.ndindex(normals.shape[1:3]):
        known = normals[:, row, column].astype(np.float64)
        off = queries[:, row, column] - known.mean(axis=0)
        covariance, _ = ledoit_wolf(known)
        squares = np.einsum("nd,nd->n", off, np.linalg.solve(covariance, off.T).T)
        largest = np.maximum(largest, squares)
    return np.sqrt(largest)


def cross_validate(
    method: Method, normals: np.ndarray, queries: np.ndarray, *, seed: int
) -> Result:
    """Run another method through the protocol: same folds, threshold and maximum over folds.

    Parameters
    ----------
    method : callable
        Scores queries by normals: `pooled_neighbors`, `gaussian_a_position`.
    normals, queries : arrays, shape (n_images, h, w, dim)
    seed : int
        Of the folds.
    """
    cv = CrossValidation()
    folds, held_out, fold_scores = fold_indices(len(normals), cv, seed=seed), [], []
    for train, held in folds:
        scores = method(normals[train], np.concatenate([normals[held], queries]))
        held_out.append(scores[: len(held)])
        fold_scores.append(scores[len(held) :])
    return Result(folds, [], held_out, np.stack(fold_scores), cv)


class Decisions(NamedTuple):
    """Final scores, float64, and flags, bool, of queries; shape (n_queries,) each."""

    scores: np.ndarray
    flags: np.ndarray


def run_apart(
    parts: tuple[np.ndarray, np.ndarray], normals: np.ndarray, queries: np.ndarray, *, seed: int
) -> Decisions:
    """Run the whole protocol once a part, on the normals of all other parts.

    Parameters
    ----------
    parts : arrays of int, shape (n_normals,) and (n_queries,)
        The part of each image.  Where it is the stretch of files (`studies.common.stretches`), each
        query is of modules that neither its banks nor its threshold saw.
    normals, queries : arrays, shape (n_images, h, w, dim)
    seed : int
    """
    found = Decisions(np.empty(len(queries)), np.empty(len(queries), dtype=bool))
    for part in np.unique(parts[1]):
        own = np.flatnonzero(parts[1] == part)
        result = run_protocol(normals[parts[0] != part], queries[own], seed=seed)
        found.scores[own], found.flags[own] = result.scores, result.flags
    return found
