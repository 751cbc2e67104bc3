"""The study's pieces against scikit-learn, and the choice on cases where the answer is known."""

import numpy as np
import pytest
from ad.reduction import LinearMap, patch_moments
from sklearn.metrics import roc_auc_score

from studies.reconpatch.dimensions import (
    METHODS,
    RANDOM,
    Candidate,
    auroc,
    candidates_of,
    choose,
    choose_whitening,
    fit_map,
    layer_parts,
    map_scores,
    measure_candidate,
    methods_at,
    own_dimension,
    start_name,
    wins,
)
from studies.reconpatch.training import Settings

FAST = Settings(epochs=2, patches_per_image=16, batch_patches=32)


def images(n: int = 10, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    parts = generator.standard_normal((6, 12))
    kinds = generator.integers(0, 6, (n, 5, 5))
    return (parts[kinds] + 0.1 * generator.standard_normal((n, 5, 5, 12))).astype(np.float32)


def test_auroc_is_scikit_learns_with_ties():
    generator = np.random.default_rng(0)
    normal, anomalous = generator.integers(0, 6, 30), generator.integers(2, 9, 20)
    expected = roc_auc_score(np.repeat([0, 1], [30, 20]), np.concatenate([normal, anomalous]))
    assert auroc(normal, anomalous) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        (384, [None, 384, 256, 128, 64]),
        (512, [None, 512, 256, 128, 64]),
        (1536, [1024, 512, 256, 128, 64]),
        (48, [None, None, None, None, 48]),
    ],
)
def test_dimensions_are_capped_at_the_features_and_run_once(dim, expected):
    listed = [1024, 512, 256, 128, 64]
    assert [own_dimension(asked, listed, dim) for asked in listed] == expected


def test_layers_stand_side_by_side():
    assert layer_parts({"a": 2, "b": 3}, 5) == {"a": slice(0, 2), "b": slice(2, 5)}
    assert layer_parts({"a": 2, "b": 3}, 4) == {}  # pooled together: no layer is left by itself


def test_methods_of_a_dimension():
    assert methods_at(64, random_up_to=64) == list(METHODS)
    assert methods_at(65, random_up_to=64) == [m for m in METHODS if "random start" not in m]
    assert methods_at(None, random_up_to=64) == []


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map(method):
    x = images().reshape(10, 25, 12)
    moments = patch_moments(x.reshape(-1, 12))
    first, again, other = (
        fit_map(method, 4, x, moments, seed=seed, settings=FAST) for seed in (0, 0, 1)
    )
    assert first.map.matrix.shape == (12, 4)
    np.testing.assert_array_equal(first.map.matrix, again.map.matrix)
    assert np.array_equal(first.map.matrix, other.map.matrix) == (method not in RANDOM)
    assert (first.losses is None) == ("ReConPatch" not in method)


