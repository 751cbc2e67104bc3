"""Interventions on a tiny set: the control is the pipeline, and each change does what it says."""

import numpy as np
import pytest
import torch
from gap_case import make_case
from safetensors.torch import save_file
from sklearn.metrics import precision_recall_curve
from small_data import write_competition, write_mvtec

from ad.images import InputRule, network_input
from ad.metrics import f1_score, image_auroc
from studies.gap import (
    decoding_factors,
    loaders,
    number_factors,
    order_factors,
    threshold_factors,
    weight_factors,
)
from studies.gap import interventions as iv
from studies.gap.case import LATER, Case, cross_validated, run_elsewhere


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


def by_name(rows) -> dict[str, iv.Row]:
    return {row.factor: row for row in rows}


def test_the_plain_loop_gives_the_pipeline_s_features(control):
    case = control.case
    found = loaders.run_network(case.network(), case)
    assert np.allclose(found, control.features, rtol=1e-4, atol=1e-5)
    backwards = np.arange(len(control.features))[::-1]
    again = loaders.run_network(case.network(), case, batch_size=3, rows=backwards)
    assert np.allclose(again, control.features[::-1], rtol=1e-4, atol=1e-5)


def test_rows_by_position_keep_the_number_of_flags(control):
    rows = by_name(order_factors.row_factors(control, draws=50))
    for name, row in rows.items():
        assert row.how == iv.REENACTED
        if "doubled" not in name and "threshold" not in name:
            assert row.n_flagged == int(control.outcome.flags.sum()), name
    assert rows["rows by position: natural order, numbers padded"].flags_changed == 0
    assert any(row.flags_changed for row in rows.values())


def test_ids_split_at_the_wrong_sign_find_nothing(control):
    (row,) = order_factors.id_factors(control)
    assert (row.n_flagged, row.f1) == (0, 0.0)
    assert "0 of 8 ids are found" in row.note


def test_training_order_moves_scores_by_its_folds_only(control):
    rows = by_name(order_factors.training_order_factors(control))
    assert rows["training images listed by hash"].kind == iv.NUMERICAL
    assert rows["banks and held-out images from two listings"].kind == iv.MISTAKE


def test_workers_deliver_the_order_asked_for(control, monkeypatch):
    for row in order_factors.worker_factors(control):
        assert row.how == iv.REENACTED
        assert row.flags_changed == 0
        assert "in the order asked for" in row.note

    def refused(*_arguments, **_options):
        raise ValueError("no fork here")

    monkeypatch.setattr(order_factors, "DataLoader", refused)
    rows = list(order_factors.worker_factors(control))
    assert {row.how for row in rows} == {iv.ARGUED}
    assert "no fork here" in rows[0].note


def test_no_change_changes_nothing(control):
    again = iv.detect(control.features, control.n_train, control.case)
    assert (again.scores == control.outcome.scores).all()
    row = control.row("x", again)
    assert row.flags_changed == 0
    assert row.f1 == f1_score(control.labels, control.outcome.flags)
    assert row.image_auroc == pytest.approx(image_auroc(control.labels, again.scores))


def test_threshold_mistakes_by_hand(control):
    rows = by_name(threshold_factors.threshold_factors(control))
    lowest = np.mean([own.min() for own in control.outcome.folds.held_out])
    row = rows["threshold of best F1 on normal-only data (the minimum)"]
    assert row.n_flagged == int((control.outcome.scores > lowest).sum())
    flipped = rows["labels flipped"]
    assert flipped.n_flagged == len(control.labels) - int(control.outcome.flags.sum())
    assert flipped.flags_changed == len(control.labels)
    scaled = threshold_factors.scaled(np.array([3.0, 5.0, 4.0]))
    assert scaled.tolist() == [0, 1, 0.5]
    assert threshold_factors.scaled(np.ones(3)).tolist() == [0, 0, 0]


def test_the_threshold_of_best_f1_against_scikit_learn_and_on_normals_alone():
    generator = np.random.default_rng(5)
    labels, scores = generator.integers(0, 2, 40), generator.standard_normal(40)
    precision, recall, candidates = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    found = threshold_factors.best_f1_threshold(labels, scores)
    assert found == candidates[np.argmax(f1[:-1])]
    assert threshold_factors.best_f1_threshold(np.zeros(40), scores) == scores.min()


@pytest.mark.parametrize("bits", [7, 10])
def test_rounding_is_to_the_nearest_with_halves_to_even(bits):
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = number_factors.round_mantissa(values, bits)
    assert np.abs(found / values - 1).max() <= 2.0 ** -(bits + 1)
    if bits == 7:
        expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
        assert (found == expected).all()


def test_decoders_change_what_they_name(control):
    path, rule = control.case.paths()[0], InputRule(32, None)
    plain = network_input(path, rule)
    for name, (loader, _) in loaders.DECODERS.items():
        found = loader(path, rule)
        assert found.shape == plain.shape, name
        assert found.dtype == np.float32, name
    # At the image's own size resizing does nothing.
    assert np.allclose(loaders.load_opencv(path, rule), plain)
    assert np.allclose(loaders.load_tensor(path, rule), plain, atol=1e-5)
    pixels = loaders.load_unscaled(path, rule)
    swapped = rule.normalised((pixels[::-1] * 255).round().transpose(1, 2, 0))
    assert np.allclose(loaders.load_bgr(path, rule), swapped, atol=1e-6)


def test_pictures_without_the_device_repeat_their_left_quarter(control):
    path, rule = control.case.paths()[0], InputRule(32, None)
    found = decoding_factors.load_without_device(path, rule)
    plain = network_input(path, rule)
    assert np.array_equal(found[:, :, 24:], plain[:, :, :8])
    row = decoding_factors.without_device(control)
    assert "of 4 such images are flagged" in row.note


