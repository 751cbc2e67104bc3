"""Settings, synthetic anomalies and criteria of the study of settings on small examples."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image as Picture
from sklearn.metrics import pairwise_distances, roc_auc_score
from sklearn.model_selection import KFold

from ad.coreset import textbook_coreset
from studies.common import ROOT
from studies.settings import scores as module
from studies.settings.criteria import Scores, agreement, by_labels, criteria, gain
from studies.settings.scores import (
    KINDS,
    KNOWN,
    LIGHTS,
    UNSEEN,
    Setting,
    cost,
    paste,
    pasted_cells,
    score_by_protocol,
    score_settings,
    with_position,
)

FOLDER = ROOT / "studies" / "settings"


def grey_picture(seed: int = 0, side: int = 256) -> np.ndarray:
    """Draw a picture of smooth stripes and noise."""
    stripes = 128 + 60 * np.sin(np.arange(side) / 3)[:, None]
    noise = np.random.default_rng(seed).normal(scale=5, size=(side, side))
    return np.clip(stripes + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_synthetic_anomaly_changes_a_part_and_is_the_same_again(kind):
    grey = grey_picture()
    changed, again = (paste(grey, kind, np.random.default_rng(3)) for _ in range(2))
    share = (changed != grey).mean()
    assert np.array_equal(changed, again) and changed.dtype == np.uint8
    assert 0.0005 < share < 0.25
    assert np.array_equal(grey, grey_picture())  # the original stays


def test_a_scar_is_a_turned_piece_of_the_picture():
    grey = np.zeros((256, 256), np.uint8)
    grey[:, ::2] = 200  # only two values: a nearest piece could have no other
    changed = paste(grey, "scar", np.random.default_rng(0))
    rows, columns = np.nonzero(changed != grey)
    assert np.ptp(rows) <= 32 and np.ptp(columns) <= 32  # 25 x 16 pixels, turned


def test_lights_bring_a_picture_to_the_sets_grey_values():
    pixels = np.repeat(grey_picture()[..., None], 3, axis=2)
    bright = LIGHTS["brightness"](pixels, 100.0, 20.0)
    assert bright.mean() == pytest.approx(100, abs=0.5)
    assert bright.std() == pytest.approx(pixels.std() * 100 / pixels.mean(), rel=0.01)
    even = LIGHTS["contrast"](pixels, 100.0, 20.0)
    assert even.mean() == pytest.approx(100, abs=0.5) and even.std() == pytest.approx(20, abs=0.5)


def test_position_is_appended_row_before_column():
    found = with_position(np.zeros((2, 3, 5, 4), np.int8), 40)
    assert found.dtype == np.int8 and found.shape == (2, 3, 5, 6)
    assert found[1, 2, 1, 4:].tolist() == [40, 10]
    assert with_position(found, 0) is found


def cells(n: int, n_defective: int) -> pd.DataFrame:
    """List cells, the last ones defective, then two pasted into cells 0 and 3."""
    label = [0] * (n - n_defective) + [1] * n_defective
    kinds = [{"cell": cell, "label": kind} for cell in (0, 3) for kind in KINDS]
    rows = [{"cell": i, "label": own} for i, own in enumerate(label)] + kinds
    return pd.DataFrame(rows).assign(run=4)


def test_scores_are_those_of_a_bank_without_the_part(monkeypatch):
    about = cells(12, 2)
    rng = np.random.default_rng(0)
    features = rng.integers(0, 100, size=(len(about), 4, 4, 6)).astype(np.uint8)
    monkeypatch.setattr(module, "features_under", lambda _setting, _cells: features)
    tried = {
        "default": Setting(ratio=0.05, k=2),
        "more": Setting(ratio=0.2, k=3, judge="relative"),
        "top": Setting(ratio=0.2, k=1, judge="top"),
    }
    part = (about["cell"] % 3).to_numpy()
    table = score_settings(tried, about, {"known": part}, seed=7)
    assert len(table) == 3 * len(about)
    for name, ratio, k in (("default", 0.05, 2), ("more", 0.2, 3)):
        for fold in range(3):
            kept = features[((about["label"] == 0) & (part != fold)).to_numpy()].reshape(-1, 6)
            bank = kept[textbook_coreset(kept, round(ratio * len(kept)), seed=7)]
            queries = features[part == fold].reshape(-1, 6)
            squares = np.sort(pairwise_distances(queries, bank, metric="sqeuclidean"))[:, :k]
            patches = squares.mean(axis=1).reshape(-1, 16)
            want = patches.max(axis=1)
            if name == "more":
                want = want / np.median(patches, axis=1)
            own = table[(table["setting"] == name) & (table["fold"] == fold)]
            assert own["image"].tolist() == about["cell"][part == fold].tolist()
            assert own["score"].to_numpy() == pytest.approx(want)


def test_the_choice_is_scored_by_five_banks_as_the_pipeline_does(monkeypatch):
    about, rng = cells(24, 4), np.random.default_rng(1)
    about = about[about["label"].isin([0, 1])].assign(run=0)
    features = rng.integers(0, 100, (len(about), 8, 8, 6)).astype(np.uint8)
    monkeypatch.setattr(module, "features_under", lambda *_: features)
    part = (about["cell"] % 3).to_numpy()
    table = score_by_protocol({"default": Setting()}, about, {"known": part}, seed=3)
    for fold in range(3):
        kept = features[((about["label"] == 0) & (part != fold)).to_numpy()]
        scores = []
        for train, _ in KFold(5, shuffle=True, random_state=3).split(kept):
            bank = kept[train].reshape(-1, 6)
            bank = bank[textbook_coreset(bank, round(0.01 * len(bank)), seed=3)]
            queries = features[part == fold].reshape(-1, 6)
            squares = np.sort(pairwise_distances(queries, bank, metric="sqeuclidean"))[:, :5]
            scores.append(squares.mean(axis=1).reshape(-1, 64).max(axis=1))
        own = table[table["fold"] == fold]
        assert own["image"].tolist() == about["cell"][part == fold].tolist()
        assert own["score"].to_numpy() == pytest.approx(np.max(scores, axis=0))
    with pytest.raises(ValueError, match="judge: only settings of the features"):
        score_by_protocol({"judge": Setting(judge="top")}, about, {"known": part}, seed=3)


def test_settings_of_the_study_differ_and_begin_with_the_default():
    section = yaml.safe_load((FOLDER / "params.yaml").read_text(encoding="utf-8"))["settings"]
    tried = {name: Setting(**own) for name, own in section["tried"].items()}
    assert len(set(tried.values())) == len(tried) >= 20
    assert next(iter(tried.items())) == ("default", Setting())


def test_cost_counts_the_search_and_the_network():
    base, more = cost(Setting(), 100), cost(Setting(ratio=0.02), 100)
    search = 5 * 784 * (0.01 * 100 * 784) * 152  # banks, patches, bank patches, dimension
    assert more - base == pytest.approx(search)
    first = 112 * 112 * 32 * 27  # 3 x 3 of 3 colours to 32 channels, stride 2
    assert base - search > first


def test_pasted_cells_keep_the_place_of_their_source(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CACHE", tmp_path)
    path = tmp_path / "cell.png"
    Picture.fromarray(grey_picture()).save(path)
    rows = [{"cell": i, "path": str(path), "label": int(i > 7), "place": i / 10} for i in range(10)]
    found = pasted_cells(pd.DataFrame(rows), every=4, seed=0)
    assert found["cell"].tolist() == [0, 0, 0, 4, 4, 4]
    assert found["label"].tolist() == list(KINDS) * 2
    assert found["place"].tolist() == [0.0] * 3 + [0.4] * 3
    first, other = (np.asarray(Picture.open(p)) for p in found["path"].iloc[[0, 3]])
    assert not np.array_equal(first, other)  # each cell has a draw of its own


def synthetic_scores(quality: np.ndarray, *, honest: bool, seed: int = 0) -> Scores:
    """Draw scores of settings whose defects stand out by their quality; pasted ones if honest."""
    rng, n = np.random.default_rng(seed), len(quality)
    normal = rng.normal(loc=10, size=(1, 80)) + 0.3 * rng.normal(size=(n, 80))
    base = rng.normal(loc=10, size=(1, 60)) + 0.3 * rng.normal(size=(n, 60))
    source = np.arange(0, 80, 4)
    lift = quality if honest else rng.permutation(quality)
    pasted = np.stack([normal[:, source] + lift[:, None] for _ in KINDS])
    names = [str(number) for number in range(n)]
    return Scores(names, normal, rng.random((n, 80)), base + quality[:, None], pasted, source)


def test_criteria_find_what_they_are_made_for():
    quality = np.linspace(0.2, 3, 24)
    found = agreement(synthetic_scores(quality, honest=True), seed=0, repeats=50)
    found = found.set_index("criterion")
    assert found.loc["synthetic", "spearman"] > 0.9 and found.loc["synthetic", "low"] > 0.8
    assert found.loc["synthetic", "chosen"] == "23" and found.loc["synthetic", "gain_low"] > 0.2
    useless = agreement(synthetic_scores(quality, honest=False), seed=0, repeats=50)
    useless = useless.set_index("criterion").loc["synthetic"]
    assert useless["low"] < 0 < useless["high"]


def test_criteria_do_not_look_at_labels():
    scores = synthetic_scores(np.linspace(0.2, 3, 5), honest=True)
    other = Scores(**{**vars(scores), "defective": scores.defective + 5})
    same = {name for name, own in criteria(scores).items() if (own == criteria(other)[name]).all()}
    assert same == {"spread", "coverage", "separation", "synthetic", *KINDS}


def test_a_drawn_cell_brings_its_synthetic_anomalies():
    scores = synthetic_scores(np.ones(3), honest=True)
    drawn = scores.draw(np.random.default_rng(0))
    for kind in range(len(KINDS)):
        assert np.allclose(drawn.pasted[kind], drawn.normal[:, drawn.source] + 1)
    assert drawn.normal.shape == scores.normal.shape


def test_a_table_is_laid_out_setting_by_setting():
    rng = np.random.default_rng(0)
    about = cells(12, 2)
    parts = [
        about.rename(columns={"cell": "image"}).assign(setting=name, score=rng.normal(size=18))
        for name in ("default", "a b")
    ]
    table = pd.concat(parts).assign(level=0.0).sample(frac=1, random_state=1)
    found = Scores.of(table)
    assert found.settings == ["default", "a b"]
    want = [roc_auc_score(own["label"][:12].astype(int), own["score"][:12]) for own in parts]
    assert by_labels(found) == pytest.approx(want)
    assert found.source.tolist() == [0, 3]
    first = parts[1][(parts[1]["label"] == KINDS[1]) & (parts[1]["image"] == 3)]["score"].item()
    assert found.pasted[1, 1, 1] == first


def test_a_gain_is_paired_and_averaged_over_runs():
    rng, rows = np.random.default_rng(0), []
    for run in (1, 3):
        label = np.repeat([0, 1], [40, 30])
        common = rng.normal(size=70)
        for setting, lift in (("default", 1.0), ("better", 1.6)):
            for seed in (0, 1):
                own = common + lift * label + 0.01 * rng.normal(size=70)
                fields = {"run": run, "set": "known", "setting": setting, "seed": seed}
                rows.append(
                    pd.DataFrame({"image": range(70), "label": label, "score": own, **fields})
                )
    table = pd.concat(rows)
    row = gain(table, "better", seed=0).iloc[0]
    by_run = [
        roc_auc_score(own["label"], own["score"])
        for _, own in table[table["setting"] == "better"].groupby(["run", "seed"])
    ]
    assert row["better"] == pytest.approx(np.mean(by_run))
    assert 0 < row["gain_low"] < row["gain"] < row["gain_high"]
    # Paired: the gain is surer than either AUROC.
    assert row["gain_high"] - row["gain_low"] < row["high"] - row["low"]


def test_every_figure_of_the_page_is_the_committed_runs():
    notebook = json.loads((FOLDER / "14_settings.ipynb").read_text(encoding="utf-8"))
    cells = notebook["cells"]
    page = " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    read = {
        n: pd.read_csv(ROOT / "metrics" / f"{n}.csv") for n in ("settings", "settings_criteria")
    }
    table = read["settings"].set_index("setting")
    by = read["settings_criteria"].set_index(["set", "criterion"])
    choice = pd.read_csv(ROOT / "metrics" / "settings_choice.csv").set_index(["cells", "set"])
    assert len(table) == 25 and set(choice["setting"]) == {"brightness"}
    affordable = table[table["cost"] <= 2]
    assert affordable[[KNOWN, UNSEEN]].mean(axis=1).idxmax() == "brightness"
    said = []
    for split in (KNOWN, UNSEEN):
        row = by.loc[split, "synthetic"]
        said.append(f"{row['spearman']:.2f} ({row['low']:.2f} to {row['high']:.2f})")
        assert by.loc[split]["spearman"].idxmax() == "synthetic"
        assert row["gain"] < 0 and f"{table.loc[row['chosen'], 'cost']:.1f} times" in page
        poly = choice.loc["polycrystalline", split]
        said.append(f"from {poly['default']:.3f} to {poly['chosen']:.3f}")
        said.append(f"+{poly['gain']:.3f}, {poly['gain_low']:.3f} to {poly['gain_high']:.3f}")
    said += [f"{table.loc['relative', split]:.3f}" for split in (KNOWN, UNSEEN)]
    default = table.loc["default"]
    said.append(f"{default['normal ones unseen']:.3f}, not {default[UNSEEN]:.3f}")
    assert [text for text in said if text not in page] == []
    mono = choice.loc["monocrystalline (chosen here)"]
    assert (mono["gain_low"] < 0).all() and (mono["gain_high"] > 0).all()
    for split, before in ((KNOWN, ""), (UNSEEN, "unseen ")):
        row = mono.loc[split]
        said = f"{before}{row['gain']:.3f}, {row['gain_low']:.3f} to {row['gain_high']:.3f}"
        assert said in page
    bright = table.loc["brightness"]
    drops = [row[UNSEEN] - row["normal ones unseen"] for row in (bright, default)]
    assert "the difference is {:.3f}, not {:.3f}".format(*drops) in page
    assert (by["low"] < 0).all() and (by["high"] > 0).all() and len(by) == 16
    assert ((by["gain_low"] > 0).sum(), (by["gain_high"] < 0).sum()) == (1, 3)
