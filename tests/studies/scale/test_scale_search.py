"""Search in parts is the search in one; the inverted file is measured against it."""

import numpy as np
import pytest

from ad.memory_bank import score_images
from ad.neighbors import exact_neighbors
from ad.params import Score
from cluster.tasks import task_map
from studies.scale import search
from studies.scale.search import (
    Bank,
    inverted_file,
    inverted_neighbors,
    neighbors_in_parts,
    sampled_recall,
    score_shards,
    train_lists,
)
from studies.scale.shards import index_of


def draw(n: int, dim: int = 5, most: int = 127) -> np.ndarray:
    """Draw whole numbers."""
    return np.random.default_rng(n).integers(0, most + 1, (n, dim)).astype(np.uint8)


@pytest.mark.parametrize("most", [127, 2])  # 2: many ties
@pytest.mark.parametrize("part", [1, 7, 64, 1000])
def test_parts_of_a_bank_give_the_neighbours_of_the_whole(most, part):
    queries, bank = draw(50, most=most), draw(200, most=most)
    found = neighbors_in_parts(queries, bank, 4, part=part)
    whole = exact_neighbors(queries, bank, 4)
    np.testing.assert_array_equal(found.squared_distances, whole.squared_distances)
    np.testing.assert_array_equal(found.indices, whole.indices)


def test_with_all_lists_the_inverted_file_is_exact():
    queries, bank = draw(60), draw(500)
    index = inverted_file(bank, train_lists(bank, 12))
    found = inverted_neighbors(queries, index, 3, probes=12)
    whole = exact_neighbors(queries, bank, 3)
    np.testing.assert_array_equal(found.squared_distances, whole.squared_distances)


def test_recall_is_measured_and_grows_with_probes():
    queries, bank = draw(300), draw(2000)
    centroids = train_lists(bank, 40)
    recalls = [sampled_recall(queries, bank, centroids, 5, probes=p) for p in (1, 5, 40)]
    assert recalls == sorted(recalls) and recalls[0] < 0.9 and recalls[-1] > 0.99


def test_lists_that_hold_too_few_are_a_line():
    bank = draw(20)
    index = inverted_file(bank, train_lists(bank, 20))
    with pytest.raises(ValueError, match="probes=1 lists of 20 hold fewer than 5 patches"):
        inverted_neighbors(draw(4), index, 5, probes=1)


def test_k_means_by_hand():
    bank = np.array([[0], [1], [9], [10]], dtype=np.uint8)
    # From rows 0 and 3: means 0.5 and 9.5, rounded half to even.
    np.testing.assert_array_equal(train_lists(bank, 2), [[0], [10]])


@pytest.mark.parametrize("reweight", [False, True])
def test_scores_of_shards_are_the_pipelines(reweight, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "IMAGES", 2)
    features = draw(5 * 9, dim=5).reshape(5, 3, 3, 5)
    bank, score = draw(80), Score(num_neighbors=3, reweight=reweight)
    for name, part in (("a.npy", features[:3]), ("b.npy", features[3:])):
        np.save(tmp_path / name, part)
    np.save(tmp_path / "bank.npy", bank)
    path = tmp_path / "bank.npy"
    held = Bank(str(path), search.sha256_file(path))
    shards = index_of(tmp_path, ["a.npy", "b.npy"], unit=0.01)
    with task_map() as run:
        found = score_shards(run, shards, held, score)
    whole = score_images(features, bank, score, unit=0.01)
    np.testing.assert_array_equal(found, whole.images)
    np.save(path, bank[:-1])
    search._opened.cache_clear()
    with task_map() as run, pytest.raises(RuntimeError, match="is not the file that is meant"):
        score_shards(run, shards, held, score)
