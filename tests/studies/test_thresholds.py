"""Rules of the study of thresholds on scores whose answer is known."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ad.params import CrossValidation
from ad.protocol import run_protocol
from studies.thresholds.promises import (
    CONFORMAL,
    CROSS,
    KNOWN,
    OTHER,
    UNSEEN,
    compare_aggregates,
    conformal_threshold,
    cross_conformal,
    flag,
    measure,
    measure_run,
    promised,
    random_parts,
    rates,
)

ROOT = Path(__file__).parents[2]


def cells(n: int, n_defective: int = 0) -> pd.DataFrame:
    """List a run of cells in file order, the last ones defective."""
    label = np.repeat([0, 1], [n - n_defective, n_defective])
    return pd.DataFrame({"cell": range(n), "run": 4, "place": np.arange(n) / n, "label": label})


def exchangeable(n: int, *, seed: int, new: int = 100, banks: int = 5) -> pd.DataFrame:
    """Draw scores of normal images, all alike, as `measure` lays them out."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(new, 1)) * np.sqrt(0.9)  # banks agree, as banks of one set do
    scores = common + rng.normal(size=(new, banks)) * np.sqrt(0.1)
    fields = {"part": 0, "set": "a", "new": KNOWN, "folds": "shuffled", "seed": seed, "label": 0}
    rows = [
        {**fields, "bank": i % banks, "role": "held out", "image": i, "module": i, "score": value}
        for i, value in enumerate(rng.normal(size=n))
    ]
    rows += [
        {**fields, "bank": k, "role": "new", "image": n + i, "module": i, "score": scores[i, k]}
        for i in range(new)
        for k in range(banks)
    ]
    return pd.DataFrame(rows)


def test_the_conformal_threshold_is_the_rank_of_the_definition():
    scores = np.arange(1, 100)  # 99 scores: rank ceil(100 * 0.95) = 95
    assert conformal_threshold(scores, 0.05) == 95
    assert conformal_threshold(scores[:18], 0.05) == np.inf  # 19 ranks cannot promise 5 %


def test_cross_conformal_p_values_lay_each_bank_beside_its_own_scores():
    held = [np.array([1.0, 3.0]), np.array([10.0, 30.0])]
    new = np.array([[2.0, 9.0], [20.0, 5.0]])  # (banks, images)
    # First image: 3 of bank 0 and 30 of bank 1 are as high; second: both of bank 1.
    assert cross_conformal(held, new).tolist() == [3 / 5, 3 / 5]


@pytest.mark.parametrize("rule", [CONFORMAL, CROSS, "quantile:0.95"])
def test_rules_keep_five_percent_where_images_are_exchangeable(rule):
    scores = pd.concat([exchangeable(200, seed=seed) for seed in range(30)])
    flagged = flag(scores, [rule]).query("aggregate == 'mean'")["flagged"].mean()
    assert 0.02 < flagged < 0.08


def test_the_maximum_over_banks_flags_more_than_their_mean():
    scores = pd.concat([exchangeable(200, seed=seed) for seed in range(10)])
    shares = flag(scores, [CONFORMAL]).groupby("aggregate")["flagged"].mean()
    assert shares["max"] > 1.3 * shares["mean"]


def test_each_cell_is_new_once_and_no_bank_has_seen_it():
    rng = np.random.default_rng(0)
    about, features = cells(20, 4), rng.normal(size=(20, 8, 8, 3)).astype(np.float32)
    features[3] += 50  # far from all others: its score shows whether a bank holds it
    part = random_parts(20, 4, seed=1)
    table = measure(features, about, part, shuffle=True, seed=0)
    new = table[table["role"] == "new"]
    assert new.groupby("image")["part"].nunique().eq(1).all()
    assert new.groupby("image").size().eq(5).all()
    assert set(table[table["role"] == "held out"]["label"]) == {0}
    assert new[new["image"] == 3]["score"].min() > 1000
    kept, asked = np.flatnonzero((part != 2) & (about["label"] == 0)), np.flatnonzero(part == 2)
    same = run_protocol(features[kept], features[asked], cv=CrossValidation(shuffle=True))
    found = new[(new["part"] == 2) & (new["bank"] == 1)]["score"]
    assert found.tolist() == same.fold_scores[1].tolist()


def test_unseen_modules_are_stretches_of_files():
    features = np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype(np.float32)
    table = measure_run(features, cells(20), name="a", parts=4, seeds=[0], arms=[(UNSEEN, True)])
    unseen = table[table["role"] == "new"]
    assert unseen.groupby("part")["image"].agg(["min", "max"]).to_numpy().tolist() == [
        [0, 4],
        [5, 9],
        [10, 14],
        [15, 19],
    ]


def test_flags_are_those_of_the_protocol():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 8, 8, 3)).astype(np.float32)
    part = np.repeat([0, 1], [25, 5])
    table = measure(features, cells(30), part, shuffle=False, seed=0, asked=[1])
    table = table.assign(set="a", new=KNOWN, folds="in file order", seed=0)
    cv = CrossValidation(shuffle=False, threshold="mean_sd:2", aggregate="max")
    want = run_protocol(features[:25], features[25:], cv=cv).flags
    found = flag(table, ["mean_sd:2"]).query("aggregate == 'max'")
    assert found.sort_values("image")["flagged"].tolist() == want.tolist()


