"""The selection is greedy k-center, checked pick by pick in float64."""

from itertools import pairwise

import numpy as np
import pytest

from ad import coreset
from ad.coreset import k_center_greedy, project, random_projection


def greedy_slack(features: np.ndarray, picks: np.ndarray) -> float:
    """Return the smallest ratio of a pick's distance to the largest at that moment, in float64."""
    points = np.asarray(features, dtype=np.float64)
    nearest = np.full(len(points), np.inf)
    slack = 1.0
    for before, pick in pairwise(picks):
        nearest = np.minimum(nearest, np.sqrt(((points - points[before]) ** 2).sum(axis=1)))
        if nearest.max() > 0:
            slack = min(slack, nearest[pick] / nearest.max())
    return slack


def cases() -> dict[str, np.ndarray]:
    """Draw point sets that are easy, clustered, far from the origin, and degenerate."""
    generator = np.random.default_rng(0)
    normal = generator.standard_normal((3000, 24))
    levels = generator.integers(0, 5, (2500, 1)) * 100.0
    return {
        "gaussian": normal,
        "clusters far apart": generator.standard_normal((2500, 16)) * 0.01 + levels,
        "far from the origin": normal[:, :8] * 1e-2 + 50.0,
        "heavy tails": generator.standard_t(2, (2000, 12)),
        "one dimension": generator.standard_normal((2000, 1)),
        "duplicates": np.repeat(generator.standard_normal((300, 8)), 5, axis=0),
        "zero vectors": np.zeros((50, 4)),
        "float16": normal[:1500].astype(np.float16),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_each_pick_is_the_farthest(name, share):
    points = cases()[name]
    points = points if points.dtype == np.float16 else points.astype(np.float32)
    n_select = max(1, int(share * len(points)))
    picks = k_center_greedy(points, n_select, seed=7, progress=False)
    assert len(picks) == n_select
    assert len(set(picks.tolist())) == n_select
    assert greedy_slack(points, picks) >= 1 - 1e-5


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("candidates", [16, 64])
def test_each_pick_is_the_farthest_where_few_points_are_candidates(name, candidates, monkeypatch):
    """Small sizes everywhere: bounds go stale, tiles shrink, rounds end early."""
    monkeypatch.setattr(coreset, "FEWEST_CANDIDATES", candidates)
    monkeypatch.setattr(coreset, "CANDIDATE_SHARE", 0.0)
    monkeypatch.setattr(coreset, "BLOCK", 16)
    monkeypatch.setattr(coreset, "TILE", 32)
    points = cases()[name]
    points = points if points.dtype == np.float16 else points.astype(np.float32)
    n_select = len(points) // 10
    picks = k_center_greedy(points, n_select, seed=7, progress=False)
    assert len(set(picks.tolist())) == n_select
    assert greedy_slack(points, picks) >= 1 - 1e-5


def test_most_distances_are_never_measured(monkeypatch):
    monkeypatch.setattr(coreset, "FEWEST_CANDIDATES", 1024)
    points = np.random.default_rng(3).standard_normal((10_000, 12)).astype(np.float32)
    measured = []
    nearest = coreset._nearest
    monkeypatch.setattr(
        coreset,
        "_nearest",
        lambda left, right: (measured.append(len(left) * len(right)), nearest(left, right))[1],
    )
    picks = k_center_greedy(points, 600, seed=0, progress=False)
    assert sum(measured) < 0.75 * len(points) * len(picks)
    assert greedy_slack(points, picks) >= 1 - 1e-5


def test_hand_worked():
    # From 0: the farthest is 10; then 4 (4 from 0) beats 7 (3 from 10); then 7 beats 1.
    points = np.array([[0.0], [1.0], [4.0], [7.0], [10.0]], dtype=np.float32)
    for seed in range(20):
        picks = k_center_greedy(points, 5, seed=seed, progress=False).tolist()
        if picks[0] == 0:
            assert picks == [0, 4, 2, 3, 1]
            return
    pytest.fail("no seed starts at the first point")


def test_first_centre_is_seeded_and_in_the_coreset():
    points = cases()["gaussian"].astype(np.float32)
    firsts = [int(k_center_greedy(points, 3, seed=s, progress=False)[0]) for s in range(6)]
    again = [int(k_center_greedy(points, 1, seed=s, progress=False)[0]) for s in range(6)]
    assert firsts == again
    assert len(set(firsts)) > 1


def test_nested():
    points = cases()["gaussian"].astype(np.float32)
    small, large = (k_center_greedy(points, n, seed=1, progress=False) for n in (40, 700))
    assert np.array_equal(small, large[:40])


def test_threads_do_not_change_the_selection():
    points = cases()["heavy tails"].astype(np.float32)
    one, two = (
        k_center_greedy(points, 500, seed=1, projection_dim=6, threads=t, progress=False)
        for t in (1, 2)
    )
    assert np.array_equal(one, two)


def test_memory_mapped_input_is_left_alone(tmp_path):
    points = cases()["gaussian"].astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    from_disk = k_center_greedy(mapped, 50, seed=2, progress=False)
    assert np.array_equal(from_disk, k_center_greedy(points, 50, seed=2, progress=False))
    assert np.array_equal(np.load(tmp_path / "points.npy"), cases()["gaussian"].astype(np.float32))


def test_selection_in_the_projection_is_greedy_there():
    points = cases()["gaussian"].astype(np.float32)
    picks = k_center_greedy(points, 300, seed=3, projection_dim=6, progress=False)
    projected = points.astype(np.float64) @ random_projection(24, 6, seed=3).astype(np.float64)
    assert greedy_slack(projected, picks) >= 1 - 1e-5


def test_projection_keeps_squared_distances_in_expectation():
    generator = np.random.default_rng(1)
    difference = generator.standard_normal((1, 200)).astype(np.float32)
    ratios = [
        float(np.square(project(difference, 32, seed=s)).sum() / np.square(difference).sum())
        for s in range(400)
    ]
    # A mean of chi-squared(32) / 32: standard error 0.25 / 20.
    assert abs(np.mean(ratios) - 1) < 4 * 0.25 / 20


def test_projection_to_no_fewer_dimensions_changes_nothing():
    points = cases()["gaussian"].astype(np.float32)
    assert np.array_equal(project(points, 24, seed=0), points)
    assert np.array_equal(project(points, None, seed=0), points)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_located(bad):
    points = cases()["gaussian"].astype(np.float32)
    points[2111, 5] = bad
    with pytest.raises(ValueError, match=r"features\[2111, 5\] is"):
        k_center_greedy(points, 5, seed=0, progress=False)


@pytest.mark.parametrize("n_select", [0, -1, 3001])
def test_size_out_of_range(n_select):
    points = cases()["gaussian"].astype(np.float32)
    with pytest.raises(ValueError, match=rf"n_select={n_select} must be 1 to n_patches=3000"):
        k_center_greedy(points, n_select, seed=0, progress=False)
