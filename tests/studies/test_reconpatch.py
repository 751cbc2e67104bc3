"""ReConPatch's labels and loss against the paper's equations, written out in float64 loops."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.decomposition import PCA

from ad.evaluation import image_auroc
from studies.reconpatch import compare
from studies.reconpatch.compare import Features, image_scores, paste_piece, reduction
from studies.reconpatch.learner import (
    Training,
    contextual_similarity,
    covariance_of,
    pairwise_similarity,
    participation_ratio,
    pca_matrix,
    relaxed_contrastive_loss,
    squared_distances,
    train,
)

METRICS = Path(__file__).parents[2] / "metrics"
FOLDER = METRICS.parent / "studies" / "reconpatch"
MENDED = "sigma 0.2 of the batch"


def points(n, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim))


def distance(a, b):
    return float(np.sqrt(sum((a - b) ** 2)))


def neighbours(z, i, k):
    """N_k(i): all that are no farther from i than its k-th nearest, itself counted."""
    to_all = [distance(z[i], other) for other in z]
    return {j for j, d in enumerate(to_all) if d <= sorted(to_all)[k - 1]}


def contextual_by_hand(z, k):
    n = len(z)
    near = [neighbours(z, i, k) for i in range(n)]
    half = [neighbours(z, i, k // 2) for i in range(n)]
    tilde = np.zeros((n, n))
    for i in range(n):
        for j in near[i]:
            tilde[i, j] = len(near[i] & near[j]) / len(near[i])
    hat = np.zeros((n, n))
    for i in range(n):
        reciprocal = [p for p in half[i] if i in half[p]]
        for j in range(n):
            hat[i, j] = sum(tilde[p, j] for p in reciprocal) / len(reciprocal)
    return (hat + hat.T) / 2


def loss_by_hand(z, w, margin):
    n, total = len(z), 0.0
    for i in range(n):
        mean = sum(distance(z[i], z[p]) for p in range(n)) / n
        for j in range(n):
            relative = distance(z[i], z[j]) / mean
            total += w[i, j] * relative**2 + (1 - w[i, j]) * max(margin - relative, 0) ** 2
    return total / n


@pytest.mark.parametrize("k", [2, 3, 6, 11])
def test_contextual_similarity_is_the_papers(k):
    z = np.round(2 * points(24, 3))  # whole, so that ties are ties: neighbourhoods larger than k
    found = contextual_similarity(squared_distances(torch.from_numpy(z)), k).numpy()
    np.testing.assert_allclose(found, contextual_by_hand(z, k), atol=1e-12)


def test_context_tells_pairs_of_one_distance_apart():
    """0 and 1 belong to one group, 1 and 2.1 lie hardly farther apart, in two groups."""
    line = torch.tensor([[0.0], [0.5], [1.0], [2.1], [2.6], [3.1]], dtype=torch.float64)
    found = contextual_similarity(squared_distances(line), 3)
    assert found[0, 2] == 1 and found[2, 3] == 0


def test_pairwise_similarity_is_the_papers():
    z = points(9, 4)
    found = pairwise_similarity(squared_distances(torch.from_numpy(z)), 1.7).numpy()
    expected = [[np.exp(-(distance(a, b) ** 2) / 1.7) for b in z] for a in z]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("margin", [0.4, 1.0, 1.6])
def test_loss_is_the_papers(margin):
    z, w = points(12, 5), np.random.default_rng(1).random((12, 12))
    found = relaxed_contrastive_loss(torch.from_numpy(z), torch.from_numpy(w), margin)
    assert float(found) == pytest.approx(loss_by_hand(z, w, margin), rel=1e-6)


def test_gradient_is_that_of_the_loss_and_finite_where_patches_coincide():
    z, w = points(6, 3), np.random.default_rng(1).random((6, 6))
    tensor = torch.from_numpy(z).requires_grad_()
    relaxed_contrastive_loss(tensor, torch.from_numpy(w), 1.0).backward()
    step = 1e-6 * (np.arange(18) == 11).reshape(6, 3)
    slope = (loss_by_hand(z + step, w, 1.0) - loss_by_hand(z - step, w, 1.0)) / 2e-6
    assert float(tensor.grad[3, 2]) == pytest.approx(slope, abs=1e-5)
    same = torch.from_numpy(z[[0, 0, 1]]).requires_grad_()
    relaxed_contrastive_loss(same, torch.ones(3, 3, dtype=torch.float64), 1.0).backward()
    assert torch.isfinite(same.grad).all()


def test_loss_does_not_hold_the_scale_so_sigma_must():
    """The reason of the failure: ten times z, the same loss, and other pairwise labels."""
    z = torch.from_numpy(points(10, 4))
    w = torch.full((10, 10), 0.3, dtype=torch.float64)
    once, more = (float(relaxed_contrastive_loss(s * z, w, 1.0)) for s in (1, 10))
    assert once == pytest.approx(more, rel=1e-6)
    near, far = (pairwise_similarity(squared_distances(s * z), 8.0).mean() for s in (1, 10))
    assert near > 2 * far


def test_pca_is_scikit_learns_and_whitening_gives_unit_variance():
    x = points(400, 6) @ points(6, 6, seed=1)
    x -= x.mean(axis=0)
    for whitened in (False, True):
        found = squared_distances(torch.from_numpy(x @ pca_matrix(x, 3, whitened=whitened)))
        expected = PCA(3, whiten=whitened).fit_transform(x)
        expected = squared_distances(torch.from_numpy(expected))
        np.testing.assert_allclose(found, expected, rtol=0.01)  # n or n - 1, and float32


def test_participation_ratio_counts_directions():
    turn = np.linalg.qr(points(3, 3))[0]
    for variances, expected in (([2, 2, 2], 3), ([5, 0, 0], 1), ([4, 1, 1], 2)):
        found = participation_ratio(turn @ np.diag(variances) @ turn.T)
        assert found == pytest.approx(expected)


def drawn(n_images=20, n_patches=36, dim=12):
    """Patches that differ ten times as much in the first direction as in the last."""
    scales = np.linspace(3, 0.3, dim, dtype=np.float32)
    found = np.random.default_rng(3).standard_normal((n_images, n_patches, dim)) * scales
    return (found - found.mean(axis=(0, 1))).astype(np.float32)


FEW = {"steps": 120, "learning_rate": 0.01, "batch_patches": 64, "sigma_of": "batch", "sigma": 0.2}


def test_training_lowers_the_loss_and_spreads_the_patches():
    matrix, course = train(features := drawn(), 5, Training(**FEW), seed=0)
    first, last = course.iloc[0], course.iloc[-1]
    assert last["loss"] < 0.8 * first["loss"] and last["participation"] > first["participation"]
    mapped = features.reshape(-1, 12) @ matrix
    assert last["participation"] == pytest.approx(participation_ratio(covariance_of(mapped)), 0.05)
    again, _ = train(features, 5, Training(**FEW), seed=0)
    np.testing.assert_array_equal(matrix, again)


def test_labels_come_from_the_average_alone():
    """A momentum of 1 leaves the average at the start, so that labels of one batch never change."""
    features = drawn(1)
    fixed = FEW | {"whole_images": True, "momentum": 1.0, "sigma_of": "start"}
    _, course = train(features, 5, Training(**fixed), seed=0)
    np.testing.assert_allclose(course["pairwise"], course["pairwise"][0], rtol=1e-5)
    _, course = train(features, 5, Training(**fixed | {"momentum": 0.5}), seed=0)
    assert abs(course["pairwise"].iloc[-1] / course["pairwise"][0] - 1) > 0.01


@pytest.mark.parametrize(("start", "whitened"), [("pca", False), ("whitened", True)])
def test_starts_are_what_they_say(start, whitened):
    still = FEW | {"steps": 1, "learning_rate": 0.0, "start": start}
    matrix, _ = train(drawn(), 5, Training(**still), seed=0)
    ratio = matrix / pca_matrix(drawn().reshape(-1, 12), 5, whitened=whitened)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)


def made():
    features = drawn().reshape(20, 6, 6, 12)
    queries = drawn().reshape(20, 6, 6, 12)
    queries[10:, 1, 2] += 2.0
    return Features(features, queries, np.arange(20) >= 10)


def test_reductions_are_what_they_say():
    features = made()
    pooled = reduction("pooling", features, 4, Training(), seed=0)
    np.testing.assert_allclose(np.arange(12.0) @ pooled, [1, 4, 7, 10], rtol=1e-6)
    first, other = (reduction("random projection", features, 4, Training(), seed=s) for s in (0, 1))
    assert set(np.abs(first).ravel()) == {0.5} and (first != other).any()
    with pytest.raises(ValueError, match=r"dimensions: 13 must be 1 to the features' 12"):
        reduction("PCA", features, 13, Training(), seed=0)


def test_comparison_gives_each_method_its_own_auroc():
    features = made()
    table = compare.compare(features, [4], Training(**FEW), seeds=2).set_index("method")
    assert (table["low"] <= table["auroc"]).all() and (table["auroc"] <= table["high"]).all()
    full = [image_auroc(features.labels, image_scores(None, features, seed=s)) for s in (0, 1)]
    assert table["auroc"]["all dimensions"] == pytest.approx(np.mean(full))
    assert table["gain"]["ReConPatch"] == table["gain_high"]["ReConPatch"] == 0
    expected = table["auroc"]["ReConPatch"] - table["auroc"]["PCA"]
    assert table["gain"]["PCA"] == pytest.approx(expected)
    rows = compare.diagnose(features, 4, {"one": Training(**FEW)}, seeds=2)
    assert list(rows["seed"]) == [0, 1] and (rows["loss_end"] < rows["loss_start"]).all()
    assert rows["auroc"].mean() == pytest.approx(table["auroc"]["ReConPatch"])


def test_a_pasted_piece_is_the_pictures_own_and_stays_small():
    picture = np.random.default_rng(0).integers(0, 256, (160, 120, 3), dtype=np.uint8)
    changed = (paste_piece(picture) != picture).any(axis=2)
    assert 0 < changed.sum() <= 20**2


def test_second_set_shares_no_cell_with_training_or_with_the_first():
    normals, queries, labels = compare.second_split()
    numbers = [int(path.stem.removeprefix("cell")) - 1 for path in normals + queries]
    assert len(set(numbers)) == len(numbers) == len(normals) + len(labels)
    assert compare.SECOND[0] <= min(numbers) and max(numbers) <= compare.SECOND[1]
    assert (len(normals), int((labels == 0).sum()), int(labels.sum())) == (213, 124, 106)


def test_every_figure_of_the_page_is_the_runs():
    cells = nbformat.read(FOLDER / "11_reconpatch.ipynb", as_version=4).cells
    texts = [cell.source for cell in cells if "committed" in cell.metadata.get("tags", [])]
    runs = pd.read_csv(METRICS / "reconpatch.csv")
    runs = runs.query("set == 'second' and dimensions == 64").set_index(["network", "method"])
    seen = pd.read_csv(METRICS / "reconpatch_diagnosis.csv").set_index("variant")
    gains = runs[["gain", "gain_low", "gain_high"]]
    answer = list(runs["auroc"]["ResNet-18"][["ReConPatch", "pooling"]])
    answer += [*gains.loc["ResNet-18"].loc[["pooling", "random projection", "PCA"]].to_numpy().flat]
    answer += [*gains.loc["EfficientNet-Lite0", "pooling"]]
    old, mended = seen.loc["as before"], seen.loc[MENDED]
    columns = ["loss_start", "loss_end", "participation_start", "participation_end"]
    reading = [*old[columns], *old[["pairwise_start", "contextual_start", "pairwise_end"]]]
    reading += [*mended[columns].iloc[[0, 1, 3]], mended["auroc"], old["auroc"]]
    reading += [*seen.loc[["sigma 1 of the batch", "sigma 0.2 of the start"], "loss_end"]]
    reading += [seen.loc["labels of context alone", "participation_end"]]
    for text, expected in zip(texts, (answer, reading), strict=True):
        rounded = [f"{value:.{1 if abs(value) > 1 else 3}f}" for value in expected]
        assert [each.replace("−", "-") for each in re.findall(r"−?\d+\.\d+", text)] == rounded
    more = seen["auroc"][f"{MENDED}, four times the steps"]
    assert abs(more - mended["auroc"]) < 0.005  # "changed little"
    names = ["batches of a whole image", "k = 50", "learning rate a tenth", "start from PCA"]
    failed = seen.loc[[*names, "no projection", "no average"]]  # "do not mend it"
    assert (failed["participation_end"] < failed["participation_start"]).all()
    assert (failed["auroc"] < mended["auroc"] - 0.02).all()
    how = yaml.safe_load((FOLDER / "params.yaml").read_text(encoding="utf-8"))["reconpatch"]
    assert Training(**how["repaired"]) == Training(**how["old"] | how["diagnosis"][MENDED])
