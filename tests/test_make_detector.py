"""A detector file from normal pictures alone; planted defects are the first to look at."""

from pathlib import Path

import numpy as np
from small_data import SMALL, draw_anomalous, draw_normal, save_png

from ad.inspect import Detector
from ad.params import read_params
from tools.make_detector import make


def test_planted_defects_stand_out_and_the_file_scores_pictures(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(22):
        save_png(tmp_path / "normals" / f"{number:02d}.png", draw_normal(rng, 64))
    for name in ("05", "16"):
        picture, _ = draw_anomalous(rng, 64, "blob")
        save_png(tmp_path / "normals" / f"{name}.png", picture)
    held = make(tmp_path / "normals", tmp_path / "detector.onnx", read_params(SMALL))
    assert {"05", "16"} <= {Path(name).stem for name in held["id"].head(3)}
    assert len(held) == 22
    detector = Detector.load(tmp_path / "detector.onnx")
    assert detector.n_normals == 22
    assert not list(tmp_path.glob("*.network.onnx"))  # any order: there is none
    again = detector.score(tmp_path / "normals" / "05.png")
    assert again.fold_scores.max() == again.score
