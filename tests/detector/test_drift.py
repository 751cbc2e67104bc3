"""Drift is silent while nothing changes and speaks soon after; its state outlives a restart."""

import json
from pathlib import Path

import numpy as np
import pytest

from ad.detector.drift import RICHEST, Drift


def stream_of(rng: np.random.Generator, n: int, *, folds: int = 3) -> np.ndarray:
    return rng.gamma(4, size=(n, folds)) * 1000


def test_it_is_silent_while_nothing_changes_and_with_some_defects():
    rng, highest = np.random.default_rng(0), []
    for _ in range(20):
        scores = stream_of(rng, 500)
        scores[rng.random(500) < 0.05] *= 10  # defects
        watched = Drift(list(stream_of(rng, 60).T))
        highest.append(max(watched.add(row) for row in scores))
    assert sum(value >= 20 for value in highest) <= 4  # Ville: at most one in 20, expected
    assert max(highest) < 1000


def test_it_speaks_soon_after_a_change_and_says_since_when():
    for seed, factor in enumerate((1.6, 0.6, 3.0)):
        rng = np.random.default_rng(seed)
        watched = Drift(list(stream_of(rng, 60).T))
        for row in stream_of(rng, 200):
            assert not watched.alarm(watched.add(row), 0.001)
        changed = factor * stream_of(rng, 200)
        said = (watched.alarm(watched.add(row), 0.001) for row in changed)
        words = next(text for text in said if text)
        assert watched.seen - 200 < (50 if factor == 3.0 else 150)
        since = int(words.partition("about image ")[2].split()[0])
        assert abs(since - 200) < 60, words


def test_capital_stays_a_number_however_far_images_move_on(tmp_path: Path):
    """Each is beyond nearly all before it: without a cap, 1.8 to the power of their number."""
    normals = [np.append(np.geomspace(1, 2, 60), 1e8)] * 3
    watched, again = Drift(normals), Drift(normals)
    for value in np.geomspace(3, 9e7, 1500):
        capital = watched.add(np.full(3, value))
    assert RICHEST / 10 < capital <= 5 * RICHEST
    watched.save(tmp_path / "state.json")
    again.restore(tmp_path / "state.json")
    assert again.add(np.full(3, 1e7)) == watched.add(np.full(3, 1e7))


def test_normals_without_a_spread_are_watched_too():
    assert Drift([np.zeros(3)]).add(np.array([5.0])) > 0


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    watched = Drift(list(stream_of(np.random.default_rng(3), 60).T))
    for row in stream_of(np.random.default_rng(4), 25):
        watched.add(row)
    watched.save(tmp_path / "state.json")
    return tmp_path / "state.json"


def test_the_state_outlives_a_restart(saved):
    held_out = list(stream_of(np.random.default_rng(3), 60).T)
    whole, second = Drift(held_out), Drift(held_out)
    values = [whole.add(row) for row in stream_of(np.random.default_rng(4), 40)]
    second.restore(saved)
    rest = stream_of(np.random.default_rng(4), 40)[25:]
    assert [second.add(row) for row in rest] == values[25:]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"of": 1}',
        b"\xff\xfe",
        {"of": "0" * 64},  # of another detector
        {"counts": []},
        {"counts": [{"5000": 85}] * 3},
    ],
)
def test_another_or_a_damaged_state_is_refused(saved, content):
    if isinstance(content, dict):
        content = json.dumps(json.loads(saved.read_bytes()) | content).encode()
    saved.write_bytes(content)
    fresh = Drift(list(stream_of(np.random.default_rng(3), 60).T))
    with pytest.raises(ValueError, match=r"state\.json: .* remove it to start anew"):
        fresh.restore(saved)
    assert fresh.seen == 0
