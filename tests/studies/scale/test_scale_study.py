"""Extraction in shards, its figures and words, the cost model and the settings."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml
from notebook_cells import run_cells
from settings_cases import cases, check_examples, check_invalid, check_missing
from small_data import save_png, write_mvtec

from ad.backbone import load_backbone
from ad.dataset import of_split, write_manifest
from ad.extraction import features_of, make_extractor
from ad.files import save_array, write_csv
from ad.memory_bank import score_images
from ad.params import Params
from ad.protocol import BankImages, Protocol, fold_indices, select_coresets
from benchmarks.scale import FAB, page, rates_of
from cluster.tasks import task_map
from studies.scale import results
from studies.scale.__main__ import main
from studies.scale.cost import Rates, Work, announce, costs, duration, read_rates
from studies.scale.extraction import Picture, extract_shards, network_of, shard_tasks
from studies.scale.settings import Settings
from studies.scale.shards import read_shards
from tools.scan import scan
from validation.sections import validate

ROOT = Path(__file__).resolve().parents[3]
OWN = yaml.safe_load((ROOT / "studies/scale/params.yaml").read_text(encoding="utf-8"))
VALID = {
    "images_per_shard": [1, 512],
    "methods": [["exact"], ["two_rounds", "inverted_file"]],
    "oversampling": [1.01, 8.0],
    "lists": [None, 1, 4096],
    "probes": [1, 16],
    "recall_queries": [1, 1000],
    "cluster": [None, "local:2", "tcp://host:8786", "scheduler.json"],
    "worker_gb": [0.5, 64.0],
}
INVALID = {
    "images_per_shard": [0, 1.5, None, True],
    "methods": [[], ["exact", "exact"], ["fast"], "exact"],
    "oversampling": [1.0, 0.5, None],
    "lists": [0, -1, 2.5],
    "probes": [0, None],
    "recall_queries": [0, "10"],
    "cluster": ["", " ", 3],
    "worker_gb": [0.0, -1.0, None],
}


def test_the_settings_in_the_file_are_good():
    check_examples(Settings, OWN, VALID, INVALID)
    validate(OWN, Settings)


@pytest.mark.parametrize(("key", "value"), cases(INVALID))
def test_a_bad_setting_is_one_line(key, value, one_line):
    check_invalid(Settings, OWN, key, value, one_line)


@pytest.mark.parametrize("key", sorted(set(OWN) - {"cluster", "worker_gb"}))
def test_a_missing_setting_is_named(key, one_line):
    check_missing(Settings, OWN, key, one_line)


def test_lists_follow_the_bank():
    settings = validate(OWN, Settings)
    assert (settings.lists_of(10_000), settings.lists_of(9)) == (400, 9)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Params, list[Picture], list[Picture]]:
    """Draw a small category."""
    root = tmp_path_factory.mktemp("scale") / "data"
    write_mvtec(root, n_train=7, n_normal=2, n_anomalous=3, size=32)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["image"]["size"], params["data"] = 32, {"path": str(root), "locked": None}
    params["backbone"] |= {"name": "resnet10t", "weights": "random", "layers": ["layer2"]}
    records = scan(root)
    both = [
        [Picture(f"{root}/{r.path}", r.sha256) for r in of_split(records, kind)]
        for kind in ("train", "test")
    ]
    return validate(params, Params), *both


def test_shards_hold_the_pipelines_features(small, tmp_path):
    params, normals, test = small
    network = network_of(params, normals)
    with task_map() as run:
        shards = extract_shards(run, network, test, tmp_path, images=2)
    assert (len(shards), shards.total) == (3, 5 * 16)
    backbone = load_backbone(params.backbone, seed=params.seed)
    paths = [Path(each.path) for each in normals]
    how = {"arithmetic": "integer", "device": "cpu"}
    extractor = make_extractor(backbone, params.image, params.patch, paths, **how)
    whole = features_of(extractor, [Path(each.path) for each in test], params.runtime)
    np.testing.assert_array_equal(
        np.concatenate([shards.images(number) for number in range(3)]), whole
    )
    assert shards.unit == extractor.unit


def test_shards_that_are_there_stay_and_what_is_missing_is_made(small, tmp_path):
    params, normals, test = small
    network = network_of(params, normals)
    with task_map() as run:
        before = extract_shards(run, network, test, tmp_path, images=2)
    gone, torn, kept = (tmp_path / name for name in before.names)
    gone.unlink()
    with torn.open("r+b") as stream:  # as a disk may leave it that lost its power
        stream.seek(-16, os.SEEK_END)
        stream.write(bytes(16))
    time = kept.stat().st_mtime_ns
    with task_map() as run:
        assert extract_shards(run, network, test, tmp_path, images=2) == before
    assert gone.is_file() and kept.stat().st_mtime_ns == time


def test_shards_are_the_same_on_dask(small, tmp_path):
    pytest.importorskip("distributed", reason="the extra 'cluster' is missing")
    params, normals, test = small
    network = network_of(params, normals)
    with task_map() as run:
        here = extract_shards(run, network, test, tmp_path / "here", images=2)
    with task_map("local:2") as run:
        there = extract_shards(run, network, test, tmp_path / "there", images=2)
    assert (there.names, there.hashes, there.unit) == (here.names, here.hashes, here.unit)


def test_a_shard_s_name_follows_what_it_is_computed_from(small, tmp_path):
    params, normals, test = small

    def names(params: Params, own: list[Picture]) -> list[str]:
        network = network_of(params, own)
        return [task.path for task in shard_tasks(network, test, tmp_path, images=2)]

    before = names(params, normals)
    silent = params.model_copy(update={"runtime": params.runtime.model_copy(update={"threads": 1})})
    assert names(silent, normals) == before
    resized = params.model_copy(update={"image": params.image.model_copy(update={"size": 64})})
    assert not set(names(resized, normals)) & set(before)
    assert not set(names(params, normals[1:])) & set(before)  # other scales


def test_a_damaged_image_names_its_shard_and_the_others_are_made(small, tmp_path):
    params, normals, test = small
    copies = []
    for number, picture in enumerate(test):
        path = tmp_path / f"{number}.png"
        path.write_bytes(Path(picture.path).read_bytes())
        copies.append(Picture(str(path), picture.sha256))
    save_png(tmp_path / "2.png", np.zeros((32, 32, 3), np.uint8))
    network, folder = network_of(params, normals), tmp_path / "shards"
    with task_map() as run, pytest.raises(RuntimeError) as caught:
        extract_shards(run, network, copies, folder, images=2)
    assert "1 of 3 tasks failed" in str(caught.value) and "2.png is not the" in str(caught.value)
    assert len(sorted(folder.glob("*.npy"))) == 2 and not (folder / "index.json").exists()
    odd = replace(network, weights="0" * 64)
    with task_map() as run, pytest.raises(RuntimeError, match="this worker has other weights"):
        extract_shards(run, odd, test, tmp_path / "odd", images=9)


def pipeline_of(folder: Path, params: Params) -> None:
    """Write what the pipeline leaves: manifest, features and the first fold's coreset."""
    records = scan(params.data.path)
    normals = of_split(records, "train")
    paths = [Path(params.data.path) / record.path for record in records]
    backbone = load_backbone(params.backbone, seed=params.seed)
    how = {"arithmetic": "integer", "device": "cpu"}
    extractor = make_extractor(backbone, params.image, params.patch, paths[: len(normals)], **how)
    features = features_of(extractor, paths, params.runtime)
    folds = fold_indices(len(normals), params.cv.folds, shuffle=False, seed=0)
    kept, held_out = folds[0]
    protocol = Protocol(params.coreset, params.score, params.seed, unit=extractor.unit)
    images = BankImages([features[: len(normals)]], np.arange(len(normals)))
    rows = select_coresets(images, [kept], protocol)[0]
    write_manifest(folder / "artifacts/manifest.csv", records)
    save_array(folder / "artifacts/features.npy", features)
    save_array(folder / "artifacts/coreset/fold_0.npy", rows)
    fold = [[r.id, 0 if number in held_out else 1] for number, r in enumerate(normals)]
    write_csv(folder / "artifacts/coreset/folds.csv", ["id", "fold"], fold)


