"""Interventions on a tiny set: the control is the pipeline, and each change does what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_curve
from small_data import write_competition, write_mvtec

from ad.backbone import load_backbone
from ad.dataset import write_manifest
from ad.memory_bank import score_images
from ad.metrics import f1_score, image_auroc
from studies.gap import factors, listings, loaders
from studies.gap import interventions as iv
from studies.gap import ranking as factor_ranking
from studies.gap.forensics import Reading, Reported
from tools.scan import scan

MODELS = [Reported("m", "0.4", "0.44")]


def make_case(root, data) -> iv.Case:
    write_manifest(root / "manifest.csv", scan(data))
    return iv.Case(
        manifest=str(root / "manifest.csv"),
        data=str(data),
        backbone="resnet10t",
        weights="random",
        layers=("layer1", "layer2"),
        image_size=32,
        image_resize=None,
        patch_size=3,
        pretrain_dim=None,
        target_dim=None,
        num_neighbors=3,
        squared=True,
        folds=2,
        coreset_ratio=0.2,
        projection_dim=16,
        seed=0,
        threads=1,
        memory_gb=4.0,
    )


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    root = tmp_path_factory.mktemp("case")
    write_mvtec(root / "data", n_train=6, n_normal=4, n_anomalous=4, size=32)
    return iv.run_control(make_case(root, root / "data"))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    root = tmp_path_factory.mktemp("unlabelled")
    write_competition(root / "data", n_train=6, n_test=6, size=32)
    return iv.run_control(make_case(root, root / "data"))


def test_pruned_scores_are_the_library_s(control):
    bank = control.features[:3].reshape(-1, control.features.shape[-1])
    expected = score_images(
        control.features, bank, num_neighbors=3, squared=True, reweight=False, threads=1
    ).images
    found = iv.largest_patch_scores(control.features, bank, control.case)
    assert np.allclose(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("shift", [0.0, 30.0])  # far from the origin float32 cancels
def test_pruning_agrees_with_brute_force_in_float64(squared, shift):
    generator = np.random.default_rng(3)
    features = (shift + generator.standard_normal((70, 5, 6, 9))).astype(np.float32)
    features[::7] *= 1.1
    bank = (shift + generator.standard_normal((70, 9))).astype(np.float32)
    case = iv.Case("", "", "", "", (), 32, None, 3, None, None, 4, squared, 2, 0.1, None, 0, 1)
    far = np.square(features[:, :, :, None].astype(float) - bank.astype(float)).sum(-1)
    nearest = np.sort(far if squared else np.sqrt(far), axis=-1)[..., :4]
    expected = nearest.mean(-1).reshape(70, -1).max(1)
    assert np.allclose(iv.largest_patch_scores(features, bank, case), expected, rtol=1e-5)


def test_the_plain_loop_gives_the_pipeline_s_features(control):
    case = control.case
    found = loaders.run_network(case.network(), case)
    assert np.allclose(found, control.features, rtol=1e-4, atol=1e-5)
    backwards = np.arange(len(control.features))[::-1]
    again = loaders.run_network(case.network(), case, batch_size=3, order=backwards)
    assert np.allclose(again, control.features, rtol=1e-4, atol=1e-5)


def test_orders_hold_every_image_once_and_are_what_they_say(control):
    for split, count in (("train", 6), ("test", 8)):
        for name, order in factors.listing_orders(control.case, split).items():
            assert sorted(order) == list(range(count)), name
    assert listings.natural_order(["a10", "a9", "a2"]) == ["a2", "a9", "a10"]
    assert listings.unpadded_order(["a002", "a010", "a001"]) == ["a001", "a010", "a002"]
    assert listings.hash_order(["a", "b", "c"]) == listings.hash_order(["c", "a", "b"])


def test_a_wrong_join_is_the_join_that_it_says(control):
    rows = {row.factor: row for row in factors.order_factors(control)}
    reversed_row = rows["test rows by position, reversed listing"]
    assert reversed_row.f1 == f1_score(control.labels, control.outcome.flags[::-1])
    expected = image_auroc(control.labels, control.outcome.scores[::-1])
    assert reversed_row.image_auroc == pytest.approx(expected)
    assert reversed_row.n_flagged == int(control.outcome.flags.sum())
    assert reversed_row.how == "re-enacted"
    assert "sorted one here" in rows["test rows by position, natural listing"].note
    raw = [name for name in rows if "raw" in name]
    assert any(name.startswith("test rows by position, raw") for name in raw)
    assert any(name.startswith("training images and test rows, raw") for name in raw)


def test_no_change_changes_nothing(control):
    again = iv.detect(control.features, control.n_train, control.case)
    assert (again.scores == control.outcome.scores).all()
    assert control.row("x", "y", again).flags_changed == 0


def test_threshold_mistakes_by_hand(control):
    rows = {row.factor: row for row in factors.threshold_factors(control)}
    lowest = np.mean([own.min() for own in control.outcome.held_out])
    row = rows["threshold of best F1 on normal-only data (the minimum)"]
    assert row.n_flagged == int((control.outcome.scores > lowest).sum())
    flipped = rows["labels flipped"]
    assert flipped.n_flagged == len(control.labels) - int(control.outcome.flags.sum())
    assert flipped.flags_changed == len(control.labels)


def test_the_threshold_of_best_f1_against_scikit_learn_and_on_normals_alone():
    generator = np.random.default_rng(5)
    labels, scores = generator.integers(0, 2, 40), generator.standard_normal(40)
    precision, recall, candidates = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert factors.best_f1_threshold(labels, scores) == candidates[np.argmax(f1[:-1])]
    assert factors.best_f1_threshold(np.zeros(40), scores) == scores.min()


@pytest.mark.parametrize("bits", [7, 10])
def test_rounding_is_to_the_nearest_with_halves_to_even(bits):
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = factors.round_mantissa(values, bits)
    assert np.abs(found / values - 1).max() <= 2.0 ** -(bits + 1)
    if bits == 7:
        expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
        assert (found == expected).all()


def test_decoders_change_what_they_name(control):
    path, case = control.case.paths()[0], control.case
    plain = loaders.load_plain(path, case)
    for name, (loader, _) in loaders.DECODERS.items():
        found = loader(path, case)
        assert found.shape == plain.shape, name
        assert found.dtype == np.float32, name
    # At the image's own size resizing does nothing.
    assert np.allclose(loaders.load_opencv(path, case), plain)
    assert np.allclose(loaders.load_tensor(path, case), plain, atol=1e-5)
    pixels = loaders.load_unscaled(path, case)
    swapped = loaders._normalised((pixels[::-1] * 255).round().transpose(1, 2, 0))
    assert np.allclose(loaders.load_bgr(path, case), swapped, atol=1e-6)


def test_forgotten_eval_uses_the_batch_s_statistics(control):
    rows = {row.factor: row for row in factors.mode_factors(control)}
    assert rows["batch size 1"].flags_changed == 0
    case = control.case
    network = case.network()
    network.model.train()
    one = loaders.run_network(network, case, batch_size=2)
    two = loaders.run_network(network, case, batch_size=7)
    assert not np.allclose(one, two, rtol=1e-3)


def test_partly_loaded_weights_keep_the_early_layers(tmp_path, control):
    from safetensors.torch import save_file

    other = replace(control.case, seed=7).network()
    save_file(dict(other.model.state_dict()), tmp_path / "w.safetensors")
    case = replace(control.case, weights=str(tmp_path / "w.safetensors"))
    partly = factors.partly_loaded(case).model.state_dict()
    full, start = other.model.state_dict(), control.case.network().model.state_dict()
    assert torch.equal(partly["layer1.0.conv1.weight"], full["layer1.0.conv1.weight"])
    assert torch.equal(partly["layer2.0.conv1.weight"], start["layer2.0.conv1.weight"])
    assert not torch.equal(partly["layer2.0.conv1.weight"], full["layer2.0.conv1.weight"])


def test_other_pretrained_weights_are_run_or_said_not_to_be(control, monkeypatch):
    assert factors.other_weights("resnet18.a2_in1k") == ["resnet18.a1_in1k", "resnet18.tv_in1k"]

    def offline(*_arguments, **_options):
        raise ConnectionError("no network")

    monkeypatch.setattr(iv, "load_backbone", offline)
    (row,) = factors.weight_factors(control)  # the control's own weights are random
    assert row.how == iv.NOT_RUN
    assert "cannot be reached" in row.note
    assert row.n_flagged is None
    monkeypatch.undo()
    asked = []

    def reached(name, *, weights, layers, seed):
        asked.append((name, weights))
        return load_backbone(name, weights="random", layers=layers, seed=seed + 1)

    monkeypatch.setattr(iv, "load_backbone", reached)
    (row,) = factors.weight_factors(control)
    assert row.how == iv.RUN
    assert ("resnet10t.c3_in1k", "hub") in asked


def test_another_process_gives_the_same_run(control):
    found = iv.run_elsewhere(control.case, {})
    assert (iv.outcome_of(found).flags == control.outcome.flags).all()
    assert (
        factors.features_note(control, found["feature_sums"]) == "features' sums are the control's"
    )
    moved = [total * (1 + 1e-3) for total in found["feature_sums"]]
    assert "1e-03 relative" in factors.features_note(control, moved)
    record = {**found, "case": iv.case_digest(control.case)}
    (row,) = factors.version_factors(control, [record, {**record, "case": "another"}])
    assert row.how == iv.RUN
    assert row.flags_changed == 0
    assert f"torch {torch.__version__.partition('+')[0]}" in row.factor


def test_a_record_of_other_libraries_counts_for_its_own_case_only(control):
    digest = iv.case_digest(control.case)
    assert iv.case_digest(replace(control.case, threads=2, memory_gb=1.0)) == digest
    assert iv.case_digest(replace(control.case, image_size=64)) != digest
    (row,) = factors.version_factors(control, [])
    assert row.how == iv.NOT_RUN
    assert "studies.gap.other_versions" in row.note


def test_without_labels_only_flags_are_counted(unlabelled):
    rows = [
        unlabelled.row("control", "control", unlabelled.outcome),
        *factors.order_factors(unlabelled),
        *factors.threshold_factors(unlabelled),
        *factors.seed_factors(unlabelled, repeats=2),
        *factors.search_factors(unlabelled),
        *factors.version_factors(unlabelled, []),
    ]
    assert all(row.f1 is None and row.image_auroc is None for row in rows)
    log10 = factor_ranking.weigh(rows, unlabelled.labels, MODELS, Reading(), working=0.9)
    assert log10 == [None] * len(rows)
    found = factor_ranking.summary(rows, {"x": 0.4}, log10)
    assert found["control_f1"] is None
    assert found["n_factors"] == len(rows) - 2
    assert found["not_run"] == ["older libraries"]
    assert found["reach_all"] == found["likely"] == []


def test_summary_follows_the_reported_values(control):
    rows = [control.row("control", "control", control.outcome), *factors.order_factors(control)]
    log10 = factor_ranking.weigh(rows, control.labels, MODELS, Reading(), working=0.9)
    target = rows[1]
    found = factor_ranking.summary(rows, {"x": target.f1}, log10)
    assert target.factor in found["reach_all"]
    assert target.factor in factor_ranking.summary(rows, {"x": 2.0}, log10)["reach_none"]


def test_the_factor_that_makes_the_printed_values_weighs_most(control):
    """Flags planted to be right in half of the cases, or always, under values of either kind."""
    right = control.row("right", "planted", control.labels == 1)
    half = np.arange(len(control.labels)) % 2 == 0
    guessing = control.row("guessing", "planted", half)
    assert (right.hits, guessing.hits) == (4, 2)
    for printed, winner in (("1", right), ("0.95", right), ("0.45", guessing)):
        models = [Reported("m", printed, printed)]
        rows = [control.row("control", "control", control.outcome), right, guessing]
        log10 = factor_ranking.weigh(rows, control.labels, models, Reading(), working=0.9)
        found = factor_ranking.summary(rows, {"m": float(printed)}, log10)
        assert found["ranked"][0] == winner.factor, printed


def test_random_row_orders_have_the_mean_worked_by_hand():
    labels = np.arange(100) < 40
    flags = np.arange(100) < 30
    found = factors.permuted_f1(labels, flags, repeats=4000, seed=0)
    # 30 flags hit 40 % anomalous images: 12 on average; F1 = 2 * 12 / (30 + 40).
    assert found.mean() == pytest.approx(24 / 70, abs=0.005)


def test_a_listing_elsewhere_holds_the_same_names(tmp_path):
    paths = [f"test/{kind}/{number:03d}.png" for kind in ("a", "b") for number in range(9)]
    assert sorted(listings.listing_elsewhere(tmp_path, paths)) == sorted(paths)
    assert list(tmp_path.iterdir()) == []
