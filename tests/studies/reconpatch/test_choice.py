"""The choice on cases where the answer is known, and its statistics against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from studies.reconpatch.choice import (
    Candidate,
    candidate_rows,
    candidates_of,
    choose,
    choose_whitening,
    fewest_dimensions,
    resampled_qualities,
    synthetic_losses,
)

KINDS = ("cut_paste", "texture", "lead_cut")


def candidate(method: str, gap: float, n_components: int = 8, seed: int = 0) -> Candidate:
    generator = np.random.default_rng(seed)
    normal = generator.normal(0, 1, (3, 40))
    pasted = generator.normal(gap, 1, (3, 40, 3))
    return Candidate(method, n_components, KINDS, normal, pasted)


def pooled_auroc(own: Candidate, columns: list[int]) -> float:
    """AUROC by scikit-learn, the mean over draws."""
    labels = np.repeat([0, 1], [40, 40 * len(columns)])
    return np.mean(
        [
            roc_auc_score(labels, np.concatenate([n, s[:, columns].ravel()]))
            for n, s in zip(own.normal, own.synthetic, strict=True)
        ]
    )


def test_quality_is_the_auroc_of_the_kinds_that_decide():
    own = candidate("PCA", 1.0)
    assert own.quality == pytest.approx(pooled_auroc(own, [0, 1]))
    by_kind = own.by_kind()
    assert list(by_kind) == ["cut_paste", "texture", "lead_cut (shown only)"]
    for column, value in enumerate(by_kind.values()):
        assert value == pytest.approx(pooled_auroc(own, [column]))


def test_the_related_kind_has_no_say():
    one, other = candidate("pooling", 1.0), candidate("PCA", 1.0)
    other.synthetic[..., 2] += 100.0  # perfect on the kind that imitates a test defect
    chosen, rows = choose([one, other], seed=0)
    assert chosen is one
    assert rows[0]["synthetic_auroc"] == rows[1]["synthetic_auroc"]
    assert rows[1]["lead_cut (shown only)"] == 1.0


def test_resampling_is_a_bootstrap_over_images_with_their_anomalies():
    several = [candidate("pooling", 0.5), candidate("PCA", 1.5, seed=1)]
    drawn = resampled_qualities(several, seed=0)
    wins, generator, slow = [one.wins() for one in several], np.random.default_rng(5), []
    for _ in range(300):
        images, draws = generator.integers(0, 40, 40), generator.integers(0, 3, 3)
        slow.append([np.mean([won[d][np.ix_(images, images)] for d in draws]) for won in wins])
    for own, reference, each in zip(drawn, np.transpose(slow), several, strict=True):
        assert own.mean() == pytest.approx(each.quality, abs=0.01)
        assert own.std() == pytest.approx(reference.std(), rel=0.15)


def test_the_clear_winner_is_chosen():
    chosen, rows = choose([candidate("pooling", 0.2), candidate("PCA, whitened", 3.0)], seed=0)
    assert chosen.method == "PCA, whitened"
    assert [row["chosen"] for row in rows] == [False, True]
    assert rows[0]["difference"] > rows[0]["standard_error"] > 0


def test_equals_give_way_to_the_simplest_and_smallest():
    several = [
        candidate("ReConPatch, short", 1.0),
        candidate("PCA", 1.0, 8),
        candidate("PCA", 1.0, 4),
    ]
    chosen, _ = choose(several, seed=0)
    assert (chosen.method, chosen.n_components) == ("PCA", 4)


def test_the_start_is_the_least_whitened_of_equals_and_the_winner_where_one_is_clear():
    plain, half, full = (candidate(m, 1.0) for m in ("PCA", "PCA, half whitened", "PCA, whitened"))
    assert choose_whitening([full, half, plain, candidate("pooling", 9.0)], seed=0) == 0.0
    clear = candidate("PCA, half whitened", 3.0)
    assert choose_whitening([plain, clear, full], seed=0) == 0.5
    with pytest.raises(ValueError, match="none of the candidates"):
        choose_whitening([candidate("pooling", 1.0)], seed=0)


def test_candidates_come_back_from_their_rows():
    several = [candidate("PCA", 1.0, 4), candidate("pooling", 2.0, 2)]
    header = ["method", "dimensions", "draw", "image", "normal", *KINDS]
    rows = [
        dict(zip(header, map(str, row), strict=True))
        for one in several
        for row in candidate_rows(one, range(40))
    ]
    for one, back in zip(several, candidates_of(rows), strict=True):
        assert (back.method, back.n_components, back.kinds) == (one.method, one.n_components, KINDS)
        np.testing.assert_array_equal(back.normal, one.normal)
        np.testing.assert_array_equal(back.synthetic, one.synthetic)
    assert candidates_of([]) == []


def test_losses_are_paired_and_their_bounds_one_sided():
    full, small = candidate("pooling", 3.0, 8), candidate("pooling", 1.0, 2)
    found = synthetic_losses([full, small], full, level=0.95, seed=0)
    loss, most = found["pooling", 2]
    assert loss == pytest.approx(full.quality - small.quality)
    assert loss < most < 1
    drawn = resampled_qualities([full, small], seed=0)
    assert most == pytest.approx(np.quantile(drawn[0] - drawn[1], 0.95), abs=1e-12)
    # The reference loses nothing against itself, and 40 images alone do not prove it.
    assert found["pooling", 8][0] == 0
    assert 0.02 < found["pooling", 8][1] < 0.1


def test_the_fewest_dimensions_end_before_the_first_that_fails():
    losses = {
        ("PCA", 64): (0.0, 0.01),
        ("PCA", 32): (0.0, 0.01),
        ("PCA", 16): (0.0, 0.03),
        ("PCA", 8): (0.0, 0.01),  # not reached: a sequence of tests stops at 16
        ("pooling", 64): (0.0, 0.5),
    }
    assert fewest_dimensions(losses, "PCA", 0.02) == 32
    assert fewest_dimensions(losses, "PCA", 0.03) == 8
    assert fewest_dimensions(losses, "pooling", 0.02) is None