@pytest.mark.parametrize("kind", ["as it is", "projected and reweighted"])
def test_the_command_gives_the_pipelines_bank_and_scores(small, tmp_path, kind, monkeypatch):
    params, *_ = small
    whole = params.model_dump()
    whole["cv"]["folds"], whole["coreset"]["ratio"] = 3, 0.3
    if kind != "as it is":
        whole["coreset"]["projection_dim"], whole["score"]["reweight"] = 4, True
    params = validate(whole, Params)
    pipeline_of(tmp_path, params)
    own = OWN | {"images_per_shard": 2, "probes": 1000, "recall_queries": 5, "oversampling": 2.0}
    for path, values in (("params.yaml", whole), ("studies/scale/params.yaml", own)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    main()
    notebook = tmp_path / "studies/scale/41_scale.ipynb"
    shutil.copyfile(ROOT / "studies/scale/41_scale.ipynb", notebook)
    matplotlib.use("Agg")
    shown = run_cells(notebook, {"scale_images_per_shard": 2}, monkeypatch)
    assert "is the pipeline's of its first fold" in shown[-1]
    assert "finds 100.0% of the exact neighbours" in shown[-1]
    # The scores are those of the first fold.
    features = np.load(tmp_path / "artifacts/features.npy")
    bank = features[:7].reshape(-1, features.shape[-1])
    bank = bank[np.load(tmp_path / "artifacts/coreset/fold_0.npy")]
    unit = read_shards(tmp_path / "artifacts/studies/scale/shards/test").unit
    expected = score_images(features[7:], bank, params.score, unit=unit).images
    found = results.read_scores(tmp_path / "artifacts/studies/scale/result/scores.csv")
    np.testing.assert_array_equal(found["exact"], expected)
    np.testing.assert_array_equal(found["inverted_file"], expected)


RESULTS = {
    "shards": {"train": {"images": 3, "patches": 12, "shards": 2}},
    "size": 5,
    "methods": {
        "exact": {"threshold": 1.0, "flagged": 1, "f1": 0.5, "image_auroc": 0.75},
        "two_rounds": {
            "threshold": 2.0,
            "flagged": 0,
            "two_rounds": {
                "factor": 2.4,
                "factor_of_rounds": None,
                "radius": 1.2,
                "second": 1.0,
            },
        },
        "inverted_file": {
            "threshold": 1.0,
            "flagged": 1,
            "bank": "exact",
            "recall": 0.5,
            "recall_queries": 8,
        },
    },
}
SCORES = {
    "exact": np.array([0.5, 1.5]),
    "two_rounds": np.array([0.5, 1.5]),
    "inverted_file": np.array([0.6, 1.4]),
}


def test_the_words_follow_the_figures():
    words = results.findings(RESULTS, SCORES, True)
    assert "over 2 shards, the bank of 5 of 12 patches is the pipeline's" in words
    assert "2.40 times the best" in words and "that is an unproven multiple of" in words
    assert "by what was checked: no patch is farther than 1.2 times" in words
    assert "1 of 2 test images are decided otherwise" in words
    assert "finds 50.0% of the exact neighbours of 8 test patches. 0 of 2" in words
    assert "NOT the pipeline" in results.findings(RESULTS, SCORES, False)
    alone = RESULTS | {"methods": {"two_rounds": RESULTS["methods"]["two_rounds"]}}
    assert "decided" not in results.findings(alone, {"two_rounds": np.zeros(2)}, None)
    assert "F1" not in results.rows(alone)[0] and results.rows(RESULTS)[0]["F1"] == "0.500"


def test_rows_among_the_kept_become_rows_among_all():
    held_out = np.array([True, False, True, False])
    rows = np.array([0, 2, 3, 5])  # of images 1 and 3, three patches each
    assert results.rows_among_all(rows, held_out, 6).tolist() == [3, 5, 9, 11]


RATES = Rates(
    images=10.0,
    selected=1e9,
    in_two_rounds=2e9,
    compared=1e9,
    listed=1e9,
    task_seconds=0.05,
    picks_per_round=100.0,
)


def test_the_model_by_hand():
    work = Work(images=10_000, patches=10, dim=10, picks=1000, queries=100)
    found = costs(work, RATES, nodes=2, cores=5)
    assert found["extraction"].seconds == 101
    exact = found["exact selection"]
    # 100,000 x 1,000 x 10 distances on ten cores, ten rounds, picks to ten workers and back.
    talk = 1000 * 10 * 10 + 10 * 10 * 256 * 10
    assert exact.seconds == pytest.approx(0.1 + 10 * 0.05 * 10 + 1e6 / 1e9 + talk / 1e9)
    assert (exact.bottleneck, exact.network_gb) == ("rounds", pytest.approx(talk / 1e9))
    assert exact.memory_gb == pytest.approx(0.6 + 1e5 * (10 + 40) / 10 / 1e9)
    assert found["exact scoring"].seconds == pytest.approx(1000 * 1000 * 10 / 1e9 / 10)


def test_more_workers_than_shards_do_nothing():
    shards = FAB.images // 512
    many, more = (costs(FAB, read_rates(), nodes=n, cores=1) for n in (shards, 10 * shards))
    assert many["extraction"] == more["extraction"]
    assert many["exact selection"].seconds == more["exact selection"].seconds
    few = costs(FAB, read_rates(), nodes=2, cores=16)["exact selection"]
    assert few.bottleneck == "distances"


def test_durations_are_said_in_units_that_suit():
    said = [duration(s) for s in (0.2, 5, 119, 300, 7200, 400_000)]
    assert said == ["under 1 s", "5 s", "119 s", "5 min", "2 h", "5 days"]


def test_work_is_announced_with_time_memory_and_network():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    counts = {"train": 170, "held_out": 43, "test": 100}
    words = announce(counts, validate(params, Params), 2, (313, 28, 28, 152))
    assert "133,280 patches of 152 dimensions, a bank of 1,333, 2 process(es)" in words
    assert "exact selection" in words and "GB a process" in words and "over the network" in words


def test_the_page_is_what_the_rates_say():
    assert (ROOT / "docs/scale.md").read_text(encoding="utf-8") == page()


def test_rates_are_those_of_one_core():
    measured = {
        "selection": {
            "shape": [100, 10],
            "picks": 10,
            "one_process": 2.0,
            "two_rounds": 1.0,
            "task_seconds": 0.1,
            "rounds": 5,
        },
        "search": {
            "queries": 10,
            "bank": 160,
            "dim": 10,
            "exact": 4.0,
            "lists": 16,
            "inverted_file": 1.0,
        },
        "extraction": {"images": 40, "seconds": 2.0},
    }
    rates = rates_of(measured, 2)
    assert (rates.images, rates.selected, rates.in_two_rounds) == (10, 2500, 5000)
    assert (rates.compared, rates.picks_per_round) == (2000, 2)
    assert rates.listed == 10 * (16 + 160) * 10 / 2
