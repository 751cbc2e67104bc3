"""Listing orders against the file systems' own tools, factors on a tiny run, and the page."""

import json
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from small_data import write_competition, write_mvtec

from ad.evaluation import f1_score
from ad.params import BackboneSettings, Coreset, CrossValidation, Image, Params, Runtime, Score
from studies.gap import interventions, orders
from studies.gap.forensics import Case, random_f1
from studies.gap.interventions import FACTORS, Control, Images, carry_out, weigh

ROOT = Path(__file__).resolve().parents[2]
LABELS, FLAGS = (np.arange(100) < 40).astype(int), np.arange(100) < 42


@pytest.mark.parametrize(
    ("seed", "name", "expected"),
    [  # by debugfs of e2fsprogs 1.47: dx_hash -h half_md4 -s <seed> <name>; a block is 32 letters
        ("0123-456789abcdef", "TEST_000.png", 0x2270BD12_8E5B96C6),
        ("0123-456789abcdef", "TEST_099.png", 0x0C16F76C_01F8EF83),
        (
            "fedc-ba9876543210",
            "averyveryverylongname_more_than_thirty_two_bytes.png",
            0xF9FD715E_F5A86967,
        ),
    ],
)
def test_ext4_hashes_by_its_own_tool(seed, name, expected):
    words = np.frombuffer(UUID(f"01234567-89ab-cdef-{seed}").bytes, dtype="<u4")
    assert int(orders.half_md4(name, words[None])[0]) == expected


def test_listings_hold_each_image_once_and_a_file_twice_shifts_the_rest():
    for name, found in orders.listings(12, draws=5, seed=0).items():
        for order in found:
            if "twice" in name:
                assert (np.diff(order) >= 0).all() and len(set(order.tolist())) >= 11
            else:
                assert sorted(order) == list(range(12)), name
        harmless = (found == np.arange(12)).all()
        assert harmless == (name in ("Windows (NTFS)", "natural order, numbers padded"))
    text = orders.listings(12, draws=1, seed=0)["sorted as text, numbers not padded"]
    assert text[0].tolist() == [0, 1, 10, 11, *range(2, 10)]


def test_written_answers_by_hand():
    labels, flags = np.array([1, 1, 0, 0]), np.array([True, False, True, False])
    assert (orders.written(flags, np.array([[0, 1, 2, 3]]), draws=9, seed=0) == flags).all()
    moved = orders.written(flags, np.array([[3, 2, 1, 0]]), draws=9, seed=0)
    expected = [f1_score(labels, row) for row in moved]
    assert orders.f1_of_draws(labels, moved).tolist() == pytest.approx(expected)


def test_orders_that_move_all_rows_are_centred_on_chance():
    found = orders.order_effects(FLAGS, LABELS, draws=400, seed=0)
    for name in ("Linux (ext4)", "Linux (overlay, two layers)", "shuffled by the loader"):
        assert abs(found["F1"][name] - random_f1(42)) < 0.02
        assert found["low"][name] < found["F1"][name] < found["high"][name]
    assert found["F1"]["Windows (NTFS)"] == pytest.approx(f1_score(LABELS, FLAGS))


# Factors, on eight training and eight test images, with a small random network


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    root = tmp_path_factory.mktemp("gap") / "data"
    write_mvtec(root, n_train=8, n_normal=4, n_anomalous=4, size=64)
    network = {"name": "resnet10t", "weights": "random", "layers": ["layer1", "layer2"]}
    params = Params(
        image=Image(input_size=64),
        backbone=BackboneSettings(**network, arithmetic="float32"),
        coreset=Coreset(ratio=0.05),
        score=Score(num_neighbors=2),
        cv=CrossValidation(folds=2),
        runtime=Runtime(threads=1),
    )
    return Control(Images.of_folder(root), params)


def test_every_factor_is_counted(control, monkeypatch):
    monkeypatch.setattr(interventions, "DRAWS", 20)
    monkeypatch.setattr(interventions, "SEEDS", 2)
    table = carry_out(control)
    labels = control.images.labels
    assert labels.tolist() == [int(p.parent.name != "good") for p in control.images.test]
    assert len(table) == 1 + sum(map(len, FACTORS.values()))
    assert np.allclose(table["hits"] + table["false_alarms"], table["flags"])
    assert np.allclose(table["J"], table["hits"] / 4 - table["false_alarms"] / 4)
    assert table["f1"].iloc[0] == f1_score(labels, control.flags)
    moved = table["moved"].droplevel("group")
    assert moved["unchanged"] == moved["rows by position, Windows's listing"] == 0
    assert moved["labels flipped"] == 8
    assert moved["wrong ids: none found, all 0"] == control.flags.sum()
    assert moved["float32 for whole numbers"] == 0  # this run is in float32 already


def test_a_process_told_of_an_old_machine_gives_as_many_scores(control):
    found = interventions._elsewhere(control, "float32")
    assert np.allclose(found["scores"], control.result.scores, rtol=1e-3)
    assert found["flags"] == (np.array(found["scores"]) > control.result.threshold).tolist()


def test_without_labels_flags_are_counted(tmp_path, control):
    write_competition(tmp_path / "flat", n_train=4, n_test=4, size=64)
    bare = Control(Images.of_folder(tmp_path / "flat"), control.params)
    table = carry_out(bare, {"threshold": {"labels flipped": lambda c: ~c.flags}})
    assert list(table.columns) == ["flags", "moved"]
    assert table["moved"].tolist() == [0, 4]


