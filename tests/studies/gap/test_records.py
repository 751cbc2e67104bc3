"""Plant each cause in a run's record: the tool names it first."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ad.backbone import load_backbone
from ad.dataset import of_split, write_manifest
from ad.features import PatchSettings, extract_features
from ad.files import load_array, save_array, write_csv, write_json
from ad.memory_bank import score_images
from studies.gap import records as gap
from tools.scan import scan

LAYERS = ["layer1", "layer2"]


def write_run(root: Path, data: Path) -> None:
    """Carry out the pipeline's steps on a tiny set, and write what the stages write."""
    artifacts = root / "artifacts"
    records = scan(data)
    write_manifest(artifacts / "manifest.csv", records)
    backbone = load_backbone("resnet10t", weights="random", layers=LAYERS, seed=0)
    extract_features(
        backbone,
        [data / r.path for r in records],
        artifacts / "features.npy",
        PatchSettings(3, None, None),
        image_size=32,
        image_resize=None,
        batch_size=4,
        memory_gb=4.0,
        threads=1,
    )
    features = load_array(artifacts / "features.npy")
    train, test = of_split(records, "train"), of_split(records, "test")
    picks = np.arange(0, 64, 2)
    save_array(artifacts / "coreset" / "fold_0.npy", picks)
    write_csv(artifacts / "coreset" / "folds.csv", ["id", "fold"], [(r.id, 0) for r in train])
    bank = np.array(features[: len(train)]).reshape(-1, features.shape[-1])[picks]
    scores = score_images(
        np.array(features), bank, num_neighbors=3, squared=True, reweight=False
    ).images
    held_out, tested = scores[: len(train)], scores[len(train) :]
    threshold = float(np.median(tested))
    write_csv(
        artifacts / "validation_scores.csv",
        ["id", "fold", "score"],
        [(r.id, 0, float(s)) for r, s in zip(train, held_out, strict=True)],
    )
    write_json(
        artifacts / "threshold.json",
        {"rule": "max", "fold_thresholds": [threshold], "threshold": threshold},
    )
    write_csv(
        artifacts / "test_scores.csv",
        ["id", "score", "flagged"],
        [(r.id, float(s), int(s > threshold)) for r, s in zip(test, tested, strict=True)],
    )
    write_csv(
        artifacts / "submission.csv",
        ["id", "label"],
        [(r.id, int(s > threshold)) for r, s in zip(test, tested, strict=True)],
    )
    weights = {"backbone": "resnet10t", "source": "random", "sha256": None}
    write_json(artifacts / "inputs.json", {"data": {}, "weights": weights})
    cell = {
        "cell_type": "code",
        "metadata": {"tags": ["injected-parameters"]},
        "source": ["image_size = 32\n", 'backbone_name = "resnet10t"\n'],
    }
    write_json(artifacts / "rendered" / "01_extract_features.ipynb", {"cells": [cell]})


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    from small_data import write_mvtec

    root = tmp_path_factory.mktemp("run")
    write_mvtec(root / "data", n_train=4, n_normal=4, n_anomalous=4, size=32)
    write_run(root, root / "data")
    return root


@pytest.fixture(scope="module")
def recorded(run_folder):
    return json.loads(json.dumps(gap.record_run(run_folder)))


@pytest.fixture
def pair(recorded):
    return copy.deepcopy(recorded), copy.deepcopy(recorded)


def shifted(values: dict) -> dict:
    """Give each key its neighbour's value."""
    keys = list(values)
    return dict(zip(keys, [values[k] for k in keys[1:] + keys[:1]], strict=True))


def plant_parameters(b):
    b["parameters"]["image_size"] = 64


def plant_data_bytes(b):
    b["manifest"]["data"]["test/good/001"] = "0" * 16


def plant_missing_image(b):
    b["manifest"]["data"].pop("test/good/001")


def plant_listing(b):
    """Another listing order, which the run then used."""
    ids = b["manifest"]["ids"]
    ids[:4] = ids[3::-1]
    for folder, order in b["listing"].items():
        b["listing"][folder] = order[::-1]


def plant_features_under_other_names(b):
    b["features"]["images"] = shifted(b["features"]["images"])
    b["scores"] = shifted(b["scores"])


def plant_decoding(b):
    for own in b["decoding"].values():
        own["pixels"] = own["pixels"][::-1]
        own["channel_means"] = own["channel_means"][::-1]
        own["resized"] = own["resized"][::-1]
    plant_features_gross(b)


