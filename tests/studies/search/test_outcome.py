"""What the search found, beside independent figures; the words follow from them."""

from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score

from studies.search import figures, findings
from studies.search import outcome as study
from studies.search.judge import Scored, kind_aurocs
from studies.search.space import Choice, Space
from studies.search.trials import Tried
from studies.shared.synthetic_anomalies import DECIDING, KINDS

DEFAULT = Choice(224, "a+b", 3, 0.01, 5, False)
SPACE = Space(DEFAULT, (160, 224), ("a", "b", "a+b"), (1, 3), (0.002, 0.05), (1, 9))
LABELS = np.repeat([0, 1], [60, 40])
REAL = {"data": {"synthetic": False}}


def test_synthetic_aurocs_are_sklearns():
    generator = np.random.default_rng(0)
    normal, kinds = generator.normal(size=20), {"x": generator.normal(1, 1, 20), "y": np.ones(5)}
    found = kind_aurocs(normal, kinds)
    for kind, own in kinds.items():
        labels = [0] * len(normal) + [1] * len(own)
        assert found[kind] == pytest.approx(roc_auc_score(labels, [*normal, *own]))


def test_differences_to_the_best_are_those_of_sklearns_aurocs():
    generator = np.random.default_rng(0)
    normal = generator.integers(0, 8, (3, 12)).astype(float)  # ties
    synthetic = normal[:, None] + generator.integers(-1, 5, (3, 2, 12))
    expected = [
        np.mean([roc_auc_score(np.repeat([0, 1], 12), np.append(own, kind)) for kind in kinds])
        for own, kinds in zip(normal, synthetic, strict=True)
    ]
    behind, doubt = study.differences_to_best(normal, synthetic, seed=0)
    np.testing.assert_allclose(behind, np.max(expected) - expected, atol=1e-12)
    assert doubt[np.argmin(behind)] == 0
    assert (np.delete(doubt, np.argmin(behind)) > 0).all()


def test_the_standard_error_is_that_of_repeated_samples():
    generator = np.random.default_rng(1)
    samples = []
    for _ in range(300):
        normal = generator.standard_normal((2, 40))
        synthetic = normal[:, None] + np.array([2.0, 1.0])[:, None, None]
        samples.append((normal, synthetic))
    found = [study.differences_to_best(*sample, seed=0, repeats=100) for sample in samples[:40]]
    # Trial 0 is the better one nearly always; its lead over trial 1 varies from sample to sample.
    leads = [study.differences_to_best(*sample, seed=0, repeats=2)[0][1] for sample in samples]
    assert np.mean([doubt[1] for _, doubt in found]) == pytest.approx(np.std(leads), rel=0.3)