def test_forgotten_eval_uses_the_batch_s_statistics(control):
    network, case = control.case.network(), control.case
    network.model.train()
    one = loaders.run_network(network, case, batch_size=2)
    two = loaders.run_network(network, case, batch_size=7)
    assert not np.allclose(one, two, rtol=1e-3)
    assert len(list(weight_factors.mode_factors(control))) == 3


def test_partly_loaded_weights_keep_the_early_layers(tmp_path, control):
    other = control.case.model_copy(update={"seed": 7}).network()
    save_file(dict(other.model.state_dict()), tmp_path / "w.safetensors")
    settings = control.case.backbone.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    case = control.case.model_copy(update={"backbone": settings})
    partly = weight_factors.partly_loaded(case).model.state_dict()
    full, start = other.model.state_dict(), control.case.network().model.state_dict()
    assert torch.equal(partly["layer1.0.conv1.weight"], full["layer1.0.conv1.weight"])
    assert torch.equal(partly["layer2.0.conv1.weight"], start["layer2.0.conv1.weight"])
    assert not torch.equal(partly["layer2.0.conv1.weight"], full["layer2.0.conv1.weight"])


def test_other_pretrained_weights_are_run_or_said_not_to_be(control, monkeypatch):
    names = ["resnet18.a1_in1k", "resnet18.tv_in1k"]
    assert weight_factors.other_weights("resnet18.a2_in1k") == names
    plain = Case.network

    def offline(self, **changes):
        if changes.get("weights") == "hub":
            raise ConnectionError("no network")
        return plain(self, **changes)

    monkeypatch.setattr(Case, "network", offline)
    rows = list(weight_factors.weight_factors(control))  # the control's own weights are random
    (row,) = [row for row in rows if row.how == iv.NOT_RUN]
    assert "cannot be reached" in row.note
    assert row.n_flagged is None
    asked = []

    def reached(self, **changes):
        asked.append(changes.get("name"))
        return plain(self.model_copy(update={"seed": 1}))

    monkeypatch.setattr(Case, "network", reached)
    rows = by_name(weight_factors.weight_factors(control))
    assert rows["weights resnet10t.c3_in1k of the hub"].how == iv.RUN
    assert "resnet10t.c3_in1k" in asked


def test_another_process_gives_the_same_run(control):
    found = run_elsewhere(control.case, {})
    outcome = iv.decide(cross_validated(found))
    assert (outcome.flags == control.outcome.flags).all()
    note = number_factors.features_note(control, found["feature_sums"])
    assert note == "features' sums are the control's"
    moved = [total * (1 + 1e-3) for total in found["feature_sums"]]
    assert "1e-03 relative" in number_factors.features_note(control, moved)
    record = {**found, "case": control.case.digest()}
    (row,) = number_factors.version_factors(control, [record, {**record, "case": "another"}])
    assert row.how == iv.RUN
    assert row.flags_changed == 0
    assert f"torch {torch.__version__.partition('+')[0]}" in row.factor


def test_a_record_of_other_libraries_counts_for_its_own_case_only(control):
    case, digest = control.case, control.case.digest()
    runtime = case.runtime.model_copy(update={"threads": 2, "memory_gb": 1.0})
    assert case.model_copy(update={"runtime": runtime}).digest() == digest
    image = case.image.model_copy(update={"size": 64})
    assert case.model_copy(update={"image": image}).digest() != digest
    (row,) = number_factors.version_factors(control, [{"case": "another"}])
    assert row.how == iv.NOT_RUN
    assert "studies.gap.other_versions" in row.note


def test_settings_that_came_later_leave_the_committed_record_its_case():
    """A new setting of these sections belongs into LATER, with the value that changes nothing."""
    recorded = {
        "image": "size resize mean std interpolation",
        "backbone": "name weights layers arithmetic batch_size",
        "patch": "size pretrain_dim target_dim",
        "coreset": "ratio projection_dim",
        "score": "num_neighbors squared reweight index",
    }
    for section, names in recorded.items():
        fields = Case.model_fields[section].annotation.model_fields
        assert set(fields) - set(LATER.get(section, ())) == set(names.split()), section


def test_without_labels_only_flags_are_counted(unlabelled):
    rows = [
        *order_factors.row_factors(unlabelled, draws=10),
        *threshold_factors.threshold_factors(unlabelled),
        *number_factors.seed_factors(unlabelled, repeats=2),
        decoding_factors.without_device(unlabelled),
    ]
    assert all(row.f1 is None and row.image_auroc is None and row.hits is None for row in rows)
    assert all(row.flags_changed is not None for row in rows)
    assert "flags changed" in rows[0].note


def test_machines_in_whole_numbers_are_held_against_the_run_in_whole_numbers(control, monkeypatch):
    def again(own):
        outcome = iv.detect(own.case.features(), own.n_train, own.case)
        yield own.row("again", outcome, note=number_factors.scores_note(own, outcome))

    monkeypatch.setattr(number_factors, "machine_factors", again)
    whole, machine, missing = number_factors.whole_number_factors(control, [])
    assert whole.factor == number_factors.WHOLE and machine.factor == "whole numbers: again"
    assert machine.note == number_factors.SAME_BITS and machine.flags_changed == 0
    assert missing.how == iv.NOT_RUN
    other = control.outcome.scores + np.array([1.0, *[0.0] * (len(control.outcome.scores) - 1)])
    moved = iv.Outcome(control.outcome.folds, other, control.outcome.threshold)
    assert number_factors.scores_note(control, moved).startswith("1 of ")
