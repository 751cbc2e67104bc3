"""Nothing stale: for every setting, what its edit changes comes from stages that DVC runs again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import yaml
from notebook_cells import run_cells
from safetensors.torch import save_file
from small_data import SMALL, digests, draw_normal, save_png, write_mvtec

from ad.params import Params, read_params

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Another value of every setting; those of runtime and the batch size change no result.
OTHER = {
    "seed": 1,
    "data.path": "other",
    "data.locked": None,
    "image.input_size": 96,
    "image.tiles": 2,
    "image.region": [0.0, 0.0, 0.5, 1.0],
    "image.resize": 150,
    "image.brightness": 60.0,
    "image.mean": [0.5, 0.5, 0.5],
    "image.std": [0.5, 0.5, 0.5],
    "image.interpolation": "bilinear",
    "image.bits": 12,
    "image.ignore": "mask.png",
    "backbone.name": "resnet18",
    "backbone.weights": "weights/other.safetensors",
    "backbone.layers": ["layer2"],
    "backbone.batch_size": 3,
    "backbone.arithmetic": "float32",
    "patch.patch_size": 1,
    "patch.pretrain_dim": 16,
    "patch.target_dim": 16,
    "coreset.ratio": 0.2,
    "coreset.n_select": 50,
    "coreset.projection_dim": 8,
    "score.num_neighbors": 3,
    "score.squared": False,
    "score.reweight": True,
    "score.index": "faiss_flat",
    "cv.folds": 4,
    "cv.shuffle": False,
    "cv.threshold": "quantile:0.5",
    "cv.aggregate": "mean",
    "runtime.device": "auto",
    "runtime.threads": 2,
    "runtime.memory_gb": 1.0,
}
NO_RESULT = {"backbone.batch_size", *(key for key in OTHER if "runtime" in key)}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Draw two sets, one picture of 16 bits and a mask, and save weights."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    write_mvtec(folder / "data", n_train=8, n_normal=2, n_anomalous=2, size=144)
    save_png(folder / "data/train/good/008.png", draw_normal(rng, 144)[..., 0].astype("u2") << 4)
    shutil.copytree(folder / "data", folder / "other")
    (folder / "other/train/good/000.png").unlink()
    save_png(folder / "data_locked/test/good/a.png", draw_normal(rng, 144))
    save_png(folder / "mask.png", np.arange(144) < np.full((144, 1), 72))
    (folder / "weights").mkdir()
    network = timm.create_model("resnet10t", pretrained=False)
    save_file(network.state_dict(), folder / "weights/other.safetensors")
    return folder


def run_from_nothing(images: Path, folder: Path, key: str | None = None) -> dict[str, str]:
    """Run all notebooks with one setting changed; hash what they leave.  Nothing is drawn."""
    settings = read_params(SMALL | {"image": {"input_size": 128, "bits": 16}}).model_dump()
    if key:
        section, _, name = key.rpartition(".")
        (settings[section] if section else settings)[name] = OTHER[key]
    shutil.copytree(images, folder)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        for notebook in NOTEBOOKS:
            run_cells(folder / "notebooks" / notebook.name, settings, patch, drawn=False)
    return digests(folder)


@pytest.fixture(scope="module")
def before(images, tmp_path_factory) -> dict[str, str]:
    """Return the hashes of a run at the values before."""
    return run_from_nothing(images, tmp_path_factory.mktemp("before") / "run")


def test_every_setting_has_another_value():
    sections = {name: getattr(Params(), name) for name in Params.model_fields if name != "seed"}
    keys = {f"{name}.{key}" for name, own in sections.items() for key in type(own).model_fields}
    assert {"seed"} | keys == OTHER.keys()


@pytest.mark.parametrize("key", OTHER)
def test_what_an_edit_changes_comes_from_stages_that_run(key: str, images, before, tmp_path):
    after = run_from_nothing(images, tmp_path / "run", key)
    changed = {path for path in after | before if after.get(path) != before.get(path)}
    assert bool(changed) == (key not in NO_RESULT)

    def any_changed(paths: list[str]) -> bool:
        return any(one == path or one.startswith(f"{path}/") for one in changed for path in paths)

    for name, stage in STAGES.items():
        made = [*stage["outs"], *map(min, stage.get("metrics", []) + stage.get("plots", []))]
        watched = {key, key.partition(".")[0]} & set(stage.get("params", []))
        if any_changed(made):
            assert watched or any_changed(stage["deps"]), name