def test_an_interval_is_wider_where_alarms_come_module_by_module():
    image = pd.DataFrame({"image": range(200), "label": 0, "flagged": np.arange(200) < 20})
    image = image.assign(set="a", new=KNOWN, folds="shuffled", rule="max", aggregate="mean", seed=0)
    together = rates(image.assign(module=image["image"] // 20), seed=0, level=0.95).iloc[0]
    spread = rates(image.assign(module=image["image"] % 10), seed=0, level=0.95).iloc[0]
    assert together["false_alarms"] == spread["false_alarms"] == 0.1
    assert together["high"] > spread["high"] + 0.05  # all alarms in one module of ten
    # Alarms spread evenly: the exact binomial interval of 20 in 200 (Clopper and Pearson).
    assert spread["low"] == pytest.approx(0.0622, abs=1e-4)
    assert spread["high"] == pytest.approx(0.1502, abs=1e-4)


def test_promises():
    assert promised("max", 215) == 1 / 44
    assert promised("quantile:0.95", 215) == 0.05


def test_the_difference_of_aggregates_is_paired():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [40, 40])
    table = [
        pd.DataFrame(
            {"image": range(80), "label": label, "seed": seed, "aggregate": how, "score": score}
        )
        for seed in (0, 1)
        for how, score in (("mean", label + rng.normal(size=80)), ("max", rng.normal(size=80)))
    ]
    flags = pd.concat(table).assign(rule="max", set="a", new=KNOWN, folds="shuffled")
    row = compare_aggregates(flags, seed=0).iloc[0]
    assert row["low"] > 0 and row["low"] < row["difference"] < row["high"]


def test_every_figure_of_the_page_is_the_committed_runs():
    notebook = json.loads((ROOT / "studies/thresholds/12_thresholds.ipynb").read_text("utf-8"))
    cells = notebook["cells"]
    page = " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    rows = pd.read_csv(ROOT / "metrics" / "thresholds.csv")
    rows = rows.set_index(["set", "new", "folds", "rule", "aggregate"])

    def rate(*key: str, interval: bool = False) -> str:
        row = 100 * rows.loc[key]
        ends = f" ({row['low']:.1f} to {row['high']:.1f})" if interval else ""
        return f"{row['false_alarms']:.1f} %{ends}"

    known, unseen = (KNOWN, "shuffled"), (UNSEEN, "shuffled")
    line, protocol = ("quantile:0.95", "mean"), ("max", "max")
    by_max, modules = ("quantile:0.95", "max"), (UNSEEN, "in file order", CONFORMAL, "mean")
    said = [rate(s, *known, *line, interval=True) for s in ("default", "poly")]
    said += [rate(s, *unseen, *line, interval=True) for s in ("default", "poly")]
    said.append(rate("default", OTHER, "shuffled", *line, interval=True))
    said.append(rate("default", *known, *protocol))
    assert rows.xs(OTHER, level="new")["low"].min() > 0.05  # "every rule tried breaks"
    said += [rate(s, *known, *by_max, interval=True) for s in ("default", "poly")]
    said += [rate(s, *modules, interval=True) for s in ("default", "poly")]
    said += [
        rate(s, *w, CROSS, "mean", interval=True)
        for w in (known, unseen)
        for s in ("default", "poly")
    ]
    for how in (
        (*known, *line),
        (*known, *protocol),
        (KNOWN, "in file order", CONFORMAL, "mean"),
        (*known, CONFORMAL, "mean"),
        (*known, CROSS, "mean"),
    ):
        said.append(f"{100 * rows.loc[('default', *how)]['found']:.1f} %")
    said += [f"{100 * rows.loc[('poly', *known, *h)]['found']:.1f} %" for h in (line, protocol)]
    n, k, a = 273 * 0.8, 5, 0.05
    said += [f"{100 * (2 * a + 2 * (1 - a) * (k - 1) / (n + k)):.1f} %", "99.3 %"]
    missing = [text for text in said if text not in page]
    assert not missing
    fixed = {"5 %", "95 %", "1 %"}
    assert set(re.findall(r"\d+(?:\.\d+)? %", page)) <= fixed | {s.split(" (")[0] for s in said}
    gains = pd.read_csv(ROOT / "metrics" / "thresholds_aggregates.csv")
    gains = gains.set_index(["set", "new", "folds"])
    for key in (("poly", *known), ("default", *known), ("default", KNOWN, "in file order")):
        row = gains.loc[key]
        text = f"{row['difference']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        assert text in page
    counts = pd.read_csv(ROOT / "metrics" / "thresholds_competition.csv")
    alarms = (counts["false_alarms"] * counts["normal"]).round().astype(int)
    alarms.index = pd.MultiIndex.from_frame(counts[["folds", "rule", "aggregate"]])
    flagged = [
        alarms[folds, rule, how]
        for folds in ("shuffled", "in file order")
        for rule, how in (("max", "max"), ("quantile:0.95", "max"), ("quantile:0.95", "mean"))
    ]
    words = "flags {}, the 0.95 quantile {} by the maximum and {} by the mean; with folds in file "
    assert f"{words}order they flag {{}}, {{}} and {{}}".format(*flagged) in page
