"""The selection is the textbook's: pick by pick from whole numbers, up to rounding from floats."""

import math
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from ad import coreset
from ad.coreset import first_pick, k_center_greedy, k_center_two_rounds, textbook_coreset
from ad.projection import project, random_projection


def greedy_in_python(features: np.ndarray, n_select: int, first: int) -> list[int]:
    """Select in Python's integers; of the farthest points the lowest row."""
    points = [tuple(row) for row in features.tolist()]
    picks, nearest = [first], {row: None for row in range(len(points)) if row != first}
    while len(picks) < n_select:
        for row, before in nearest.items():
            squared = sum((a - b) ** 2 for a, b in zip(points[row], points[picks[-1]], strict=True))
            nearest[row] = squared if before is None else min(before, squared)
        picks.append(min(nearest, key=lambda row: (-nearest[row], row)))
        del nearest[picks[-1]]
    return picks


def whole_cases() -> dict[str, np.ndarray]:
    """Draw whole numbers that are spread, few (many ties), equal, and as far apart as can be."""
    generator = np.random.default_rng(0)

    def draw(least: int, most: int, n: int, dim: int) -> np.ndarray:
        values = generator.integers(least, most + 1, (n, dim))
        return values.astype(np.uint8 if least >= 0 else np.int8)

    return {
        "spread": draw(0, 127, 500, 5),
        "signed": draw(-127, 127, 400, 3),
        "few values": draw(0, 1, 500, 6),
        "few signed values": draw(-1, 1, 400, 4),
        "one dimension": draw(0, 127, 400, 1),
        "duplicates": draw(0, 127, 90, 4).repeat(4, axis=0)[generator.permutation(360)],
        "zeros": np.zeros((60, 4), dtype=np.uint8),
        "wide": draw(0, 127, 150, 1100),
        "extremes": np.where(draw(0, 1, 300, 40) > 0, 127, -127).astype(np.int8),
    }


SIZES = {"as they are": {}, "small": {"FEWEST_CANDIDATES": 16, "BLOCK": 8, "TILE": 24}}


@pytest.mark.parametrize("name", whole_cases())
@pytest.mark.parametrize("sizes", SIZES)
def test_whole_numbers_give_the_textbook_s_picks(name, sizes, monkeypatch):
    """Small sizes: few points are candidates, bounds go stale, tiles shrink, rounds end early."""
    for constant, value in SIZES[sizes].items():
        monkeypatch.setattr(coreset, constant, value)
        monkeypatch.setattr(coreset, "CANDIDATE_SHARE", 0.0)
    points = whole_cases()[name]
    for threads, seed in ((1, 0), (3, 1)):
        torch.set_num_threads(threads)
        picks = k_center_greedy(points, len(points), seed=seed, progress=False)
        expected = textbook_coreset(points, len(points), seed=seed)
        np.testing.assert_array_equal(picks, expected)


@pytest.mark.parametrize("name", whole_cases())
def test_the_textbook_is_the_loop_in_python_s_integers(name):
    points = whole_cases()[name][:60]
    expected = greedy_in_python(points, 40, first_pick(len(points), 5))
    assert textbook_coreset(points, 40, seed=5).tolist() == expected


def test_most_distances_are_never_measured(monkeypatch):
    monkeypatch.setattr(coreset, "FEWEST_CANDIDATES", 1024)
    points = np.random.default_rng(3).normal(64, 15, (10_000, 12)).clip(0, 127).astype(np.uint8)
    measured, nearest = [], coreset._to_nearest

    def counting(left, right) -> np.ndarray:
        measured.append(len(left) * len(right))
        return nearest(left, right)

    monkeypatch.setattr(coreset, "_to_nearest", counting)
    k_center_greedy(points, 600, seed=0, progress=False)
    assert 0 < sum(measured) < 0.75 * len(points) * 600


def greedy_slack(features: np.ndarray, picks: np.ndarray) -> float:
    """Return the smallest ratio of a pick's distance to the largest at that moment, in float64."""
    points = np.asarray(features, dtype=np.float64)
    nearest, slack = np.full(len(points), np.inf), 1.0
    for before, pick in pairwise(picks):
        nearest = np.minimum(nearest, np.sqrt(((points - points[before]) ** 2).sum(axis=1)))
        slack = min(slack, nearest[pick] / nearest.max())
    return slack


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("candidates", [16, 8192])
def test_floats_are_picked_greedily_up_to_rounding(dtype, candidates, monkeypatch):
    monkeypatch.setattr(coreset, "FEWEST_CANDIDATES", candidates)
    points = np.random.default_rng(0).standard_t(3, (1500, 12)).astype(dtype)
    picks = k_center_greedy(points, 600, seed=7, progress=False)
    assert len(set(picks.tolist())) == 600
    assert greedy_slack(points.astype(np.float32), picks) >= 1 - 1e-5


def test_hand_worked():
    # From 0: the farthest is 10; then 4 (4 from 0) beats 7 (3 from 10); then 7 beats 1.
    for dtype in (np.uint8, np.int8, np.float32):
        points = np.array([[0], [1], [4], [7], [10]], dtype=dtype)
        seed = next(seed for seed in range(99) if first_pick(5, seed) == 0)
        assert k_center_greedy(points, 5, seed=seed, progress=False).tolist() == [0, 4, 2, 3, 1]


