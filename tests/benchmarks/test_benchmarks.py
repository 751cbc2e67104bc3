"""The restated alternatives are what they claim to be, and a measurement runs to its end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import extractor

from ad.backbone import load_backbone
from ad.extraction import features_of
from ad.params import BackboneSettings, Params, Patch, Runtime
from benchmarks import case, parts, peers, quality, run
from tools.parameters import read_yaml
from validation.sections import validate

SMALL = BackboneSettings(name="resnet10t", weights="random", layers=["layer3"])


def test_the_restated_loop_takes_the_farthest_point_each_time():
    points = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    picks = peers.public_coreset(points, 40, seed=1, n_starts=3)
    starts = np.random.default_rng(1).choice(300, 3, replace=False)
    wide = points.astype(float)
    nearest = np.mean([np.linalg.norm(wide - wide[s], axis=1) for s in starts], axis=0)
    for pick in picks:
        assert nearest[pick] >= nearest.max() * (1 - 1e-5)
        nearest = np.minimum(nearest, np.linalg.norm(wide - wide[pick], axis=1))


def test_faiss_flat_gives_squared_distances():
    points = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    squared, columns = peers.faiss_flat(points[:5], points, 2)
    expected = np.sort(((points[:5, None] - points) ** 2).sum(axis=2), axis=1)[:, :2]
    np.testing.assert_allclose(squared, expected, rtol=1e-4, atol=1e-5)
    assert (columns[:, 0] == np.arange(5)).all()


def test_the_public_patches_are_ours_pooled_once_more(small_mvtec: Path):
    paths = sorted(small_mvtec.rglob("train/good/*.png"))
    backbone = load_backbone(SMALL)
    found = peers.unfolded_patches(backbone, paths, size=64, batch=3, dim=100)
    patch = Patch(size=3, pretrain_dim=100)
    plain = extractor(paths, patch, size=64, arithmetic="float32", backbone=backbone)
    ours = features_of(plain, paths, Runtime())
    again = F.adaptive_avg_pool1d(torch.from_numpy(ours.reshape(-1, 1, 100)), 100)[:, 0]
    np.testing.assert_allclose(found, again, rtol=1e-4, atol=1e-5)


def test_the_public_protocol_flags_what_is_far_from_the_normals(small_mvtec: Path):
    train = sorted(small_mvtec.rglob("train/good/*.png"))
    found = peers.public_protocol(
        load_backbone(SMALL), train, train[:2], folds=2, ratio=0.5, projection_dim=16, size=64
    )
    assert found["whole"] == pytest.approx(
        sum(found[k] for k in ("extraction", "coreset", "scores"))
    )
    assert 0 <= found["n_flagged"] <= 2


def test_pruning_counts_the_pairs_that_the_triangle_inequality_leaves():
    points = np.random.default_rng(2).standard_normal((600, 3)).astype(np.float32)
    picks = np.random.default_rng(3).permutation(600)[:300]
    found = parts.pruning(points, picks, 100)
    wide, needed = points.astype(float), 0
    for x in wide:
        distances = np.linalg.norm(wide[picks[:100]] - x, axis=1)
        owner = wide[picks[distances.argmin()]]
        between = np.linalg.norm(wide[picks[100:300]] - owner, axis=1)
        needed += int((between < 2 * distances.min()).sum())
    assert found["points_needed"] == pytest.approx(needed / (200 * 600), abs=1e-3)
    assert found["points_needed"] <= found["blocks_needed"] <= 1


def test_most_pairs_of_a_selection_need_no_measuring():
    points = np.random.default_rng(4).standard_normal((20_000, 6)).astype(np.float32)
    assert 0 < parts.measured_share(points, 1000) < 0.8
    assert parts.measured_share(points[:500], 1) <= 1


def test_the_core_s_parts_are_measured_on_floats_and_on_whole_numbers():
    generator = np.random.default_rng(0)
    for features in (
        generator.standard_normal((2300, 140)).astype(np.float32),
        generator.integers(0, 128, (2300, 140)).astype(np.uint8),
    ):
        train, test = features[:2200], features[2200:]
        found = parts.scoring(train, test, 0.1)
        assert (found["queries"], found["bank"], found["dim"]) == (100, 220, 140)
        assert 0.5 < found["hnsw_recall"] <= 1
        assert parts.anomalib_shape(train[:400], 20)["shape"] == [400, 20]


def test_a_case_runs_in_its_own_process_and_says_its_peak(
    small_mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    (tmp_path / "build").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "DATA", small_mvtec)
    monkeypatch.setattr(case, "DEFAULT", replace_layers(SMALL, ["layer2", "layer3"]))
    case.main(["study", "1", "--times", "2", "--ratio", "0.01"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["images"], found["patches"], found["picks"]) == (16, 8 * 28 * 28, 63)
    assert min(found[part] for part in ("extraction", "coreset", "scores")) > 0
    assert found["peak_gb"] > 0.1
    with pytest.raises(SystemExit):
        case.main(["nothing", "1"])


def replace_layers(settings: BackboneSettings, layers: list[str]) -> BackboneSettings:
    return settings.model_copy(update={"layers": layers})


def test_the_team_s_settings_are_the_pipeline_s_with_the_public_protocol_s_network():
    params = read_yaml(Path(__file__).resolve().parents[2] / "params.yaml")
    for section, values in run.TEAM_PARAMS.items():
        params[section] |= values
    found = validate(params, Params)
    assert found.backbone.model_copy(update={"batch_size": 32}) == peers.TEAM
    assert (found.patch.target_dim, found.cv.folds) == (peers.DIM, peers.FOLDS)


def test_the_readme_s_table_is_replaced_between_its_marks(tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    monkeypatch.setattr(run, "README", readme)
    readme.write_text("a\n<!-- benchmarks -->\n\n<!-- end of benchmarks -->\nb\n", encoding="utf-8")
    for text in ("one", "two"):
        run.into_readme(text, "benchmarks")
        expected = f"a\n<!-- benchmarks -->\n{text}\n<!-- end of benchmarks -->\nb\n"
        assert readme.read_text(encoding="utf-8") == expected
    readme.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the marks"):
        run.into_readme("three", "benchmarks")
    assert Path(readme).read_text(encoding="utf-8") == "no marks"


def test_whole_numbers_are_compared_seed_by_seed(small_mvtec: Path, monkeypatch):
    monkeypatch.setattr(quality, "RATIOS", (0.1,))
    monkeypatch.setattr(quality, "SEEDS", range(2))
    monkeypatch.setattr(quality, "RESNET18", Path("not here"))
    tree = read_yaml(Path(__file__).resolve().parents[2] / "params.yaml")
    tree["data"] = dict.fromkeys(("path", "locked"), str(small_mvtec))
    tree["image"]["size"], tree["cv"]["folds"] = 64, 2
    tree["backbone"] |= SMALL.model_dump()
    rows = quality.measure(validate(tree, Params))
    assert rows[0] == rows[1]  # the same images, so the same figures
    assert rows[0]["ratio"] == 0.1
    for arithmetic in ("integer", "float32"):
        assert len(rows[0][arithmetic]) == 2
        assert all(0 <= own <= 1 for own in rows[0][arithmetic])
    row = rows[0] | {"network": "n", "images": "d", "integer": [0.5, 0.7], "float32": [0.6, 0.6]}
    assert "| n | d | 10% | 0.6000 | 0.6000 | +0.0000 (sd 0.1414) |" in quality.table([row])