def plant_resizing(b):
    for own in b["decoding"].values():
        own["resized"] = own["resized"][::-1]
    plant_features_gross(b)


def plant_weights(b):
    b["weights"] = {"backbone": "resnet10t", "source": "other", "sha256": "f" * 64}
    plant_features_gross(b)


def nudge(b, size):
    for own in b["features"]["images"].values():
        own["hash"] = own["hash"][::-1]
        own["sample"][3] += size * own["sd"]


def plant_features_gross(b):
    nudge(b, 0.7)
    b["coresets"]["fold_0"]["hash"] = "1" * 16
    b["threshold"]["threshold"] *= 1.5


def plant_features_half(b):
    nudge(b, 5e-3)


def plant_coreset(b):
    b["coresets"]["fold_0"]["hash"] = "1" * 16
    b["coresets"]["fold_0"]["first"][5] += 1
    plant_threshold(b)


def plant_folds(b):
    b["folds"] = "1" * 16


def plant_threshold(b):
    b["threshold"]["threshold"] *= 0.5
    b["submission"] = [
        [n, int(b["scores"][n] > b["threshold"]["threshold"])] for n, _ in b["submission"]
    ]


def plant_scores(b):
    name = next(iter(b["scores"]))
    b["scores"][name] *= 1.01


def plant_labels_under_other_ids(b):
    flags = shifted(dict(b["submission"]))
    b["submission"] = [[name, flags[name]] for name, _ in b["submission"]]


def plant_scores_under_other_ids(b):
    b["scores"] = shifted(b["scores"])


def plant_row_order(b):
    b["submission"].reverse()


