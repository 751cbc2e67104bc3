"""The embedded set's renderer: layout, counts, seeds, masks. Small pictures keep it fast."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from embedded import contact_sheet, render_dataset
from embedded.renderer.defects import DEFECTS, N_VARIANTS, defect_mask
from embedded.renderer.geometry import View, round_corners
from embedded.renderer.picture import render, trace_layers
from embedded.renderer.scene import rotation_matrix, sample_scene

SMALL = {"size": 96, "supersample": 2}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(render_dataset, "SIZE", SMALL["size"])
    monkeypatch.setattr(render_dataset, "SUPERSAMPLE", SMALL["supersample"])


def item(folder, index):
    return next(i for i in render_dataset.plan() if (i.folder, i.index) == (folder, index))


def test_plan_has_the_counts_of_the_category():
    counts = Counter(i.folder for i in render_dataset.plan())
    assert counts.pop("train/good") == 213
    assert counts.pop("test/good") == 60
    assert counts == {f"test/{kind}": 10 for kind in DEFECTS}


def test_no_two_pictures_share_a_seed():
    keys = [(i.split, i.index) for i in render_dataset.plan()]
    assert len(set(keys)) == len(keys)


def test_same_seed_same_bytes_in_any_order(small, tmp_path):
    chosen = [item("test/good", 3), item("test/cut_lead", 1)]
    for one in chosen:
        render_dataset.make(one, tmp_path / "a", 5)
    for one in reversed(chosen):
        render_dataset.make(one, tmp_path / "b", 5)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*g"))
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_seed_draws_another_picture(small):
    one = item("train/good", 0)
    assert not np.array_equal(
        render_dataset.draw(one, seed=0)[0], render_dataset.draw(one, seed=1)[0]
    )


def test_every_processor_draws_the_same_pixels(small):
    """The digest was taken once; other vector units and BLAS kernels must give it too."""
    digest = hashlib.sha256()
    for kind in DEFECTS:
        picture, mask = render_dataset.draw(item(f"test/{kind}", 8), seed=5)
        digest.update(picture.tobytes() + mask.tobytes())
    assert digest.hexdigest() == "2bfee77f865dff04a21cb93faa36e30756513b75dd14ce9bffde14c721711db2"


def test_defects_fall_in_severity():
    """From the plainest to the subtlest of each form, the mask's area shrinks."""
    areas = {}
    for kind in ("cut_lead", "damaged_case"):
        for variant in range(9):
            rng = np.random.default_rng(3)
            scene = sample_scene(rng)
            changed = DEFECTS[kind](scene, variant, rng)
            layers = tuple(trace_layers(s, size=96, supersample=3) for s in (scene, changed))
            mask = defect_mask(kind, (scene, changed), layers, 96)
            areas.setdefault((kind, variant % 3), []).append(np.count_nonzero(mask))
    for form, sizes in areas.items():
        assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1], (form, sizes)


def test_contact_sheet_shows_every_class(small, tmp_path):
    root = tmp_path / "set"
    for kind in DEFECTS:
        render_dataset.make(item(f"test/{kind}", 1), root, 0)
    render_dataset.make(item("test/good", 0), root, 0)
    contact_sheet.main([str(root), str(tmp_path / "sheet.png")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (10 * contact_sheet.STEP, 9 * contact_sheet.STEP)


def test_written_files_are_rgb_and_binary_masks(small, tmp_path):
    render_dataset.make(item("test/misplaced", 0), tmp_path, 0)
    with Image.open(tmp_path / "test/misplaced/000.jpg") as picture:
        assert (picture.mode, picture.size) == ("RGB", (96, 96))
    with Image.open(tmp_path / "ground_truth/misplaced/000_mask.png") as mask:
        assert mask.size == (96, 96)
        assert set(np.unique(mask.convert("L"))) == {0, 255}
    assert not sorted(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_every_variant_has_a_mask(kind):
    for variant in range(N_VARIANTS):
        rng = np.random.default_rng([0, variant])
        scene = sample_scene(rng)
        changed = DEFECTS[kind](scene, variant, rng)
        layers = tuple(trace_layers(s, size=96, supersample=2) for s in (scene, changed))
        mask = defect_mask(kind, (scene, changed), layers, 96)
        assert mask.shape == (96, 96) and mask.dtype == np.uint8
        assert np.count_nonzero(mask) >= 3, (kind, variant)


def test_outside_shadow_reach_an_absent_part_changes_nothing():
    rng = np.random.default_rng(0)
    scene = sample_scene(rng)
    gone = DEFECTS["misplaced"](scene, 0, rng)
    before, layers = render(scene, **SMALL)
    after, _ = render(gone, **SMALL)
    part = layers.part.reshape(96, 2, 96, 2).any((1, 3))
    difference = np.abs(before.astype(int) - after).max(2)
    assert difference[part].mean() > 20
    assert difference[-4:, :4].max() <= 8  # a far corner: only veiling glare


def test_unknown_defect_is_an_error():
    scene = sample_scene(np.random.default_rng(0))
    layers = trace_layers(scene, size=48, supersample=1)
    with pytest.raises(ValueError, match="melted"):
        defect_mask("melted", (scene, scene), (layers, layers), 48)


def test_projection_inverts_the_camera_rays():
    view = View(sample_scene(np.random.default_rng(7)).camera, 100)
    rows, cols = np.array([3.0, 50.0, 97.0]), np.array([90.0, 10.0, 44.0])
    rays = view.directions(rows, cols).astype(np.float64)
    points = view.origin + rays * (0.7 - view.origin[2]) / rays[:, 2:]
    np.testing.assert_allclose(view.project(points), np.stack([cols, rows], 1), atol=1e-2)


def test_rotation_is_orthogonal_and_turns_x_to_y():
    turn = rotation_matrix(about_x=0.3, about_y=-0.2, about_z=1.1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(
        rotation_matrix(about_z=np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )


def test_rounded_corners_keep_both_ends():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    path = round_corners(points)
    np.testing.assert_array_equal(path[[0, -1]], points[[0, -1]])
    assert np.linalg.norm(path - points[1], axis=1).min() > 0.05


def test_a_folder_with_files_is_refused(tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(SystemExit):
        render_dataset.main([str(tmp_path)])
    assert "not an empty folder" in capsys.readouterr().err
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["kept.txt"]
