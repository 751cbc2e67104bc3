"""Extraction in parts gives what extraction gives, and is counted."""

from pathlib import Path

import numpy as np
import pytest
from small_data import extractor

from ad.extraction import extract_features
from ad.params import Patch, Runtime
from studies.backbones import cost as study


@pytest.mark.parametrize("part", [64, 3, 1])
def test_parts_are_joined_and_counted(
    part: int, small_mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(study, "PART", part)
    paths = sorted(small_mvtec.rglob("train/good/*.png"))
    tiny, how = extractor(paths, Patch(size=3), size=64), (Runtime(), 4)
    cost = study.timed_extraction(tiny, paths, tmp_path / "f.npy", *how)
    extract_features(tiny, paths, tmp_path / "whole.npy", *how)
    written = np.load(tmp_path / "f.npy")
    np.testing.assert_array_equal(written, np.load(tmp_path / "whole.npy"))
    assert written.nbytes == cost.n_images * cost.feature_bytes_per_image
    assert written.shape == (4, *cost.grid, cost.feature_dim)
    assert cost.seconds_per_image > 0 and cost.cpu_seconds_per_image > 0
    assert sorted(p.name for p in tmp_path.glob("*.npy")) == ["f.npy", "whole.npy"]
