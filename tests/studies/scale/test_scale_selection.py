"""Over shards the picks are the textbook's; what two rounds prove holds against brute force."""

import os
import sys
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
import sharded_case

from ad import frontier
from ad.coreset import k_center_greedy, textbook_coreset
from cluster.tasks import task_map
from studies.scale import selection, two_rounds
from studies.scale.selection import Question, answer, forget, select
from studies.scale.shards import read_shards
from studies.scale.two_rounds import TwoRounds, select_in_two_rounds


class Workers:
    """A map with several workers, one process: each call answers in order of items."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(self, function, items, *, stay=False):
        return map(function, items)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Let bounds go stale and rounds end early."""
    forget()
    monkeypatch.setattr(frontier, "FEWEST_CANDIDATES", 32)
    monkeypatch.setattr(frontier, "BLOCK", 16)


@pytest.mark.parametrize("kind", ["spread", "ties", "signed"])
@pytest.mark.parametrize("workers", [1, 2, 9])
def test_over_shards_the_picks_are_the_textbooks(kind, workers, tmp_path):
    points = sharded_case.points_of(kind)
    shards = sharded_case.write(tmp_path, points)
    for n_select in (1, 200):
        found = select(Workers(workers), shards, n_select, seed=3, progress=False)
        expected = textbook_coreset(points, n_select, seed=3)
        np.testing.assert_array_equal(found, expected)


def test_every_patch_may_be_picked(tmp_path):
    points = sharded_case.points_of("ties")[:90]
    for name, part in (("a.npy", points[:50]), ("b.npy", points[50:])):
        np.save(tmp_path / name, part)
    shards = sharded_case.index_of(tmp_path, ["a.npy", "b.npy"])
    found = select(Workers(2), shards, 90, seed=0, progress=False)
    np.testing.assert_array_equal(found, textbook_coreset(points, 90, seed=0))


@pytest.mark.parametrize("kind", ["floats", "spread"])
def test_a_projection_is_that_of_one_process(kind, tmp_path):
    points = sharded_case.points_of(kind)
    shards = sharded_case.write(tmp_path, points)
    how = {"seed": 1, "projection_dim": 3, "progress": False}
    expected = k_center_greedy(points, 60, **how)
    np.testing.assert_array_equal(select(Workers(2), shards, 60, **how), expected)


def test_a_candidate_cut_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "CANDIDATES", 5)
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    found = select(Workers(4), shards, 200, seed=0, progress=False)
    np.testing.assert_array_equal(found, textbook_coreset(points, 200, seed=0))


class Forgetful(Workers):
    """Lose what workers remember before every third call."""

    calls = 0

    def __call__(self, function, items, *, stay=False):
        self.calls += 1
        if self.calls % 3 == 0:
            forget()
        return map(function, items)


def test_workers_that_forget_are_told_again(tmp_path):
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    found = select(Forgetful(2), shards, 300, seed=0, progress=False)
    np.testing.assert_array_equal(found, textbook_coreset(points, 300, seed=0))


class Shrinking(Workers):
    """Workers with a memory each; all but the first are lost at the third call."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.calls = 0
        size = selection.HELD
        self.memories = [lru_cache(size)(lambda *_key: []) for _ in range(workers)]

    def __call__(self, function, items, *, stay=False):
        self.calls += 1
        if self.calls == 3:
            self.workers = 1
        for number, item in enumerate(items):
            selection._remembered = self.memories[number % self.workers]
            yield function(item)


def test_the_last_worker_does_not_measure_every_part_again_each_round(tmp_path, monkeypatch):
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    monkeypatch.setattr(selection, "_remembered", None)  # put back at the end
    read, plain = [], selection.read_points

    def counted(part, projection):
        read.append(part.offset)
        return plain(part, projection)

    monkeypatch.setattr(selection, "read_points", counted)
    assert len(shards) > selection.HELD
    run = Shrinking(len(shards))
    found = select(run, shards, 300, seed=0, progress=False)
    np.testing.assert_array_equal(found, textbook_coreset(points, 300, seed=0))
    # Every part once, those of the lost workers once more, then all as one.
    assert len(read) == len(shards) + (len(shards) - 1) + 1 and run.calls > 8


class Doubling(Workers):
    """Do every task twice."""

    def __call__(self, function, items, *, stay=False):
        list(map(function, items))
        return map(function, items)


def test_tasks_that_are_done_twice_change_nothing(tmp_path):
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    found = select(Doubling(2), shards, 300, seed=0, progress=False)
    np.testing.assert_array_equal(found, textbook_coreset(points, 300, seed=0))


def test_a_worker_that_is_ahead_starts_again(tmp_path):
    """A selection that was interrupted leaves workers that know later picks."""
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    picks = textbook_coreset(points, 90, seed=0)
    first = Question("same", shards, 200, None, True, 0, picks[:90], points[picks[:90]])
    answer(first)
    again = answer(replace(first, rows=picks[:40], picks=points[picks[:40]]))
    forget()
    fresh = answer(replace(first, rows=picks[:40], picks=points[picks[:40]]))
    assert again.rows.tolist() == fresh.rows.tolist() and again.least == fresh.least


class Failing(Workers):
    """Fail after a first round, as a cluster does that loses its scheduler."""

    def __call__(self, function, items, *, stay=False):
        if function is answer:
            list(map(function, items))
            raise MemoryError
        raise ConnectionError  # nothing can be forgotten


def test_a_selection_that_failed_leaves_nothing_to_one_with_other_workers(tmp_path):
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    with pytest.raises(MemoryError):
        select(Failing(4), shards, 60, seed=0, progress=False)
    found = select(Workers(2), shards, 60, seed=0, progress=False)
    np.testing.assert_array_equal(found, textbook_coreset(points, 60, seed=0))


def distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Measure every point from its nearest centre, in float64."""
    wide = points.astype(np.float64)
    squares = ((wide[:, None] - wide[centres][None]) ** 2).sum(axis=2)
    return np.sqrt(squares.min(axis=1))