def test_trials_that_score_alike_cannot_be_told_apart():
    normal = np.tile(np.arange(6.0), (2, 1))
    behind, doubt = study.differences_to_best(normal, normal[:, None] + 2.0, seed=0)
    np.testing.assert_array_equal(behind, 0)
    np.testing.assert_array_equal(doubt, 0)


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the bootstrap short."""
    monkeypatch.setattr(study, "REPEATS", 60)


def outcome(shifts: np.ndarray, *, seen: np.ndarray | None = None, bad: int = 0) -> study.Outcome:
    """Make a search of which trial k separates the test images by ``shifts[k]``.

    ``seen`` is the separation of the synthetic anomalies, the same by default; the first ``bad``
    trials behind the default have patch size 1.
    """
    generator = np.random.default_rng(0)
    common, held = generator.standard_normal(100), generator.standard_normal(40)
    tried, scored = [], []
    for k, (shift, apart) in enumerate(zip(shifts, shifts if seen is None else seen, strict=True)):
        choice = replace(DEFAULT, ratio=0.002 + 0.001 * k, patch_size=1 if 0 < k <= bad else 3)
        own = Scored(held, dict.fromkeys(KINDS, held + apart), common + shift * LABELS)
        kinds = kind_aurocs(own.normal, own.pasted)
        tried.append(Tried(choice, float(np.mean(list(kinds.values()))), kinds))
        scored.append(own)
    return study.look_back(
        tried, lambda c: scored[[t.choice for t in tried].index(c)], LABELS, seed=0
    )


def test_trials_are_rated_as_by_others():
    found = outcome(np.linspace(0.5, 2, 12))
    assert (found.chosen, found.oracle) == (11, 11)
    for number in (0, 5):
        own = found.scored[number]
        assert found.aurocs[number] == pytest.approx(roc_auc_score(LABELS, own.test))
        assert found.f1s[number] == pytest.approx(f1_score(LABELS, own.test > own.normal.max()))
    gain, low, high = found.difference(0, 11)
    assert gain == pytest.approx(found.aurocs[11] - found.aurocs[0])
    assert 0 < low < gain < high


def test_correlations_are_scipys_over_the_trials_asked_for():
    generator = np.random.default_rng(3)
    found = outcome(generator.uniform(0, 2, 20), seen=generator.uniform(0, 2, 20))
    half = found.values >= np.median(found.values)
    for among, result in (
        (np.ones(20, bool), found.whole),
        (half, found.half),
    ):
        expected = spearmanr(found.values[among], found.aurocs[among]).statistic
        assert result.value == pytest.approx(expected)
        assert (result.n, result.low <= result.value <= result.high) == (among.sum(), True)


def test_a_bad_half_of_one_value_is_found_and_named():
    generator = np.random.default_rng(4)
    shifts = np.concatenate([[1.5], np.full(9, 0.1), 1.5 + generator.uniform(-0.3, 0.3, 14)])
    seen = np.concatenate([[1.5], np.full(9, 0.1), 1.5 + generator.uniform(-0.3, 0.3, 14)])
    shifts[1:10] += np.linspace(0, 0.05, 9)
    found = outcome(shifts, seen=seen, bad=9)
    setting, value, rest = found.carrier
    assert (setting, value, rest.n) == ("patch_size", 1, 15)
    without = np.array([each.choice.patch_size != 1 for each in found.tried])
    expected = spearmanr(found.values[without], found.aurocs[without]).statistic
    assert rest.value == pytest.approx(expected)
    text = findings.findings(found, REAL)
    assert "much of it is patch_size 1 against the rest, and without the 9 trials of" in text
    assert text.index("in the better half") < text.index("Over all 24 trials")
    assert "no better than chance might" in text


def test_a_correlation_that_no_value_carries_is_said_to_be_so():
    found = outcome(np.linspace(0.3, 2, 24), bad=4)
    text = findings.findings(found, REAL)
    assert "no single setting's value carries it" in text
    assert "rank the trials as the test images do" in text
    assert "better beyond the test set's doubt" in text and "picks the same trial" in text


def test_a_choice_that_is_worse_on_the_test_is_said_to_be_worse():
    shifts = np.linspace(2, 0.2, 16)
    text = findings.findings(outcome(shifts, seen=shifts[::-1]), {"data": {"synthetic": True}})
    assert "worse beyond the test set's doubt" in text
    assert "against the test images" in text
    assert "All images are synthetic" in text and "the luckiest of 16" in text


@pytest.mark.parametrize("labels", [None, np.zeros(100, dtype=int)])
def test_without_labels_of_both_classes_nothing_is_rated(labels):
    found = replace(outcome(np.linspace(0.5, 2, 12)), labels=labels)
    assert not found.rated and list(found.marks()) == ["default", "chosen without labels"]
    assert "nobody can tell" in findings.findings(found, REAL)
    assert not any("test" in key for key in findings.summary(found))
    header, rows = findings.csv_table(found)
    assert rows[3][header.index("test_auroc")] is None
    assert "oracle" not in findings.configurations_table(found)
    findings.kinds_table(found)


def test_files_hold_every_trial_and_kind():
    found = outcome(np.linspace(0.5, 2, 12))
    header, rows = findings.csv_table(found)
    assert len(rows) == 12 and {len(row) for row in rows} == {len(header)}
    assert set(KINDS) <= set(header)
    assert rows[4][header.index("test_auroc")] == found.aurocs[4]
    summary = findings.summary(found)
    assert summary["chosen"] == asdict(found.tried[11].choice)
    half = summary["rank_correlation"]["better_half"]
    assert half == asdict(found.half)
    for kind in KINDS:
        decides = "yes" if kind in DECIDING else "no"
        assert f"| {kind} | {decides} |" in findings.kinds_table(found)


def test_figures_show_every_trial():
    found = outcome(np.linspace(0.5, 2, 12))
    fig, axes = plt.subplots(2, 6)
    figures.progress(axes[0, 0], found)
    figures.seen_and_unseen(axes[0, 1], found)
    figures.by_setting(axes[1], found, found.aurocs, SPACE)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), found.values)
    np.testing.assert_array_equal(axes[1, 3].lines[0].get_ydata(), found.aurocs)
    plt.close(fig)
