"""ReConPatch as published, on a few patches: settings, course, graph, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest

from ad.params import Coreset, Score
from ad.protocol import Protocol
from studies.reconpatch.full import findings, graph
from studies.reconpatch.full.course import (
    REFERENCES,
    Course,
    courses_said,
    read_course,
    reference_maps,
    score_course,
    train_all,
    write_course,
)
from studies.reconpatch.full.settings import Settings
from studies.reconpatch.maps import patch_moments
from studies.reconpatch.methods import map_scores
from studies.reconpatch.training import train
from tools.parameters import read_yaml
from validation.sections import validate

PARAMS = read_yaml(Path(__file__).parents[4] / "studies" / "reconpatch" / "full" / "params.yaml")
PROTOCOL = Protocol(Coreset(ratio=0.3), Score(num_neighbors=2), 0)
LABELS = np.repeat([0, 1], 20)


def draw(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 4, 4, 8)).astype(np.float32)


def test_training_is_the_papers():
    training = validate(PARAMS, Settings).training(3)
    assert training.start == "random"
    assert training.patches_per_image is None  # every one
    assert (training.epochs, training.learning_rate, training.weight_decay) == (120, 1e-5, 1e-2)
    assert (training.neighbors, training.margin) == (3, 0.1)
    assert validate(PARAMS, Settings).training(5).margin == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"margins": [1.0]},
            "margins=[1.0] is not allowed; it must be a list of numbers above 0, one for each",
        ),
        ({"checkpoints": [1, 3]}, "a list of rising integers from 0"),
        ({"checkpoints": [0, 3, 3]}, "a list of rising integers from 0"),
        ({"neighbors": [5, 1]}, "a list of different integers of at least 2"),
    ],
)
def test_bad_settings(change, words, one_line):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | change, Settings)
    one_line(caught, words)


def test_a_course_from_training_to_its_files(tmp_path):
    normals, test = draw(12, 1), draw(6, 2)
    patches = normals.reshape(12, 16, 8)
    settings = validate(PARAMS | {"checkpoints": [0, 1, 4], "batch_patches": 64}, Settings)
    both = [settings.training(k) for k in settings.neighbors]
    trained, other = train_all(patches, 3, both, [0, 1], settings.checkpoints)
    alone = train(patches, 3, patch_moments(patches.reshape(-1, 8)), both[1], seed=1)
    np.testing.assert_array_equal(other[1].map.matrix, alone.map.matrix)
    said = courses_said(settings.neighbors, [trained, other]).splitlines()
    assert f"{trained[1].movement:.1%}" in said[0] and said[2].startswith("k = 3")
    on_the_way = [[one.kept[epoch] for one in trained] for epoch in settings.checkpoints]
    scores = score_course(on_the_way, normals, test, PROTOCOL, 2)
    assert scores.shape == (3, 4, 6)
    own = Protocol(PROTOCOL.coreset, PROTOCOL.score, 3)  # second seed, second draw
    expected = map_scores(trained[1].kept[4], normals, test, own)
    np.testing.assert_allclose(scores[2, 3], expected, rtol=1e-6)
    maps = reference_maps(patches, 3)
    assert tuple(maps) == REFERENCES
    np.testing.assert_allclose(maps["features"](test), test, atol=1e-6)
    references = score_course([[m] * 2 for m in maps.values()], normals, test, PROTOCOL, 2)
    write_course(tmp_path / "3" / "5", trained, scores, references)
    course = read_course(tmp_path, 3, 5)
    np.testing.assert_array_equal(course.scores, scores)
    np.testing.assert_array_equal(course.references["PCA"], references[2])
    np.testing.assert_array_equal(course.epochs, [0, 1, 4])
    np.testing.assert_allclose(course.moved[:, -1], [one.movement for one in trained])
    np.testing.assert_array_equal(course.moved[:, 0], 0)
    assert course.losses.shape == (2, 4)


def test_edges_join_mutual_neighbours():
    points = np.array([[0.0], [1.0], [3.0], [10.0]])
    # k = 2 holds a point and its nearest: 0 and 1 are each other's; 3 names 1, 10 names 3.
    found = np.argwhere(np.triu(graph.edges(points, 2))).tolist()
    assert found == [[0, 1]]
    rng = np.random.default_rng(0)
    points = rng.standard_normal((30, 4))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    near = [set(np.argsort(row)[:5]) for row in distances]
    slow = [[i != j and j in near[i] and i in near[j] for j in range(30)] for i in range(30)]
    np.testing.assert_array_equal(graph.edges(points, 5), slow)


def test_graphs_are_described_against_the_first_and_drawn():
    two = np.concatenate([draw(1, 0).reshape(16, 8), draw(1, 1).reshape(16, 8) + 50])
    spaces = {"features": two, "half": two[:, :4], "same": 3 * two}
    text = graph.describe(spaces, 5).splitlines()
    assert text[2].split("|")[3].strip() == text[4].split("|")[3].strip() == "1.000"
    assert float(text[3].split("|")[3]) < 1
    assert int(text[2].split("|")[4]) >= 2  # nothing joins the two heaps
    figure = graph.draw(spaces, np.arange(32), 5)
    assert len(figure.axes) == 4
    assert len(figure.axes[0].collections[0].get_paths()) == int(text[2].split("|")[2])


def test_patches_come_with_their_rows():
    features = np.arange(2 * 3 * 4 * 1, dtype=np.float32).reshape(2, 3, 4, 1)
    points, rows = graph.some_patches(features, 99, seed=0)
    np.testing.assert_array_equal(points, features.reshape(-1, 1))
    np.testing.assert_array_equal(rows, np.tile(np.repeat([0, 1, 2], 4), 2))
    again = graph.some_patches(features, 5, seed=1)[0]
    np.testing.assert_array_equal(again, graph.some_patches(features, 5, seed=1)[0])


def course(end: float, cheap: float = 1.0, pooled: float | None = None) -> Course:
    """Make a course whose AUROC rises with ``end``, beside cheap ones with theirs."""

    def runs(shift: float, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(0, 1, (4, 40)) + shift * LABELS

    beside = {name: runs(cheap, 7) for name in REFERENCES}
    if pooled is not None:
        beside["pooling"] = runs(pooled, 8)
    scores = np.stack([runs(0.5, 3), runs(end, 4)])
    losses, moved = np.ones((2, 5)), np.array([[0, 0.5], [0, 0.7]])
    return Course(64, 5, np.array([0, 5]), losses, moved, scores, beside)


@pytest.mark.parametrize(
    ("made", "labels", "words"),
    [
        (course(6.0), LABELS, "It helps here, against all that is cheap."),
        (course(1.0), LABELS, "It cannot be shown to help here."),
        (course(0.0, 6.0), LABELS, "It does not help here; in part it harms."),
        (course(2.0, 2.0, 0.0), LABELS, "It helps here against some of what is cheap."),
        (course(1.5, 6.0, 0.0), LABELS, "and harms against other."),
        (course(6.0), None, "Without labels"),
    ],
)
def test_the_verdict_follows_the_scores(made, labels, words):
    said = findings.verdict([made], labels, seed=0)
    assert words in said
    assert "by 60% of their start's size" in said


def test_figures_table_and_metrics():
    courses = [course(1.0), course(2.0)]
    for figure in (
        findings.loss_figure(courses),
        findings.movement_figure(courses),
        findings.quality_figure(courses, LABELS, seed=0),
    ):
        assert [ax.get_xlabel() for ax in figure.axes] == ["epoch", "epoch"]
    assert "AUROC at the start" in findings.end_table(courses, LABELS)
    assert "AUROC" not in findings.end_table(courses, None)
    metrics = findings.metrics(courses[:1], LABELS)["64 dimensions, k = 5"]
    assert set(metrics) == {"loss", "moved", "image_auroc", *REFERENCES}
    assert set(findings.metrics(courses, None)["64 dimensions, k = 5"]) == {"loss", "moved"}
