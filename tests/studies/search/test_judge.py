"""A configuration's scores are the protocol's parts put together by hand."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ad.backbone import load_backbone
from ad.coreset import k_center_greedy
from ad.extraction import features_of, make_extractor
from ad.params import BackboneSettings, Image, Patch, Runtime
from studies.search.images import DECIDING, list_images
from studies.search.judge import SOURCES, Judge
from studies.search.maps import MapCache
from studies.search.space import Choice, Space
from tools.scan import scan

CHOICE = Choice(64, "layer2", 3, 0.25, 2, False)
SPACE = Space(CHOICE, (64,), ("layer2",), (3,), (0.1, 0.5), (1, 3))


@pytest.fixture
def judge(small_mvtec: Path, tmp_path: Path) -> Judge:
    backbone = load_backbone(
        BackboneSettings(name="resnet10t", weights="random", layers=["layer2", "layer3"])
    )
    images = list_images(scan(small_mvtec), small_mvtec, tmp_path, n_normals=4, resize=None, seed=0)
    how = {"n_normals": len(images.fit), "arithmetic": "float32"}
    cache = MapCache(backbone, images.paths, tmp_path, Image(size=64), Patch(size=3), **how)
    return Judge(cache, images, None, False, 0)


def test_scores_are_mean_distances_to_the_nearest_of_the_coreset(judge: Judge):
    paths = judge.images.paths
    backbone = load_backbone(
        BackboneSettings(name="resnet10t", weights="random", layers=["layer2"])
    )
    how = Image(size=64), Patch(size=3), paths
    extractor = make_extractor(backbone, *how, arithmetic="float32")
    features = features_of(extractor, paths, Runtime(threads=1))
    patches = features[judge.images.fit].reshape(-1, features.shape[-1])
    picks = k_center_greedy(patches, round(0.25 * len(patches)), seed=0, progress=False)
    bank = patches[picks].astype(float)
    expected = []
    for row in judge.images.test:
        queries = features[row].reshape(-1, features.shape[-1]).astype(float)
        distances = np.linalg.norm(queries[:, None] - bank, axis=2)
        expected.append(np.sort(distances, axis=1)[:, :2].mean(axis=1).max())
    found = judge.afterwards(CHOICE)
    np.testing.assert_allclose(found.test, expected, rtol=1e-3)
    assert list(found.pasted) == list(judge.images.pasted)


def test_the_search_sees_the_deciding_kinds_alone(judge: Judge, monkeypatch):
    looked_at = []
    real = MapCache.features
    monkeypatch.setattr(
        MapCache,
        "features",
        lambda self, rows, **how: looked_at.extend(rows) or real(self, rows, **how),
    )
    kinds = judge.objective(CHOICE)
    assert list(kinds) == list(DECIDING)
    assert not set(looked_at) & set(judge.images.test)
    others = [rows for kind, rows in judge.images.pasted.items() if kind not in DECIDING]
    assert not set(looked_at) & set(np.ravel(others).tolist())
    own = judge.afterwards(CHOICE)
    for kind, auroc in kinds.items():
        pasted = own.pasted[kind][:, None]
        wins = (pasted > own.normal) + 0.5 * (pasted == own.normal)
        assert auroc == pytest.approx(wins.mean())


def test_a_search_is_named_by_all_that_it_depends_on(judge: Judge):
    name = judge.search_name(SPACE, {"data": 1})
    assert name == judge.search_name(SPACE, {"data": 1})
    others = [
        judge.search_name(SPACE, {"data": 2}),
        judge.search_name(replace(SPACE, ratio=(0.1, 0.6)), {"data": 1}),
        *(
            replace(judge, **change).search_name(SPACE, {"data": 1})
            for change in ({"seed": 1}, {"squared": True}, {"projection_dim": 8})
        ),
    ]
    assert len({name, *others}) == 6
    assert all(source.is_file() for source in SOURCES)
    assert asdict(SPACE)["default"] == asdict(CHOICE)