@pytest.mark.parametrize(
    ("plant", "stage", "words"),
    [
        (plant_parameters, "parameters", "image_size: 32 and 64"),
        (plant_data_bytes, "data bytes", "test/good/001"),
        (plant_missing_image, "data bytes", "one run only"),
        (plant_listing, "listing order", "4 of 12 rows moved"),
        (plant_features_under_other_names, "listing order", "under other ids"),
        (plant_decoding, "decoding", "red and blue are exchanged"),
        (plant_resizing, "decoding", "resizing"),
        (plant_weights, "weights", "sha256"),
        (plant_features_gross, "features", "gross"),
        (plant_features_half, "features", "half precision"),
        (plant_folds, "coreset", "folds"),
        (plant_coreset, "coreset", "from pick 6"),
        (plant_threshold, "threshold", "relative"),
        (plant_scores, "scores", "1 of 8"),
        (plant_labels_under_other_ids, "row order", "joined by position"),
        (plant_scores_under_other_ids, "row order", "joined by position"),
        (plant_row_order, "row order", "8 of 8 rows"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_planted_cause_is_named_first(pair, plant, stage, words, swapped):
    a, b = pair
    plant(b)
    result = gap.compare_records(*((b, a) if swapped else (a, b)))
    assert result.first is not None
    assert result.first.stage == stage, gap.page(result, a, b)
    if not swapped:
        assert words in result.first.words
    assert gap.page(result, a, b).startswith(f"The runs part first at: {stage}")


def test_equal_runs_are_called_identical(pair, run_folder):
    a, _ = pair
    again = json.loads(json.dumps(gap.record_run(run_folder)))
    result = gap.compare_records(a, again)
    assert result.first is None
    assert result.changed_flags == 0
    assert gap.verdict(result) == "The runs are identical in everything recorded."
    assert {f.state for f in result.findings} == {"equal"}
    assert [f.stage for f in result.findings] == list(gap.STAGES)


def test_another_raw_listing_alone_has_no_consequence(pair):
    a, b = pair
    b["listing"] = {folder: order[::-1] for folder, order in b["listing"].items()}
    result = gap.compare_records(a, b)
    assert result.first is None
    assert "listing order: no consequence" in gap.verdict(result)


def test_rounding_is_told_apart_and_does_not_hide_a_later_cause(pair):
    a, b = pair
    nudge(b, 1e-6)
    for name in b["scores"]:
        b["scores"][name] *= 1 + 1e-6
    b["threshold"]["threshold"] *= 1 + 1e-6
    b["threshold"]["fold_thresholds"] = [v * (1 + 1e-6) for v in b["threshold"]["fold_thresholds"]]
    result = gap.compare_records(a, b)
    assert result.first.stage == "features"
    assert result.first.state == "rounding"
    assert "agree to rounding" in gap.verdict(result)
    plant_labels_under_other_ids(b)
    result = gap.compare_records(a, b)
    assert result.first.stage == "row order"
    assert "after rounding in: features" in gap.verdict(result)


def test_without_images_the_rest_is_compared(run_folder, recorded, tmp_path):
    bare = json.loads(json.dumps(gap.record_run(run_folder, data=tmp_path / "absent")))
    result = gap.compare_records(recorded, bare)
    assert result.first is None
    unknown = {f.stage for f in result.findings if f.state == "unknown"}
    assert unknown == {"listing order", "decoding"}


def test_a_record_is_small_plain_and_says_nothing_of_the_machine(recorded, run_folder):
    text = json.dumps(recorded)
    assert str(run_folder) not in text
    assert len(text) < 3000 * len(recorded["manifest"]["ids"])
    assert "\\\\" not in text
    assert recorded["parameters"] == {"image_size": 32, "backbone_name": "resnet10t"}


def test_command_line(run_folder, tmp_path, capsys):
    one, two = tmp_path / "äone.json", tmp_path / "two.json"
    root = ["--root", str(run_folder)]
    assert gap.main(["record", str(one), *root]) == 0
    assert one.read_bytes().count(b"\r") == 0
    assert gap.main(["compare", str(one), str(one)]) == 0
    record = gap.read_record(one)
    plant_row_order(record)
    # As an editor or mail program on Windows may leave it.
    text = json.dumps(record, indent=1).replace("\n", "\r\n")
    two.write_bytes(text.encode("utf-8-sig"))
    figure = tmp_path / "figure.png"
    assert gap.main(["compare", str(one), str(two), "--figure", str(figure)]) == 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "part first at: row order" in printed
    assert len(printed.splitlines()) < 60


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no such record"),
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1]", "no record"),
        (b"\xff\xfe", "no JSON"),
        (b'{"format": "another"}', "no record"),
        (json.dumps({"format": gap.FORMAT}).encode(), "environment is missing"),
    ],
)
def test_a_bad_record_is_one_clear_line(tmp_path, capsys, content, part):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    assert gap.main(["compare", str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert len(error.strip().splitlines()) == 1


def test_without_a_run_recording_says_so(tmp_path, capsys):
    assert gap.main(["record", str(tmp_path / "x.json"), "--root", str(tmp_path)]) == 2
    assert "dvc repro" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("name", list(gap.LAYOUT))
def test_a_record_that_lacks_a_part_names_it(recorded, tmp_path, name):
    damaged = copy.deepcopy(recorded)
    *sections, key = name.split(".")
    place = damaged
    for section in sections:
        place = place[section]
    place[key] = None
    write_json(tmp_path / "damaged.json", damaged)
    with pytest.raises(ValueError, match=f"{name} is missing or damaged; record the run again"):
        gap.read_record(tmp_path / "damaged.json")


@pytest.mark.parametrize("key", ["scores", "submission"])
def test_a_record_with_damaged_values_is_refused(recorded, tmp_path, key):
    damaged = copy.deepcopy(recorded)
    if key == "scores":
        damaged["scores"]["test/good/001"] = "high"
    else:
        damaged["submission"][0] = ["test/good/001"]
    write_json(tmp_path / "damaged.json", damaged)
    with pytest.raises(ValueError, match="scores or submission are damaged"):
        gap.read_record(tmp_path / "damaged.json")


def test_tables_and_names_as_windows_leaves_them_make_no_difference(run_folder, recorded, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    for path in sorted((tmp_path / "run").rglob("*.csv")):
        text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
        if path.name != "folds.csv":  # its bytes are hashed
            path.write_bytes(text.encode("utf-8-sig"))
    assert gap.record_run(tmp_path / "run") == recorded
    text = json.dumps(recorded).replace("test/good/", r"test\\good\\")
    assert r"test\\good\\001" in text
    (tmp_path / "windows.json").write_text(text, encoding="utf-8")
    result = gap.compare_records(recorded, gap.read_record(tmp_path / "windows.json"))
    assert result.first is None


@pytest.mark.parametrize("name", gap.ARTIFACTS)
def test_a_missing_artifact_is_named(run_folder, tmp_path, capsys, name):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "artifacts" / name).unlink()
    assert gap.main(["record", str(tmp_path / "x.json"), "--root", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert Path(name).name in error
    assert "dvc repro" in error
    assert len(error.strip().splitlines()) == 1
