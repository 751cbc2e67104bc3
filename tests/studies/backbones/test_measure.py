"""One network's measurement, from its images to its figures."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from ad.dataset import of_split, write_manifest
from ad.files import read_json, write_json
from ad.params import Coreset, CrossValidation, Score
from ad.protocol import Protocol
from studies.backbones import measure as study
from studies.shared.networks import WeightsFound
from tools.scan import scan

PARAMETERS = {
    "seed": 0,
    "image_size": 64,
    "image_resize": None,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": None,
    "image_interpolation": None,
    "backbone_name": "resnet10t",
    "backbone_batch_size": 4,
    "backbone_arithmetic": "integer",
    "patch_size": 3,
    "patch_pretrain_dim": None,
    "patch_target_dim": None,
    "coreset_ratio": 0.2,
    "coreset_projection_dim": None,
    "score_num_neighbors": 2,
    "cv_folds": 2,
    "runtime_threads": 1,
    "runtime_memory_gb": 3.0,
}


def test_the_quality_is_that_of_the_scores(small_mvtec: Path):
    records = scan(small_mvtec)
    features = np.random.default_rng(0).random((len(records), 3, 3, 4)).astype(np.float32)
    protocol = Protocol(Coreset(ratio=0.5), Score(num_neighbors=1), 0)
    found = study.quality(features, records, CrossValidation(folds=2), protocol)
    labels = [record.label for record in of_split(records, "test")]
    flags = np.array(found["scores"]) > found["threshold"]
    assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, found["scores"]))
    assert found["f1"] == pytest.approx(f1_score(labels, flags))
    assert found["auroc_low"] <= found["image_auroc"] <= found["auroc_high"]


def test_what_is_set_for_the_pipelines_network_is_not_given_to_others():
    own = study.image_settings("resnet10t", PARAMETERS)
    other = study.image_settings("resnet18", PARAMETERS)
    assert own.mean == [0.1, 0.2, 0.3]
    assert (other.mean, other.size) == (None, 64)


@pytest.mark.parametrize("trained", [True, False])
def test_a_network_is_measured_and_rated_only_with_weights(
    trained: bool, small_mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    found = WeightsFound("random", None, "none here")
    write_json(study.STUDIES / "backbone_weights" / "resnet10t.json", asdict(found))
    if trained:  # random numbers under a file's name
        found = WeightsFound("weights/resnet10t.pth", "00", "")
        real = study.load_found
        monkeypatch.setattr(
            study,
            "load_found",
            lambda name, _found, *, seed: real(name, WeightsFound("random", None, ""), seed=seed),
        )
        write_json(study.STUDIES / "backbone_weights" / "resnet10t.json", asdict(found))
    write_manifest("artifacts/manifest.csv", scan(small_mvtec))
    study.main({**PARAMETERS, "data_path": str(small_mvtec), "name": "resnet10t"})
    written = read_json(study.STUDIES / "backbones" / "resnet10t.json")
    assert bool(written["quality"]) is trained
    assert (written["grid"], written["feature_dim"], written["n_images"]) == ([8, 8], 384, 8)
    assert written["mean"] == [0.1, 0.2, 0.3]
    assert written["feature_bytes"] == 8 * 8 * 8 * 384  # a byte each
    assert written["peak_bytes"] > written["feature_bytes"]
    assert sorted(Path("build").iterdir()) == []