def test_weights_of_factors_are_the_exact_probabilities():
    case = Case({"WRN101": ("0.35714", "0.44"), "ResNet-50": ("0.3846", "0.375")})
    table = pd.DataFrame(
        {"hits": [15.2, 36.0], "false_alarms": [22.8, 2.0]}, index=["luck", "good"]
    )
    found = weigh(table, LABELS, case)
    none = case.likelihood(case.informed(0.0)[None])[0]
    own = case.likelihood(case.counted(36, 40, 2, 60)[None])[0]
    assert found["log10_rates"]["good"] == pytest.approx(np.log10(own / none))
    assert found["log10_rates"]["good"] < -10 < -1 < found["log10_rates"]["luck"]
    even = case.evened(case.counted(36, 40, 2, 60))
    flags = np.add.outer(np.arange(41), np.arange(61))
    assert [even[flags == n].sum() for n in (29, 30, 50, 51)] == pytest.approx(
        [0, 1 / 21, 1 / 21, 0]
    )


def test_the_page_s_figures_are_the_run_s():
    page = json.loads((ROOT / "studies/gap/21_gap.ipynb").read_text(encoding="utf-8"))["cells"]
    text = " ".join("".join(c["source"]) for c in page if c["cell_type"] == "markdown")
    run = json.loads((ROOT / "metrics/gap.json").read_text(encoding="utf-8"))
    cells, real = (
        pd.read_csv(ROOT / f"metrics/{name}.csv", index_col="factor", keep_default_na=False)
        for name in ("gap_factors", "gap_competition")
    )
    wrn, resnet = run["likeliest"]["WRN101"], run["likeliest"]["ResNet-50"]
    base, many = run["readings"]["as above"], run["readings"]["45 anomalous images"]
    less = 10 ** -cells["log10_rates"].astype(float)  # times below flags at random
    near, seeds, floats = less[less < 10], "every seed changed", "float32 for whole numbers"
    ext4 = "rows by position, ext4's listing"
    aliased = "resized without antialiasing, test images only"
    rest = less.drop([*near.index, "rows by position, one file twice"])
    bits = [change["float32 scores"] for change in run["numerics"].values()]
    moved = {name: table["moved"].round(1) for name, table in (("cells", cells), ("real", real))}
    for claim in (
        f"F1 is {run['random_f1']['38']:.2f}.",
        f"{wrn['flags']:.0f} flags with {wrn['right']:.0f} right, where luck gives "
        f"{wrn['right by luck']:.1f} (WRN101)",
        f"{resnet['flags']:.0f} flags with {resnet['right']:.0f} right, where luck gives "
        f"{resnet['right by luck']:.1f} (ResNet-50)",
        f"moves {moved['cells'][ext4]:.0f} of 100, and F1 falls from "
        f"{cells['f1']['unchanged']:.2f} to {cells['f1'][ext4]:.2f}",
        f"below {base['J from 0: below']:.2f} with 95 %",
        f"J = 0.1 is only {base['J = 0.1: times less likely']:.2g} times less likely",
        f"J = 0.3 is {float(format(base['J = 0.3: times less likely'], '.2g')):,.0f} times",
        f"{['Three', 'Four', 'Five', 'Six'][len(near) - 3]} changes come within a factor of 10",
        f"{less['rows by position, one file twice']:.0f} times below",
        f"at least {float(format(rest.min(), '.2g')):,.0f} times below",
        f"last digits of {min(bits)} to {max(bits)} of 100 scores",
        f"moves {moved['cells'][floats]:.0f} flags, folds that are not shuffled "
        f"{moved['cells']['folds not shuffled']:.0f}, and other seeds {moved['cells'][seeds]}",
        f"F1 is {run['orders']['Linux (ext4)']['F1']:.2f} on average",
        f"at least {run['false_alarms_in_public']['WRN101']} false alarms",
        f"the bound is {base['J from -1: below']:.2f}",
        f"with 45 anomalous images the bounds are {many['J from 0: below']:.2f} and "
        f"{many['J from -1: below']:.2f}",
        f"the likeliest has {wrn['probability']:.0%}".replace("%", " %"),
        f"(J = {cells['J']['random weights']:.2f})",
        f"flag {cells['flags']['random weights']:.0f} of 100 cells, and "
        f"{real['flags']['random weights']:.0f} of the competition's",
        f"{10 ** -cells['log10_information']['random weights']:.0f} times below luck",
        f"the unchanged run flags {real['flags']['unchanged']:.0f} of 100",
        f"Float32 moves {moved['real'][floats]:.0f} of these flags, other seeds and folds "
        f"{moved['real'][seeds]:.0f}, ext4's listing {moved['real'][ext4]:.0f}; test images "
        f"resized without antialiasing move {moved['real'][aliased]:.0f}",
    ):
        assert claim in text, claim
    assert all(t[t["group"] == "numbers"]["moved"].max() <= 5 for t in (cells, real))
    assert all("rows" in name or "listing" in name or "ids" in name for name in near.index)
    assert moved["real"]["folds not shuffled"] == moved["real"][seeds]
    for change in run["numerics"].values():
        assert change.get("integer scores", 0) == change["float32 flags"] == 0
    assert {38, 42} <= set(run["flags"]["WRN101"]) and not {39, 40, 41} & set(
        run["flags"]["WRN101"]
    )
    assert 38 in run["flags_if_1_in_private"]["WRN101"]
    assert 34 in run["flags_if_1_in_private"]["ResNet-50"]
