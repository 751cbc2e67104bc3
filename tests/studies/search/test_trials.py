"""A search that is cut off and continued is the search that was not; the space and the squares."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from PIL import Image
from sklearn.metrics import roc_auc_score

from ad.images import resize_and_crop
from studies.backbones.cost import empty_model
from studies.search import trials as study

DEFAULT = study.Choice(224, "layer2+layer3", 3, 0.01, 5, False)
SPACE = study.Space(
    (160, 224), ("layer2", "layer3", "layer2+layer3"), (1, 3, 5), (0.002, 0.05), (1, 9)
)


def quality(choice: study.Choice) -> dict[str, float]:
    """Return a smooth made-up objective with one best place."""
    near = -(np.log10(choice.ratio / 0.02) ** 2) - 0.01 * (choice.num_neighbors - 4) ** 2
    return {"a": 0.9 + 0.1 * near + 0.02 * (choice.layers == "layer3"), "b": 0.8 + 0.1 * near}


class Cut(Exception):
    """The power goes."""


def search(journal: Path, trials: int, *, objective=quality, name="s", seed=0) -> list[study.Tried]:
    return study.run_search(
        journal, name, objective, SPACE, DEFAULT, trials=trials, seed=seed, progress=False
    )


@pytest.mark.parametrize("stops", [(0,), (1,), (3, 3, 12), (11, 13)])
def test_a_search_cut_off_and_continued_is_the_whole_one(stops: tuple, tmp_path: Path):
    whole = search(tmp_path / "whole.log", 16)
    for stop in stops:
        calls = []

        def until(choice: study.Choice, stop: int = stop, calls: list = calls) -> dict[str, float]:
            done = len(list(states(tmp_path / "cut.log", TrialState.COMPLETE)))
            calls.append(choice)
            if done == stop:
                raise Cut
            return quality(choice)

        with pytest.raises(Cut):
            search(tmp_path / "cut.log", 16, objective=until)
    assert search(tmp_path / "cut.log", 16) == whole
    assert list(states(tmp_path / "cut.log", TrialState.RUNNING)) == []


def states(journal: Path, state: TrialState) -> list:
    found = optuna.load_study(
        storage=JournalStorage(JournalFileBackend(str(journal))), study_name="s"
    )
    return found.get_trials(deepcopy=False, states=(state,))


def test_a_finished_search_is_not_run_again_and_may_be_lengthened(tmp_path: Path):
    journal = tmp_path / "journal.log"
    first = search(journal, 6)

    def never(choice: study.Choice) -> dict[str, float]:
        raise AssertionError(f"{choice} was tried again")

    assert search(journal, 6, objective=never) == first
    assert search(journal, 4, objective=never) == first[:4]
    longer = search(journal, 13)
    assert longer[:6] == first and len(longer) == 13
    assert longer == search(tmp_path / "other.log", 13)


def test_trials_start_with_the_default_and_stay_in_the_space(tmp_path: Path):
    tried = search(tmp_path / "journal.log", 20)
    assert tried[0].choice == DEFAULT
    for each in tried:
        assert each.value == pytest.approx(np.mean(list(each.kinds.values())))
        assert each.kinds == pytest.approx(quality(each.choice))
        assert SPACE.including(each.choice) == SPACE
        assert not (each.choice.reweight and each.choice.num_neighbors == 1)
    assert len({each.choice for each in tried}) > 15


def test_the_sampler_learns(tmp_path: Path):
    values = [each.value for each in search(tmp_path / "journal.log", 30)]
    assert np.mean(values[20:]) > np.mean(values[: study.STARTUP])


def test_searches_of_another_name_or_seed_are_others(tmp_path: Path):
    journal = tmp_path / "journal.log"
    first = search(journal, 4)
    other = search(journal, 4, name="t", seed=1)
    assert [each.choice for each in other[1:]] != [each.choice for each in first[1:]]
    assert search(journal, 4) == first


def test_signature_changes_with_values_and_code(tmp_path: Path):
    code = tmp_path / "code.py"
    code.write_text("a")
    first = study.signature({"x": 1, "y": [2]}, [code])
    assert first == study.signature({"y": [2], "x": 1}, [code])
    assert first != study.signature({"x": 1, "y": [3]}, [code])
    code.write_text("b")
    assert first != study.signature({"x": 1, "y": [2]}, [code])


def test_the_space_widens_to_the_default():
    far = replace(DEFAULT, image_size=320, layers="layer1", patch_size=7, ratio=0.1)
    wide = SPACE.including(replace(far, num_neighbors=20))
    assert wide.image_sizes == (160, 224, 320) and wide.layers[-1] == "layer1"
    assert wide.patch_sizes == (1, 3, 5, 7)
    assert wide.ratio == (0.002, 0.1) and wide.num_neighbors == (1, 20)
    assert SPACE.including(DEFAULT) == SPACE
    assert set(wide.distributions()) == set(asdict(DEFAULT))


def test_layers_get_their_names():
    model = empty_model("densenet121")
    for layers in ([2, 3], ["features.denseblock3", "features.denseblock2"]):
        word = study.named_layers(model, layers, setting="search.layers")
        names = [stage["module"] for stage in model.feature_info[2:4]]
        assert replace(DEFAULT, layers=word).layer_list() == names
    with pytest.raises(ValueError, match=r"search\.layers: no layer 'layer2'; the network has"):
        study.named_layers(model, ["layer2"], setting="search.layers")


def test_one_neighbour_is_never_reweighted():
    params = asdict(replace(DEFAULT, num_neighbors=1, reweight=True))
    assert not study.choice_from(params).reweight
    params["num_neighbors"] = 2
    assert study.choice_from(params).reweight


@pytest.mark.parametrize("resize", [None, 72])
@pytest.mark.parametrize("shape", [(90, 90), (120, 90), (90, 140)])
def test_squares_have_the_geometry_that_they_had(resize: int | None, shape: tuple):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 200 / width, y * 200 / height, (x + y) * 0.8], axis=-1)
    image = Image.fromarray(smooth.astype(np.uint8))
    square = study.square_pixels(image, resize=resize)
    assert square.shape == (90, 90, 3)
    before = np.asarray(resize_and_crop(image, size=64, resize=resize)).astype(int)
    after = np.asarray(resize_and_crop(Image.fromarray(square), size=64, resize=resize))
    assert np.abs(before - after).max() <= 3
    if height == width:
        np.testing.assert_array_equal(before, after)


def test_every_third_of_the_drawn_is_held_out():
    fit, held_out = study.split_normals(100, 30, seed=1)
    assert len(fit) == 20 and len(held_out) == 10
    assert not set(fit) & set(held_out)
    assert (np.diff(fit) > 0).all() and (np.diff(held_out) > 0).all()
    again = study.split_normals(100, 30, seed=1)
    np.testing.assert_array_equal(again[0], fit)
    assert len(np.concatenate(study.split_normals(13, 96, seed=0))) == 13


def test_synthetic_aurocs_are_sklearns():
    generator = np.random.default_rng(0)
    normal, kinds = generator.normal(size=20), {"x": generator.normal(1, 1, 20), "y": np.ones(5)}
    found = study.synthetic_aurocs(normal, kinds)
    for kind, own in kinds.items():
        labels = [0] * len(normal) + [1] * len(own)
        assert found[kind] == pytest.approx(roc_auc_score(labels, [*normal, *own]))


def test_differences_to_the_best_are_those_of_sklearns_aurocs():
    generator = np.random.default_rng(0)
    normal = generator.integers(0, 8, (3, 12)).astype(float)  # ties
    synthetic = normal[:, None] + generator.integers(-1, 5, (3, 2, 12))
    expected = [
        np.mean([roc_auc_score(np.repeat([0, 1], 12), np.append(own, kind)) for kind in kinds])
        for own, kinds in zip(normal, synthetic, strict=True)
    ]
    behind, doubt = study.differences_to_best(normal, synthetic, seed=0)
    np.testing.assert_allclose(behind, np.max(expected) - expected, atol=1e-12)
    assert doubt[np.argmin(behind)] == 0
    assert (np.delete(doubt, np.argmin(behind)) > 0).all()


def test_the_standard_error_is_that_of_repeated_samples():
    generator = np.random.default_rng(1)
    samples = []
    for _ in range(300):
        normal = generator.standard_normal((2, 40))
        synthetic = normal[:, None] + np.array([2.0, 1.0])[:, None, None]
        samples.append((normal, synthetic))
    found = [study.differences_to_best(*sample, seed=0, repeats=100) for sample in samples[:40]]
    # Trial 0 is the better one nearly always; its lead over trial 1 varies from sample to sample.
    leads = [study.differences_to_best(*sample, seed=0, repeats=2)[0][1] for sample in samples]
    assert np.mean([doubt[1] for _, doubt in found]) == pytest.approx(np.std(leads), rel=0.3)


def test_trials_that_score_alike_cannot_be_told_apart():
    normal = np.tile(np.arange(6.0), (2, 1))
    behind, doubt = study.differences_to_best(normal, normal[:, None] + 2.0, seed=0)
    np.testing.assert_array_equal(behind, 0)
    np.testing.assert_array_equal(doubt, 0)
