"""A sweep's rows are those of direct runs; an interrupted one goes on."""

from pathlib import Path

import numpy as np
import pytest
from small_data import SMALL, draw_normal, save_png

from ad.backbone import load_backbone
from ad.coreset import k_center_two_rounds
from ad.data import of_split
from ad.evaluation import image_auroc
from ad.extraction import features_of, make_extractor
from ad.files import load_array, read_json
from ad.params import read_params
from ad.protocol import run_protocol
from ad.scan import scan
from ad.tables import read_table

distributed = pytest.importorskip("distributed")
from tools.big_bank import big_bank  # noqa: E402 - they need the extra
from tools.sweep import Grid, connect, sweep  # noqa: E402

VALUES = {"coreset.ratio": [0.1, 0.5], "score.num_neighbors": [1, 3]}


@pytest.fixture(scope="module")
def client():
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        yield client


def direct_run(folder: Path, given: dict) -> tuple[float, float]:
    """Return threshold and AUROC of one setting, by the steps that a student would write."""
    params, records = read_params(SMALL | given), scan(folder)
    train, test = (of_split(records, split) for split in ("train", "test"))
    normals, queries = ([folder / r.path for r in own] for own in (train, test))
    network = load_backbone(params.backbone, seed=params.seed)
    extractor = make_extractor(
        network, params.image, params.patch, normals, arithmetic=params.backbone.arithmetic
    )
    features = (features_of(extractor, paths, params.runtime) for paths in (normals, queries))
    how = {"coreset": params.coreset, "score": params.score, "cv": params.cv}
    found = run_protocol(*features, **how, seed=params.seed, unit=extractor.unit)
    return found.threshold, image_auroc([r.label for r in test], found.scores)


def test_rows_are_direct_runs_and_a_sweep_goes_on(client, small_mvtec, tmp_path):
    grid = Grid(folders=[str(small_mvtec)], grid=VALUES, seeds=[0, 1])
    table = sweep(grid, SMALL, client, tmp_path / "out")
    assert len(table) == 8
    for row in table.to_dict("records"):
        given = {"coreset": {"ratio": row["coreset.ratio"]}, "seed": row["seed"]}
        given["score"] = {"num_neighbors": row["score.num_neighbors"]}
        assert (row["threshold"], row["image_auroc"]) == direct_run(small_mvtec, given)
    written = read_table(tmp_path / "out" / "sweep.csv")
    np.testing.assert_array_equal(written["threshold"], table["threshold"])

    files = sorted((tmp_path / "out" / "rows").iterdir())
    features = sorted((tmp_path / "out" / "features").iterdir())
    assert len(files) == 8 and len(features) == 2  # random weights: a seed has its own
    times = {path: path.stat().st_mtime_ns for path in files[1:]}
    before = files[0].read_bytes()
    files[0].unlink()
    again = sweep(grid, SMALL, client, tmp_path / "out")
    assert again.equals(table) and files[0].read_bytes() == before
    assert times == {path: path.stat().st_mtime_ns for path in files[1:]}

    pixels = draw_normal(np.random.default_rng(9), 32)
    save_png(small_mvtec / "train" / "good" / "000.png", pixels)  # other data, other rows
    grid = Grid(folders=grid.folders, grid={"score.num_neighbors": [1]}, seeds=[0])
    sweep(grid, SMALL, client, tmp_path / "out")
    assert len(sorted((tmp_path / "out" / "rows").iterdir())) == 9


def test_what_is_wrong_is_one_line(client, small_mvtec, tmp_path, monkeypatch, one_line):
    grid = Grid(folders=[str(small_mvtec)], grid={"coreset.share": [1]}, seeds=[0])
    with pytest.raises(ValueError, match=r"coreset\.share is no setting"):
        sweep(grid, SMALL, client, tmp_path)
    grid = Grid(folders=[str(small_mvtec)], grid={"score.num_neighbors": [1, 900]}, seeds=[0])
    with one_line(
        RuntimeError, "1 of 2 rows failed", "score.num_neighbors=900", "coreset.n_select"
    ):
        sweep(grid, SMALL, client, tmp_path)
    assert len(sorted((tmp_path / "rows").iterdir())) == 1  # the other is kept
    monkeypatch.setenv("AD_CLUSTER", "no.json")
    with pytest.raises(SystemExit, match=r"no Dask scheduler at no\.json"), connect(None):
        pass


def test_a_big_bank_is_that_of_two_rounds_over_its_shards(client, small_mvtec, tmp_path):
    params = read_params(SMALL | {"data": {"path": str(small_mvtec)}, "coreset": {"n_select": 20}})
    big_bank(params, client, tmp_path, images=3)
    shards = [load_array(path) for path in sorted(tmp_path.glob("shard_*.npy"))]
    assert [len(shard) for shard in shards] == [3, 1]
    expected = k_center_two_rounds(shards, 20, seed=0)
    np.testing.assert_array_equal(np.load(tmp_path / "bank.npy"), expected.bank)
    assert read_json(tmp_path / "bank.json")["factor"] == expected.factor
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("shard_*.npy"))]
    big_bank(params, client, tmp_path, images=3)
    assert times == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("shard_*.npy"))]
