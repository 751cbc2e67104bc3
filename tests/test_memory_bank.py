"""Scores against their definitions and hand-worked cases."""

import numpy as np
import pytest

from ad.memory_bank import patch_scores, reweighting, score_images
from ad.neighbors import Neighbors
from ad.params import Score


def test_patch_scores_squared_or_plain():
    neighbors = Neighbors(np.array([[4.0, 16.0]], dtype=np.float32), np.array([[0, 1]]))
    assert patch_scores(neighbors, squared=True) == pytest.approx([10.0])
    assert patch_scores(neighbors, squared=False) == pytest.approx([3.0])


def test_reweighting_hand_worked():
    bank = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    query = np.array([1.0, 0.0])
    # m* = (0, 0) at 1; of its two nearest, itself and (0, 1), the latter is sqrt(2) from q.
    expected = 1 - np.exp(1.0) / (np.exp(1.0) + np.exp(np.sqrt(2.0)))
    assert reweighting(query, 0, bank, num_neighbors=2) == pytest.approx(expected)


def test_reweighting_survives_large_distances_and_duplicates():
    bank = np.array([[0.0], [0.0], [1e4]])
    assert reweighting(np.array([1e4 - 1.0]), 2, bank, num_neighbors=1) == 0.0
    assert reweighting(np.array([2e3]), 1, bank, num_neighbors=2) == pytest.approx(0.5)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("reweight", [True, False])
def test_image_scores_equal_the_definition(squared, reweight):
    generator = np.random.default_rng(4)
    features = generator.standard_normal((6, 3, 4, 10)).astype(np.float32)
    bank = generator.standard_normal((50, 10)).astype(np.float32)
    found = score_images(features, bank, Score(num_neighbors=3, squared=squared, reweight=reweight))
    for number in range(6):
        patches = features[number].reshape(-1, 10).astype(float)
        squares = ((patches[:, None] - bank.astype(float)) ** 2).sum(axis=2)
        distances = squares if squared else np.sqrt(squares)
        scores = np.sort(distances, axis=1)[:, :3].mean(axis=1)
        np.testing.assert_allclose(found.patches[number].ravel(), scores, rtol=1e-4)
        expected = scores.max()
        if reweight:
            star = scores.argmax()
            nearest = squares[star].argmin()
            support = np.argsort(((bank - bank[nearest]) ** 2).sum(axis=1))[:3]
            to_support = np.sqrt(squares[star][support])
            expected *= 1 - np.exp(np.sqrt(squares[star, nearest])) / np.exp(to_support).sum()
        assert found.images[number] == pytest.approx(expected, rel=1e-3)
