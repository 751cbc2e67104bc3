"""Scores against their definitions and hand-worked cases."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from ad.neighbors import Neighbors
from ad.params import Score
from ad.scores import patch_scores, reweighting, score_images


def test_patch_scores_squared_or_plain():
    neighbors = Neighbors(np.array([[4.0, 16.0]], dtype=np.float32), np.array([[0, 1]]))
    assert patch_scores(neighbors, squared=True) == pytest.approx([10.0])
    assert patch_scores(neighbors, squared=False) == pytest.approx([3.0])


def test_whole_squares_are_averaged_with_one_rounding():
    squares = np.random.default_rng(0).integers(0, 2**31, (400, 7))
    found = patch_scores(Neighbors(squares.astype(np.float64), squares), squared=True)
    assert found.tolist() == [float(Fraction(sum(row), 7)) for row in squares.tolist()]


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


@pytest.mark.parametrize("unit", [1.0, 2.0**-6])
def test_reweighting_of_whole_numbers_is_rounded_once(unit):
    """The same bits as with sixty digits and another order of the sum."""
    generator = np.random.default_rng(2)
    bank = generator.integers(0, 128, (60, 12)).astype(np.uint8)
    for row in range(20):
        query = bank[row] // 3
        squares = np.square(bank.astype(int) - query.astype(int)).sum(axis=1)
        nearest = int(squares.argmin())
        around = np.square(bank.astype(int) - bank[nearest].astype(int)).sum(axis=1)
        support = np.argsort(around, kind="stable")[:5]
        with localcontext(prec=60):
            own = Decimal(int(squares[nearest])).sqrt()
            terms = [
                (Decimal(unit) * (Decimal(v).sqrt() - own)).exp() for v in squares[support].tolist()
            ]
            expected = float(1 - 1 / sum(sorted(terms)))
        assert reweighting(query, nearest, bank, num_neighbors=5, unit=unit) == expected


def test_whole_numbers_score_as_brute_force_says_to_the_bit():
    generator = np.random.default_rng(5)
    features = generator.integers(0, 128, (4, 3, 5, 30)).astype(np.uint8)
    bank = generator.integers(0, 128, (70, 30)).astype(np.uint8)
    found = score_images(features, bank, Score(num_neighbors=3))
    for number, patches in enumerate(features.reshape(4, 15, 30).astype(int)):
        squares = np.sort(np.square(patches[:, None] - bank.astype(int)).sum(axis=2), axis=1)
        expected = [float(Fraction(sum(row), 3)) for row in squares[:, :3].tolist()]
        assert found.patches[number].ravel().tolist() == expected
        assert found.images[number] == max(expected)


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


def test_ignored_patches_never_count():
    generator = np.random.default_rng(6)
    features = generator.integers(0, 128, (2, 3, 5, 8)).astype(np.uint8)
    bank = generator.integers(0, 128, (20, 8)).astype(np.uint8)
    ignored = generator.random((3, 5)) < 0.5
    plain = score_images(features, bank, Score(num_neighbors=2))
    found = score_images(features, bank, Score(num_neighbors=2), ignored=ignored)
    np.testing.assert_array_equal(found.patches, np.where(ignored, 0, plain.patches))
    np.testing.assert_array_equal(found.images, found.patches.max(axis=(1, 2)))
