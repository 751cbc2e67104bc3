"""The studies' protocol against the plain steps that it is made of."""

from pathlib import Path

import numpy as np
import pytest
from ad.threshold import fold_indices
from sklearn.neighbors import NearestNeighbors

from ad import protocol as study_protocol
from ad.coreset import k_center_greedy
from ad.files import load_array
from ad.protocol import BankSettings, cross_validate, draw_bank, image_scores

SETTINGS = BankSettings(0.1, None, 3, squared=False)


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4, 4, 6)).astype(np.float32)


def plain_scores(images: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank.astype(np.float64))
    distances = index.kneighbors(images.reshape(-1, images.shape[-1]).astype(np.float64))[0]
    return distances.mean(axis=1).reshape(len(images), -1).max(axis=1)


def test_image_scores_do_not_depend_on_their_parts():
    images, bank = features(35, 0), features(3, 1).reshape(-1, 6)
    found = image_scores(images, bank, SETTINGS)
    np.testing.assert_allclose(found, plain_scores(images, bank, 3), rtol=1e-5)
    assert image_scores(images[:0], bank, SETTINGS).shape == (0,)


@pytest.mark.parametrize("shuffle", [False, True])
def test_folds_banks_and_scores_step_by_step(shuffle: bool):
    normals, queries = features(11, 2), features(5, 3)
    result = cross_validate(
        normals, [queries[:2], queries[2:]], SETTINGS, folds=3, shuffle=shuffle, seed=4
    )
    for fold, (kept, held_out) in enumerate(fold_indices(11, 3, shuffle=shuffle, seed=4)):
        patches = normals[kept].reshape(-1, 6)
        picked = k_center_greedy(patches, max(3, round(0.1 * len(patches))), seed=4)
        bank = patches[picked]
        expected = plain_scores(normals[held_out], bank, 3)
        np.testing.assert_allclose(result.held_out[fold], expected, rtol=1e-5)
        expected = plain_scores(queries, bank, 3)
        np.testing.assert_allclose(result.fold_scores[fold], expected, rtol=1e-5)
    maxima = [own.max() for own in result.held_out]
    assert result.threshold() == pytest.approx(np.mean(maxima))
    np.testing.assert_array_equal(result.scores(), result.fold_scores.max(axis=0))


def test_banks_have_copies_of_their_own_training_images_only():
    normals = features(6, 5)
    # Copy i stands alone, far from all else; whoever has it in the bank finds it at distance 0.
    copies = np.zeros_like(normals) + 1000 * np.arange(1, 7, dtype=np.float32)[:, None, None, None]
    settings = BankSettings(0.2, None, 1, squared=False)
    result = cross_validate(
        normals,
        [copies],
        settings,
        folds=3,
        shuffle=False,
        seed=0,
        copies=copies,
        copied_from=np.arange(6),
    )
    for fold, (kept, held_out) in enumerate(fold_indices(6, 3, shuffle=False, seed=0)):
        assert (result.fold_scores[fold][kept] == 0).all()
        assert (result.fold_scores[fold][held_out] > 1).all()


def test_copies_do_not_enlarge_a_bank():
    normals, seen = features(8, 6), []
    copies = features(8, 7) + 50

    class Recorded(BankSettings):
        def n_select(self, n_patches: int) -> int:
            seen.append(n_patches)
            return super().n_select(n_patches)

    cross_validate(
        normals,
        [normals[:1]],
        Recorded(0.1, None, 3, squared=True),
        folds=2,
        shuffle=False,
        seed=0,
        copies=copies,
        copied_from=np.arange(8),
    )
    assert seen == [4 * 16, 4 * 16]


def test_a_bank_holds_the_patches_that_the_selection_names():
    normals = features(4, 8)
    bank = draw_bank(normals, SETTINGS, seed=1)
    patches = normals.reshape(-1, 6)
    np.testing.assert_array_equal(bank, patches[k_center_greedy(patches, len(bank), seed=1)])
    assert len(bank) == round(0.1 * len(patches))
    assert len(draw_bank(normals, SETTINGS, seed=1, n_select=7)) == 7
    assert BankSettings(0.001, None, 5, squared=True).n_select(100) == 5


@pytest.mark.parametrize("at_a_time", [32768, 2048])
def test_features_on_disk_give_what_features_in_memory_give(
    at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(study_protocol, "PATCHES", at_a_time)
    values = np.random.default_rng(9).normal(size=(24, 14, 14, 20)).astype(np.float32)
    np.save(tmp_path / "f.npy", values)
    settings = BankSettings(0.02, 8, 3, squared=True)
    how = {"folds": 2, "shuffle": False, "seed": 0}
    plain = cross_validate(values[:18], [values[18:]], settings, **how)
    mapped = load_array(tmp_path / "f.npy")
    found = cross_validate(mapped[:18], [mapped[18:]], settings, **how)
    np.testing.assert_array_equal(found.fold_scores, plain.fold_scores)
    np.testing.assert_array_equal(found.held_out[0], plain.held_out[0])
    np.testing.assert_array_equal(mapped, values)