@pytest.mark.parametrize("kind", ["spread", "signed", "floats"])
def test_two_rounds_radii_are_what_they_say(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(two_rounds, "NEAR", 0.0)  # measure the radius wherever it is
    points = sharded_case.points_of(kind)
    shards = sharded_case.write(tmp_path, points)
    found = select_in_two_rounds(Workers(2), shards, 50, seed=0, oversampling=2.0)
    assert len(set(found.rows.tolist())) == 50
    assert found.radius == pytest.approx(distances(points, found.rows).max(), rel=1e-5)
    assert found.radius <= found.first + found.second + 1e-6


def test_a_small_radius_is_given_as_the_bound(tmp_path, monkeypatch):
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    monkeypatch.setattr(two_rounds, "NEAR", 5.0)
    found = select_in_two_rounds(Workers(1), shards, 50, seed=0, oversampling=2.0)
    assert found.radius == 5 * found.second > distances(points, found.rows).max()
    assert found.factor == 10


def test_the_certificate_holds_against_the_best_choice(tmp_path, monkeypatch):
    """Of few points every choice of centres is tried."""
    monkeypatch.setattr(two_rounds, "NEAR", 0.0)
    generator = np.random.default_rng(0)
    for _ in range(5):
        points = generator.integers(0, 128, (12, 2)).astype(np.uint8)
        names = ["a.npy", "b.npy"]
        for name, part in zip(names, np.split(points, 2), strict=True):
            np.save(tmp_path / name, part)
        shards = sharded_case.index_of(tmp_path, names)
        found = select_in_two_rounds(Workers(1), shards, 3, seed=0, oversampling=2.0)
        best = min(distances(points, np.array(c)).max() for c in combinations(range(12), 3))
        own = distances(points, found.rows).max()
        assert own <= found.factor * best + 1e-9
        assert own <= found.factor_of_rounds * best + 1e-9
        assert found.second / 2 <= best + 1e-9


def test_factors_by_hand():
    assert TwoRounds(np.arange(2), 1.0, 2.0, 2.5).factor == 2.5
    assert TwoRounds(np.arange(2), 1.0, 2.0, 2.5).factor_of_rounds == 3.0
    assert TwoRounds(np.arange(2), 0.0, 0.0, 0.0).factor == 1.0
    assert TwoRounds(np.arange(2), 1.0, 0.0, 1.0).figures()["factor"] is None


def test_too_few_picks_in_round_one_are_a_line(tmp_path):
    shards = sharded_case.write(tmp_path, sharded_case.points_of("spread"))
    with pytest.raises(ValueError, match=r"picks 1090 of 1090 patches for n_select=1090; raise"):
        select_in_two_rounds(Workers(1), shards, 1090, seed=0, oversampling=2.0)


def test_a_changed_shard_is_refused(tmp_path):
    shards = sharded_case.write(tmp_path, sharded_case.points_of("spread"))
    shards.write()
    assert read_shards(tmp_path) == replace(shards, folder=str(tmp_path))
    np.save(tmp_path / "2.npy", np.zeros((512, 6), np.uint8))
    with pytest.raises(ValueError, match=r"2\.npy is not the index's shard; delete it"):
        select(Workers(2), shards, 10, seed=0, progress=False)
    (tmp_path / "index.json").unlink()
    with pytest.raises(ValueError, match="no index; the extraction did not finish"):
        read_shards(tmp_path)


def test_patches_are_found_by_their_rows(tmp_path):
    points = sharded_case.points_of("signed")
    shards = sharded_case.write(tmp_path, points)
    rows = np.array([0, 1089, 300, 301, 5, 5, 812, 813])
    np.testing.assert_array_equal(shards.take(rows), points[rows])
    parts = shards.parts(2)
    assert [part.offset for part in parts] == [0, 813]
    np.testing.assert_array_equal(np.concatenate([p.patches() for p in parts]), points)


def test_a_killed_worker_s_shards_are_measured_again(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="the extra 'cluster' is missing")
    points = sharded_case.points_of("spread")
    shards = sharded_case.write(tmp_path, points)
    monkeypatch.setattr(selection, "answer", sharded_case.answer_between_deaths)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with task_map("local:2") as run:
        found = select(run, shards, 900, seed=0, progress=False)
        rounds = select_in_two_rounds(run, shards, 50, seed=0, oversampling=2.0)
    assert (tmp_path / "deaths").read_text() == "xx"
    np.testing.assert_array_equal(found, textbook_coreset(points, 900, seed=0))
    here = select_in_two_rounds(Workers(1), shards, 50, seed=0, oversampling=2.0)
    np.testing.assert_array_equal(rounds.rows, here.rows)
    assert rounds.figures() == here.figures()
