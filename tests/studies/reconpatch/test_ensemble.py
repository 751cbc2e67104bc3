"""The ensemble on a few patches, and its standardisation by hand."""

import numpy as np
import pytest
from small_data import draw_normal, save_png

from ad.dataset import ImageRecord
from ad.params import Coreset, Image, Patch, Runtime, Score
from ad.protocol import Protocol
from studies.reconpatch import ensemble
from studies.reconpatch.members import (
    Extraction,
    find_others,
    network_images,
    parts_of,
    pasted_paths,
)
from studies.reconpatch.runs import Images
from studies.reconpatch.settings import Training
from studies.shared.networks import WeightsFound

LABELS = np.repeat([0, 1], 5)
KINDS = ("cut_paste", "lead_cut")


def draw(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n, 4, 4, 8))
    features[:, 1, 1] += shift
    return features.astype(np.float32)


def images() -> Images:
    test = np.concatenate([draw(5, 2), draw(5, 3, 4.0)])
    return Images(draw(10, 1), test, np.array([1, 5, 9]), draw(6, 4, 4.0), KINDS)


def test_each_model_is_standardised():
    generator = np.random.default_rng(0)
    normal, scores = generator.normal(5, 2, 50), generator.normal(6, 2, 9)
    one = (scores - normal.mean()) / normal.std(ddof=1)
    np.testing.assert_allclose(ensemble.ensemble_scores([scores], [normal]), one)
    both = ensemble.ensemble_scores([scores, 100 * scores + 7], [normal, 100 * normal + 7])
    np.testing.assert_allclose(both, one)  # a model's unit does not weigh
    with pytest.raises(ValueError, match="do not vary"):
        ensemble.ensemble_scores([scores], [np.ones(3)])


def test_members_are_networks_where_there_are_others_else_layers():
    own, parts = images(), {"a": slice(0, 3), "b": slice(3, 8)}
    members, averaged = ensemble.choose_members("joined", own, {"net": own}, parts)
    assert (list(members), averaged) == (["joined", "net"], ["joined", "net"])
    members, averaged = ensemble.choose_members("joined", own, {}, parts)
    assert (list(members), averaged) == (["joined", "a", "b"], ["a", "b"])
    np.testing.assert_array_equal(members["b"].test, own.test[..., 3:])
    members, averaged = ensemble.choose_members("joined", own, {}, {})
    assert (members, averaged) == ({}, [])
    assert "no ensemble to show" in ensemble.members_table(members, averaged, ["x has none"])


def test_from_members_to_findings():
    own = images()
    members, averaged = ensemble.choose_members(
        "joined", own, {}, {"a": slice(0, 4), "b": slice(4, 8)}
    )
    assert "a (4 dimensions), b (4 dimensions)" in ensemble.members_table(members, averaged, [])
    training = Training(epochs=2, patches_per_image=16, batch_patches=32)
    score = Score(num_neighbors=2)
    protocols = [Protocol(Coreset(ratio=0.3), score, seed) for seed in (0, 1)]
    rated = {
        name: ensemble.learn_and_score(name, part, 3, training, protocols, whitening=None)
        for name, part in members.items()
    }
    rated[ensemble.ENSEMBLE] = ensemble.average([rated[name] for name in averaged], own)
    assert rated["ensemble"].test.shape == (2, 10)
    assert rated["ensemble"].candidate.n_components == 6
    # By hand: standardised by the held-out normals of the same seed, then averaged.
    expected = np.mean(
        [
            (rated[n].test[1] - rated[n].candidate.normal[1].mean())
            / rated[n].candidate.normal[1].std(ddof=1)
            for n in averaged
        ],
        axis=0,
    )
    np.testing.assert_allclose(rated["ensemble"].test[1], expected)
    rows = ensemble.result_rows(rated, LABELS)
    assert len(rows) == 8
    assert len(ensemble.figure(rows).axes) == 2
    assert "ensemble" in ensemble.result_table(rated, rows)
    said = ensemble.ensemble_findings(rated, averaged, LABELS, seed=0)
    assert "ensemble of 2" in said and "a (a member)" in said and "joined:" in said
    unlabelled = ensemble.result_rows(rated, None)
    assert list(ensemble.merits(unlabelled)["a"]) == ["synthetic_auroc"]
    assert "Without labels" in ensemble.ensemble_findings(rated, averaged, None, seed=0)
    assert ensemble.ensemble_findings({}, [], LABELS, seed=0) == "Nothing was run."


def test_other_networks_are_looked_for_and_layers_found(tmp_path):
    found, missing = find_others(["resnet18", "resnet10t"], "resnet10t", tmp_path)
    assert (found, missing) == ({}, ["resnet18 has no weights here"])
    patch = Patch(size=3)
    assert parts_of("resnet18", ["layer2", "layer3"], patch, 384) == {
        "layer2": slice(0, 128),
        "layer3": slice(128, 384),
    }
    assert parts_of("resnet18", ["layer2", "layer3"], patch, 100) == {}
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "synthetic.csv").write_text("train_number,id,kind\n4,x,scar\n", encoding="utf-8")
    assert pasted_paths(tmp_path) == [folder / "synthetic_images" / "4_scar.png"]


def test_another_network_sees_the_same_images(tmp_path):
    names = [f"{n}.png" for n in range(4)]
    for number, name in enumerate(names):
        save_png(tmp_path / name, draw_normal(np.random.default_rng(number), 64))
    records = [ImageRecord(name, name, "train", 0, None, None) for name in names]
    own = Images(draw(3, 1), draw(1, 2), np.array([1]), draw(1, 3), ("scar",))
    image = Image(size=64, interpolation="bicubic")
    extraction = Extraction(tmp_path, image, Patch(size=3), "integer", Runtime(threads=1))
    found = network_images(
        "resnet10t",
        WeightsFound("random", None, ""),
        extraction,
        records,
        [tmp_path / names[1]],
        own,
        seed=0,
    )
    assert found.normals.shape == (3, 8, 8, 384)
    assert len(found.test) == 1
    np.testing.assert_array_equal(found.synthetic[0], found.normals[1])  # the same file