def test_the_identity_map_scores_as_patchcore_by_brute_force():
    bank, queries = images(6, 1), images(4, 2)
    identity = LinearMap(np.eye(12, dtype=np.float32), np.zeros(12, dtype=np.float32))
    found = map_scores(
        identity, bank, queries,
        ratio=1.0, num_neighbors=3, squared=True, seed=0,
    )  # fmt: skip
    points, rows = bank.reshape(-1, 12).astype(float), queries.reshape(-1, 12).astype(float)
    squares = np.sort(((rows[:, None] - points) ** 2).sum(axis=2), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(found, squares.reshape(4, -1).max(axis=1), rtol=1e-4)


def test_all_dimensions_of_pca_score_as_the_features_do():
    bank, queries = images(6, 1), images(4, 2)
    moments = patch_moments(bank.reshape(-1, 12))
    options = {"ratio": 0.2, "num_neighbors": 3, "squared": True, "seed": 5}
    own, turned = (
        map_scores(
            fit_map(method, 12, bank, moments, seed=0, settings=FAST).map, bank, queries, **options
        )
        for method in ("pooling", "PCA")
    )
    np.testing.assert_allclose(own, turned, rtol=1e-4)  # a rotation changes no distance


def test_a_candidate_is_scored_image_by_image_against_every_draw():
    bank, held_out, pasted = images(6, 1), images(2, 2), images(6, 3)
    identity = LinearMap(np.eye(12, dtype=np.float32), np.zeros(12, dtype=np.float32))
    options = {"ratio": 0.1, "num_neighbors": 2, "squared": True}
    own = measure_candidate("pooling", identity, bank, held_out, pasted, draws=[4, 9], **options)
    assert (own.method, own.n_components) == ("pooling", 12)
    assert own.normal.shape == (2, 2)
    assert own.synthetic.shape == (2, 2, 3)
    # A query's score does not depend on the others; image 1's three kinds are rows 3 to 5.
    alone = map_scores(identity, bank, pasted[3:], seed=9, **options)
    np.testing.assert_allclose(own.synthetic[1, 1], alone, rtol=1e-5)
    np.testing.assert_allclose(
        own.normal[0], map_scores(identity, bank, held_out, seed=4, **options), rtol=1e-5
    )


def candidate(method: str, gap: float, n_components: int = 8, seed: int = 0) -> Candidate:
    generator = np.random.default_rng(seed)
    normal = generator.normal(0, 1, (3, 40))
    return Candidate(method, n_components, normal, normal[..., None] + gap + np.zeros((3, 40, 2)))


def test_quality_is_the_mean_over_draws():
    normal = np.array([[0.0, 1.0], [0.0, 3.0]])
    synthetic = np.array([[[2.0], [2.0]], [[2.0], [2.0]]])
    assert Candidate("PCA", 2, normal, synthetic).quality == pytest.approx((1.0 + 0.5) / 2)


def test_the_clear_winner_is_chosen():
    chosen, rows = choose([candidate("pooling", 0.2), candidate("ReConPatch", 3.0)], seed=0)
    assert chosen.method == "ReConPatch"
    assert [row["chosen"] for row in rows] == [False, True]
    assert rows[0]["difference"] > rows[0]["standard_error"] > 0


def test_candidates_are_gathered_from_rows_of_text():
    rows = [
        ["PCA", "4", "0", "0", "1.5", "2.5", "3.5"],
        ["PCA", "4", "0", "7", "0.5", "9", "8"],
        ["PCA", "4", "1", "0", "1", "1", "1"],
        ["PCA", "4", "1", "7", "2", "2", "2"],
        ["PCA", "2", "0", "0", "1", "2", "3"],
    ]
    first, second = candidates_of(rows)
    assert (first.method, first.n_components, second.n_components) == ("PCA", 4, 2)
    np.testing.assert_array_equal(first.normal, [[1.5, 0.5], [1, 2]])
    np.testing.assert_array_equal(first.synthetic[0], [[2.5, 3.5], [9, 8]])
    assert second.synthetic.shape == (1, 1, 2)
    assert candidates_of([]) == []


def test_equals_give_way_to_the_simplest_and_smallest():
    several = [
        candidate("ReConPatch", 1.0),
        candidate("PCA", 1.0, 8),
        candidate("PCA", 1.0, 4),
    ]
    chosen, _ = choose(several, seed=0)
    assert (chosen.method, chosen.n_components) == ("PCA", 4)


def test_the_start_is_the_least_whitened_of_equals_and_the_winner_where_one_is_clear():
    plain, half, full = (candidate(m, 1.0) for m in ("PCA", "PCA, half whitened", "PCA, whitened"))
    assert choose_whitening([full, half, plain, candidate("ReConPatch", 9.0)], seed=0) == 0.0
    clear = candidate("PCA, half whitened", 3.0)
    assert choose_whitening([plain, clear, full], seed=0) == 0.5
    with pytest.raises(ValueError, match="none of the candidates"):
        choose_whitening([candidate("pooling", 1.0)], seed=0)


def test_starts_are_named_as_the_maps_are():
    named = [start_name(amount) for amount in (None, 0.0, 0.5, 1.0, 0.3)]
    assert named[:4] == ["projection", "PCA", "PCA, half whitened", "PCA, whitened"]
    assert named[4] == "PCA, whitening 0.3"


def test_difference_over_seeds_by_hand():
    difference, error = wins([3.0, 5.0], [1.0, 1.0])
    assert difference == 3.0
    assert error == pytest.approx(1.0)
    assert wins([3.0, 5.0], [2.0, 4.0]) == (1.0, 0.0)  # seeds that move both alike


def test_bad_arguments(one_line):
    x = images().reshape(10, 25, 12)
    with pytest.raises(ValueError) as caught:
        fit_map("ICA", 4, x, patch_moments(x.reshape(-1, 12)), seed=0, settings=FAST)
    one_line(caught, "method='ICA'", "pooling")
    with pytest.raises(ValueError) as caught:
        own_dimension(4, [0, 4], 8)
    one_line(caught, "at least 1")
    with pytest.raises(ValueError) as caught:
        own_dimension(5, [4], 8)
    one_line(caught, "dimension=5", "[4]")
