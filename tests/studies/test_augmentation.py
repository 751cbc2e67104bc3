"""Changes by hand, copies that join a bank without a network, figures of small tables, the page."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from studies.augmentation import copies
from studies.common import ROOT

PICTURE = np.repeat(np.array([[10, 20], [30, 200]], dtype=np.uint8)[..., None], 3, axis=2)


def grey(pixels: np.ndarray) -> list[list[int]]:
    assert pixels.shape == PICTURE.shape and pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    return pixels[..., 0].tolist()


def test_changes_of_place():
    assert grey(copies.flip_left_right(PICTURE)) == [[20, 10], [200, 30]]
    assert grey(copies.flip_up_down(PICTURE)) == [[30, 200], [10, 20]]
    assert grey(copies.quarter_turn(PICTURE)) == [[20, 200], [10, 30]]


def test_changes_of_light():
    """15 % off and on, rounded to even and clipped; the mean is 65, so a factor of 160 / 65."""
    assert grey(copies.darker(PICTURE)) == [[8, 17], [26, 170]]
    assert grey(copies.brighter(PICTURE)) == [[12, 23], [34, 230]]
    assert grey(copies.equal_mean(PICTURE)) == [[25, 49], [74, 255]]


def test_equal_contrast_has_the_mean_and_the_spread_asked_for():
    pixels = np.random.default_rng(0).integers(90, 200, (40, 40, 3)).astype(np.uint8)
    found = copies.equal_mean_and_contrast(pixels)
    assert found.mean() == pytest.approx(copies.MEAN, abs=0.1)
    assert found.std() == pytest.approx(copies.SPREAD, abs=0.1)


def test_a_black_picture_stays_black_or_grey():
    black = np.zeros((2, 2, 3), dtype=np.uint8)
    assert not copies.equal_mean(black).any()
    assert (copies.equal_mean_and_contrast(black) == copies.MEAN).all()


@pytest.fixture
def toy(monkeypatch) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run ten normals of value 10 and two queries, 10 and 50, where quarter turns have value 50."""

    def features(paths, *, change, normals):
        values = np.array([50 if path.name == "odd" else 10 for path in paths], dtype=np.uint8)
        if change is copies.quarter_turn:
            values[:] = 50
        return np.tile(values[:, None, None, None], (1, 10, 10, 2)), 1.0

    monkeypatch.setattr(copies, "cell_features", features)
    train, test = [Path("normal")] * 10, [Path("odd"), Path("normal")]
    parts = np.repeat(range(5), 2), np.array([0, 4])
    cells = copies.Cells("toy", train, test, np.array([1, 0]), *parts)
    return copies.run_cells(cells, [0])


def test_copies_that_look_like_an_anomaly_hide_it(toy):
    tested = toy[0].query("part == 'test' and modules == 'known'").set_index(["bank", "image"])
    odd = 2 * 40**2
    assert tested.loc[(copies.PLAIN, 0), "score"] == odd
    assert tested.loc[("flipped up-down", 0), "score"] == odd
    assert tested.loc[("quarter turn", 0), "score"] < odd
    assert tested.loc[(copies.PLAIN, 1), "score"] == 0


def test_unseen_modules_are_asked_about_light_alone(toy):
    tested = toy[0].query("part == 'test' and modules == 'unseen'")
    assert set(tested["bank"]) == set(copies.LIGHTS)


def test_only_quarter_turns_look_anomalous_until_copies_are_in_the_bank(toy):
    """Unchanged normals score 0, and so do flipped ones: every pair is a tie."""
    found = copies.look_figures(toy[1], seed=0).set_index(["bank", "change"])
    plain = found.loc[copies.PLAIN]
    assert plain["value"].to_dict() == {**dict.fromkeys(copies.COPIES, 0.5), "quarter turn": 1.0}
    assert plain["flagged"].to_dict() == {**dict.fromkeys(copies.COPIES, 0), "quarter turn": 1}
    assert (found["flagged_low"] <= found["flagged"]).all()
    assert set(found.index[len(plain) :]) == {(kind, kind) for kind in copies.COPIES}


def test_gains_are_differences_of_auroc():
    """Plain ranks both pairs wrongly, the other bank both rightly; 1 of 4 held-out is flagged."""
    rows = []
    for bank, tested in ((copies.PLAIN, (3, 4, 1)), ("light", (1, 2, 3))):
        for seed in (0, 1):
            about = {"cells": "toy", "modules": "known", "bank": bank, "seed": seed}
            rows.append(copies._rows(about, "test", np.array([0, 0, 1]), np.array(tested), 9))
            rows.append(copies._rows(about, "held out", 0, np.array([1, 2, 3, 4]), 3))
    found = copies.bank_figures(pd.concat(rows), seed=0).set_index("bank")
    assert list(found["image_auroc"]) == [0, 1]
    assert list(found.loc["light", ["gain", "low", "high"]]) == [1, 1, 1]
    assert list(found["false_alarms"]) == [0.25, 0.25]


def test_the_pages_figures_are_those_of_the_committed_run():
    cells = nbformat.read(
        ROOT / "studies" / "augmentation" / "15_augmentation.ipynb", as_version=4
    ).cells
    text = "\n".join(c.source for c in cells if "committed" in c.metadata.get("tags", []))
    known = set()
    for name in ("augmentation", "augmentation_looks"):
        found = pd.read_csv(ROOT / "metrics" / f"{name}.csv").select_dtypes("number").to_numpy()
        known |= {f"{abs(v):.{digits}f}" for v in found.ravel() for digits in (2, 3)}
        known |= {f"{100 * v:.1f}" for v in found.ravel()}
    assert not set(re.findall(r"\d+\.\d+", text)) - known
