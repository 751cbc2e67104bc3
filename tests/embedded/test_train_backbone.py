"""The training of the embedded backbone: drawn images, schedule, resuming, export."""

import dataclasses
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ad.backbone import Backbone, load_backbone
from ad.files import read_csv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import synthetic_images
from tools.synthetic_images import draw_image
from tools.train_backbone import (
    LAYERS,
    Distillation,
    ImagePool,
    Settings,
    random_view,
    train,
    training_batch,
)

Run = tuple[Path, Distillation]  # output folder, final state
SMALL = Settings(
    steps=8,
    warmup=1,
    learning_rate=0.02,
    side=32,
    batch=6,
    late_side=64,
    late_batch=4,
    pool=8,
    fresh=1,
    held_out=4,
    statistics=8,
)


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    return load_backbone("resnet18", weights="random", layers=LAYERS, seed=5)


@pytest.fixture(scope="module")
def whole_run(teacher: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run_small(teacher, folder, threads=2)


def run_small(
    teacher: Backbone, folder: Path, *, settings: Settings = SMALL, **options
) -> Distillation:
    return train(
        settings,
        teacher,
        work=folder,
        weights=folder / "weights.safetensors",
        log=folder / "log.csv",
        log_every=4,
        quiet=True,
        **options,
    )


def test_drawn_images_depend_on_seed_and_index_alone():
    first = draw_image(3, seed=1, size=64)
    draw_image(4, seed=1, size=64)
    assert np.array_equal(first, draw_image(3, seed=1, size=64))
    assert not np.array_equal(first, draw_image(4, seed=1, size=64))
    assert not np.array_equal(first, draw_image(3, seed=2, size=64))


def test_drawn_images_are_bytes_of_the_right_shape_and_not_blank():
    images = np.stack([draw_image(i, seed=0, size=64) for i in range(40)])
    assert images.shape == (40, 64, 64, 3)
    assert images.dtype == np.uint8
    deviations = images.reshape(40, -1).std(axis=1)
    assert np.median(deviations) > 15
    assert 40 < images.mean() < 200


@pytest.mark.parametrize("field", synthetic_images.FIELDS, ids=lambda f: f.__name__)
def test_fields_stay_within_zero_and_one(field):
    for seed in range(12):
        values = field(np.random.default_rng(seed), 40, 52)
        assert values.shape == (40, 52)
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1


def test_paint_cuts_off_what_lies_outside():
    canvas = np.zeros((4, 4, 3), np.float32)
    mask = np.full((4, 4), 0.5, np.float32)
    synthetic_images.paint(canvas, mask, np.ones(3, np.float32), -2, 3)
    expected = np.zeros((4, 4, 3), np.float32)
    expected[:2, 3:] = 0.5
    assert np.array_equal(canvas, expected)


def test_a_negative_index_is_refused():
    with pytest.raises(ValueError, match="index=-1"):
        draw_image(-1, seed=0)


def test_views_have_the_side_asked_for():
    image = draw_image(0, seed=0, size=64)
    for seed in range(20):
        view = random_view(np.random.default_rng(seed), image, 32)
        assert view.shape == (32, 32, 3)
        assert view.dtype == np.uint8


def test_the_schedule_warms_up_then_falls_to_zero():
    settings = Settings(steps=1000, warmup=10, learning_rate=1.0)
    assert settings.learning_rate_at(0) == pytest.approx(0.1)
    assert settings.learning_rate_at(500) == pytest.approx(0.5)
    assert settings.learning_rate_at(999) == pytest.approx(math.pi**2 / 4e6, rel=1e-3)
    assert settings.side_and_batch_at(699) == (128, 32)
    assert settings.side_and_batch_at(700) == (224, 11)


def test_settings_that_cannot_run_are_refused():
    with pytest.raises(ValueError, match="pool=3"):
        Settings(pool=3)
    with pytest.raises(ValueError, match="precision='half'"):
        Settings(precision="half")


def test_a_batch_is_a_function_of_seed_and_step():
    with ThreadPoolExecutor(2) as workers:
        later, walked = ImagePool(SMALL, 5, workers), ImagePool(SMALL, 0, workers)
    for step in range(5):
        for number in walked.due_after(step):
            walked.draw(number)
    assert np.array_equal(training_batch(later, SMALL, 5), training_batch(walked, SMALL, 5))
    assert not np.array_equal(training_batch(later, SMALL, 5), training_batch(later, SMALL, 6))


def test_a_few_steps_lower_the_loss(whole_run: Run):
    held_out = [float(row["held_out_loss"]) for row in read_csv(whole_run[0] / "log.csv")]
    train_loss = [float(row["train_loss"]) for row in read_csv(whole_run[0] / "log.csv")]
    assert held_out[-1] < 0.9 * held_out[0]
    assert train_loss[-1] < 0.9 * train_loss[0]


def test_resuming_continues_the_same_trajectory_bit_for_bit(
    teacher: Backbone, whole_run: Run, tmp_path: Path
):
    run_small(teacher, tmp_path, stop_at=4)  # another number of threads, too
    run_small(teacher, tmp_path, resume=True)
    expected = load_file(whole_run[0] / "checkpoint.safetensors")
    resumed = load_file(tmp_path / "checkpoint.safetensors")
    assert resumed.keys() == expected.keys()
    assert [k for k in expected if not torch.equal(resumed[k], expected[k])] == []
    assert (tmp_path / "weights.safetensors").read_bytes() == (
        whole_run[0] / "weights.safetensors"
    ).read_bytes()
    for one, other in zip(
        read_csv(tmp_path / "log.csv"), read_csv(whole_run[0] / "log.csv"), strict=True
    ):
        assert one | {"minutes": ""} == other | {"minutes": ""}


def test_resuming_with_other_settings_is_refused(teacher: Backbone, whole_run: Run):
    other = dataclasses.replace(SMALL, weight_decay=0.5)
    with pytest.raises(ValueError, match=r"weight_decay.*0\.02, 0\.5"):
        run_small(teacher, whole_run[0], settings=other, resume=True)


def test_the_export_gives_the_same_maps_to_half_precision(whole_run: Run):
    folder, run = whole_run
    path = folder / "weights.safetensors"
    network = run.averaged_student()
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    reloaded = load_backbone("resnet10t", weights=str(path), layers=LAYERS)
    with torch.no_grad():
        for own, other in zip(network(inputs), reloaded(inputs), strict=True):
            assert float((own - other).abs().max()) < 4e-3 * float(own.abs().max())

    state = load_file(path)
    assert {value.dtype for value in state.values()} == {torch.float16}
    strict = timm.create_model("resnet10t", features_only=True, out_indices=(2, 3))
    strict.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
    assert not any(key.startswith(("layer4", "fc")) for key in state)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["steps"] == "8"
