"""Methods, one dimension's runs and the study's results on a few patches, end to end."""

import numpy as np
import pytest

from ad.dataset import ImageRecord
from ad.files import load_array, read_csv, read_json
from ad.params import Coreset, Score
from ad.protocol import Protocol
from studies.reconpatch import findings, plots, results
from studies.reconpatch.choice import choose, measure_candidate
from studies.reconpatch.maps import LinearMap, load_map, patch_moments
from studies.reconpatch.methods import (
    METHODS,
    RANDOM,
    fit_map,
    layer_parts,
    map_scores,
    own_dimension,
    start_name,
)
from studies.reconpatch.runs import Images, Runs, quality_by_kind, read_training, starts_table
from studies.reconpatch.settings import Training

FAST = Training(epochs=2, patches_per_image=16, batch_patches=32, start="pca")
IDENTITY = LinearMap(np.eye(12, dtype=np.float32), np.zeros(12, dtype=np.float32))


def protocol(ratio: float = 0.2, seed: int = 0, neighbors: int = 3) -> Protocol:
    return Protocol(Coreset(ratio=ratio), Score(num_neighbors=neighbors), seed)


def draw(n: int = 10, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Draw images of 5 x 5 patches; a shift moves one patch of each away."""
    generator = np.random.default_rng(seed)
    parts = np.random.default_rng(99).standard_normal((6, 12))
    kinds = generator.integers(0, 6, (n, 5, 5))
    features = parts[kinds] + 0.1 * generator.standard_normal((n, 5, 5, 12))
    features[:, 2, 2] += shift
    return features.astype(np.float32)


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        (152, [None, 152, 96, 64]),
        (200, [200, 152, 96, 64]),
        (1536, [256, 152, 96, 64]),
        (48, [None, None, None, 48]),
    ],
)
def test_dimensions_are_capped_at_the_features_and_run_once(dim, expected):
    listed = [256, 152, 96, 64]
    assert [own_dimension(asked, listed, dim) for asked in listed] == expected


def test_layers_stand_side_by_side():
    assert layer_parts({"a": 2, "b": 3}, 5) == {"a": slice(0, 2), "b": slice(2, 5)}
    assert layer_parts({"a": 2, "b": 3}, 4) == {}  # pooled together: no layer is left by itself


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map(method):
    x = draw().reshape(10, 25, 12)
    moments = patch_moments(x.reshape(-1, 12))
    first, again, other = (fit_map(method, 4, x, moments, FAST, seed=seed) for seed in (0, 0, 1))
    assert first.map.matrix.shape == (12, 4)
    np.testing.assert_array_equal(first.map.matrix, again.map.matrix)
    assert np.array_equal(first.map.matrix, other.map.matrix) == (method not in RANDOM)
    assert (first.losses is None) == ("ReConPatch" not in method)


def test_the_identity_map_scores_as_patchcore_by_brute_force():
    bank, queries = draw(6, 1), draw(4, 2)
    found = map_scores(IDENTITY, bank, queries, protocol(ratio=1.0))
    points, rows = bank.reshape(-1, 12).astype(float), queries.reshape(-1, 12).astype(float)
    squares = np.sort(((rows[:, None] - points) ** 2).sum(axis=2), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(found, squares.reshape(4, -1).max(axis=1), rtol=1e-4)


def test_all_dimensions_of_pca_score_as_the_features_do():
    bank, queries = draw(6, 1), draw(4, 2)
    moments = patch_moments(bank.reshape(-1, 12))
    own, turned = (
        map_scores(
            fit_map(method, 12, bank, moments, FAST, seed=0).map, bank, queries, protocol(seed=5)
        )
        for method in ("pooling", "PCA")
    )
    np.testing.assert_allclose(own, turned, rtol=1e-4)  # a rotation changes no distance


def test_a_candidate_is_scored_image_by_image_against_every_draw():
    bank, held_out, pasted = draw(6, 1), draw(2, 2), draw(6, 3)
    several = [protocol(seed=seed, neighbors=2) for seed in (4, 9)]
    kinds = ("cut_paste", "texture", "lead_cut")
    own = measure_candidate("pooling", IDENTITY, (bank, held_out, pasted), kinds, several)
    assert (own.method, own.n_components, own.kinds) == ("pooling", 12, kinds)
    assert own.normal.shape == (2, 2)
    assert own.synthetic.shape == (2, 2, 3)
    # A query's score does not depend on the others; image 1's three kinds are rows 3 to 5.
    alone = map_scores(IDENTITY, bank, pasted[3:], several[1])
    np.testing.assert_allclose(own.synthetic[1, 1], alone, rtol=1e-5)
    expected = map_scores(IDENTITY, bank, held_out, several[0])
    np.testing.assert_allclose(own.normal[0], expected, rtol=1e-5)


def test_starts_are_named_as_the_maps_are():
    named = [start_name(amount) for amount in (0.0, 0.5, 1.0, 0.3)]
    assert named == ["PCA", "PCA, half whitened", "PCA, whitened", "PCA, whitening 0.3"]


def test_bad_arguments(one_line):
    x = draw().reshape(10, 25, 12)
    for call, words in (
        (
            lambda: fit_map("ICA", 4, x, patch_moments(x.reshape(-1, 12)), FAST, seed=0),
            ("method='ICA'", "pooling"),
        ),
        (lambda: own_dimension(4, [0, 4], 8), ("at least 1",)),
        (lambda: own_dimension(5, [4], 8), ("dimension=5", "[4]")),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        one_line(caught, *words)


LABELS = np.array([0] * 6 + [1] * 6)
RECORDS = [
    ImageRecord(f"test/{n}", f"{n}.png", "test", int(label), None, None)
    for n, label in enumerate(LABELS)
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run two dimensions, and one that another stands for; return the root folder."""
    root = tmp_path_factory.mktemp("study")
    held_out, kinds = np.array([0, 4, 8]), ("cut_paste", "texture", "lead_cut")
    synthetic = np.concatenate([draw(2, 10 + n, shift=1.0 + n) for n in range(5)])[:9]
    test = np.concatenate([draw(6, 20), draw(6, 21, shift=2.0)])
    images = Images(draw(12, 1), test, held_out, synthetic, kinds)
    for n_components in (12, 3):
        runs = Runs(images, n_components, FAST, protocol(), 2, 2)
        runs.fit(METHODS[:-1])
        runs.rate(METHODS[:-1])
        runs.choose_start(None)
        runs.fit(METHODS[-1:])
        runs.rate(METHODS[-1:])
        runs.write(root / "artifacts" / "studies" / "reconpatch" / str(n_components))
    return root, runs


def read(root, labels=LABELS) -> results.Results:
    folder = root / "artifacts" / "studies" / "reconpatch"
    return results.read_results(folder, [99, 12, 3], labels)


def test_runs_come_back_as_they_were_written(finished):
    root, runs = finished
    found = read(root)
    assert found.dimensions == [12, 3]
    assert found.methods == list(METHODS)
    assert found.scores["PCA", 3].shape == (2, 2, 12)
    folder = root / "artifacts" / "studies" / "reconpatch" / "3"
    rows, scores = read_csv(folder / "runs.csv"), load_array(folder / "scores.npy")
    place = next(
        n
        for n, row in enumerate(rows)
        if (row["method"], row["seed"], row["draw"]) == ("projection", "1", "0")
    )
    np.testing.assert_array_equal(found.scores["projection", 3][1, 0], scores[place])
    own = runs.fits["all", "projection", 1].map
    again = map_scores(own, runs.images.normals, runs.images.test, protocol(seed=2))
    np.testing.assert_allclose(scores[place], again, rtol=1e-6)
    assert found.candidate(("PCA", 3)).quality == runs.candidates["PCA"].quality
    assert found.starts[3] == runs.training.start_whitening
    assert read_training(root / "artifacts").epochs == FAST.epochs
    stored = load_map(found.maps["PCA", 3])
    np.testing.assert_array_equal(stored.matrix, runs.fits["all", "PCA", 0].map.matrix)


def test_the_choice_never_saw_its_images(finished):
    _, runs = finished
    assert set(runs.images.kept) == set(range(12)) - {0, 4, 8}
    kept, everyone = (runs.fits[part, "PCA", 0].map.matrix for part in ("kept", "all"))
    assert not np.allclose(kept, everyone)


def test_words_and_figures_of_one_dimension(finished):
    _, runs = finished
    assert f"**{runs.training.start_whitening:g}**, chosen here" in starts_table(runs, asked=None)
    assert "lead_cut (shown only)" in quality_by_kind(runs)
    figure = plots.losses({seed: fit.losses for seed, fit in runs.trainings().items()})
    assert len(figure.axes[0].lines) == 2


@pytest.mark.parametrize("labels", [LABELS, None], ids=["labels", "no labels"])
def test_results_are_written_drawn_and_said_with_and_without_labels(finished, labels, tmp_path):
    found = read(finished[0], labels)
    chosen, ranking = choose(found.candidates, seed=0)
    results.write_results(found, RECORDS, (chosen, ranking), tmp_path, [99, 12, 3])
    rows = read_csv(tmp_path / "artifacts" / "studies" / "reconpatch.csv")
    assert len(rows) == len(METHODS) * 2 * 2 * 2
    assert (rows[0]["image_auroc"] == "") == (labels is None)
    metrics = read_json(tmp_path / "metrics" / "reconpatch.json")
    merit = "agreement" if labels is None else "image_auroc"
    assert metrics[merit]["PCA"]["99"] == metrics[merit]["PCA"]["12"]
    assert (tmp_path / "artifacts" / "studies" / "chosen_map.safetensors").exists()
    for figure in (plots.quality(found), plots.choice(found, ranking)):
        assert figure.axes[0].get_xlabel() == "dimensions of a patch feature"
    assert "99 of the list is that" in results.counts(found, [99, 12, 3])
    assert "PCA, whitened" in results.quality_table(found)
    assert "%" in results.movement_table(found)
    said = findings.helps(findings.comparisons(found, seed=0), "the map")
    assert ("Without labels" in said) == (labels is None)
    assert chosen.method in findings.choice_findings(found, chosen)
    synthetic, labelled = findings.losses(found, confidence=0.95, seed=0)
    assert (labelled == {}) == (labels is None)
    plots.loss_bounds(synthetic, 0.02)
    assert findings.loss_table(synthetic).count("below") == len(synthetic) == 12