def test_first_centre_is_seeded_and_the_selection_nested():
    points = whole_cases()["spread"]
    firsts = [int(k_center_greedy(points, 1, seed=s, progress=False)[0]) for s in range(6)]
    assert firsts == [first_pick(len(points), s) for s in range(6)]
    assert len(set(firsts)) > 1
    small, large = (k_center_greedy(points, n, seed=1, progress=False) for n in (40, 400))
    np.testing.assert_array_equal(small, large[:40])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_mapped_input_is_left_alone(dtype, tmp_path):
    points = whole_cases()["spread"].astype(dtype)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    from_disk = k_center_greedy(mapped, 50, seed=2, progress=False)
    np.testing.assert_array_equal(from_disk, k_center_greedy(points, 50, seed=2, progress=False))
    np.testing.assert_array_equal(points, whole_cases()["spread"])


def test_what_cannot_be_selected_from_is_located():
    with pytest.raises(ValueError, match=r"n_select=61 must be 1 to n_patches=60"):
        k_center_greedy(whole_cases()["zeros"], 61, seed=0, progress=False)
    with pytest.raises(ValueError, match=r"n_select=0 must be"):
        k_center_greedy(whole_cases()["zeros"], 0, seed=0, progress=False)
    points = np.zeros((3000, 6), dtype=np.float32)
    points[2111, 5] = np.nan
    with pytest.raises(ValueError, match=r"features\[2111, 5\] is nan"):
        k_center_greedy(points, 5, seed=0, progress=False)
    with pytest.raises(ValueError, match=r"features\[2111, 5\] is nan"):
        project(points, 3, seed=0)


# Two rounds over shards


def radius_of(points: np.ndarray, bank: np.ndarray) -> float:
    """Return the distance of the farthest point from a bank, in int64."""
    wide = points.astype(np.int64), bank.astype(np.int64)
    return math.sqrt(np.square(wide[0][:, None] - wide[1]).sum(axis=2).min(axis=1).max())


@pytest.mark.parametrize("name", ["spread", "signed", "few values", "one dimension", "wide"])
def test_two_rounds_are_greedy_over_greedy_and_measure_their_radius(name, tmp_path):
    points, n, seed = whole_cases()[name], 20, 3
    shards = [points[:100], points[100:130], points[130:]]
    round_one = []  # 1.5 times a shard's share of the picks
    for start, shard in zip((0, 100, 130), shards, strict=True):
        share = math.ceil(1.5 * n * len(shard) / len(points))
        round_one += (start + textbook_coreset(shard, share, seed=seed)).tolist()
    rows = np.array(round_one)[textbook_coreset(points[round_one], n, seed=seed)]
    for number, shard in enumerate(shards):  # one of them as images' features in a file
        np.save(tmp_path / f"{number}.npy", shard[None])
    files = [tmp_path / f"{number}.npy" for number in range(3)]
    for given in (shards, files):
        found = k_center_two_rounds(given, n, seed=seed)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.bank, points[rows])
        assert found.radius == radius_of(points, points[rows])


def test_no_bank_is_better_by_more_than_the_factor():
    points = np.random.default_rng(5).integers(0, 128, (14, 2)).astype(np.uint8)
    best = min(radius_of(points, points[list(own)]) for own in combinations(range(14), 3))
    for seed in range(5):
        found = k_center_two_rounds([points[:7], points[7:]], 3, seed=seed, oversampling=2)
        assert best >= found.radius / found.factor > 0
        assert found.factor >= 1


def test_two_rounds_of_equal_patches_and_of_too_few():
    zeros = whole_cases()["zeros"]
    found = k_center_two_rounds([zeros, zeros], 5, seed=0)
    assert (found.radius, found.factor) == (0, 1)
    with pytest.raises(ValueError, match=r"round one picks 60 of 60 .* n_select=60; raise"):
        k_center_two_rounds([zeros], 60, seed=0)


# Random projection


@pytest.mark.parametrize("dim", [2, 3, 64, 65, 1100])
@pytest.mark.parametrize("least", [0, -127])
def test_projection_of_whole_numbers_is_the_rounded_sum(dim, least):
    features = np.random.default_rng(dim).integers(least, 128, (40, dim))
    features[:2] = [[127], [least]]
    features = features.astype(np.uint8 if least == 0 else np.int8)
    signs = np.sign(random_projection(dim, 2 if dim > 2 else 1, seed=4)).astype(int)
    power = next(2**s for s in range(20) if 4**s >= 4 * dim)
    sums = features.astype(int) @ signs
    expected = [[64 + round(Fraction(int(v), power)) for v in row] for row in sums]
    found = project(features, signs.shape[1], seed=4)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.clip(expected, 0, 127))


def test_projection_keeps_squared_distances_in_expectation():
    difference = np.random.default_rng(1).standard_normal((1, 200)).astype(np.float32)
    ratios = [
        float(np.square(project(difference, 32, seed=s)).sum() / np.square(difference).sum())
        for s in range(200)
    ]
    # A mean of 32 squares of sums of many terms, near chi-squared(32) / 32: deviation 0.25.
    assert abs(np.mean(ratios) - 1) < 4 * 0.25 / 200**0.5
    assert np.std(ratios) == pytest.approx(0.25, rel=0.25)


def test_signs_are_seeded_and_known():
    signs = np.sign(random_projection(64, 32, seed=0)).astype(int)
    other = np.sign(random_projection(64, 32, seed=1))
    assert (signs != other).mean() == pytest.approx(0.5, abs=0.1)
    raw = int(np.random.PCG64(0).random_raw()).to_bytes(8, "little")
    bits = [1 if byte >> 7 - bit & 1 else -1 for byte in raw for bit in range(8)]
    assert signs.ravel()[:64].tolist() == bits


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_projection_to_no_fewer_dimensions_changes_nothing(dtype):
    points = whole_cases()["spread"].astype(dtype)
    for dim in (5, 9):
        same = project(points, dim, seed=0)
        assert same.dtype == dtype
        np.testing.assert_array_equal(same, points)
