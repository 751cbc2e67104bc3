"""The order in which the system lists folders changes nothing in what the pipeline gives."""

import glob
import os
import random
from pathlib import Path

import numpy as np
import pytest
from ad.threshold import aggregate_folds, fold_indices, fold_threshold
from small_data import write_competition, write_mvtec

from ad.backbone import load_backbone
from ad.coreset import k_center_greedy, project
from ad.dataset import of_split, scan, submission_order
from ad.determinism import listing_is_sorted
from ad.features import PatchSettings, extract_features
from ad.files import load_array
from ad.memory_bank import score_images


class ShuffledScan:
    """An ``os.scandir`` result in another order."""

    def __init__(self, entries: list) -> None:
        self.entries = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""


def shuffle_listings(monkeypatch: pytest.MonkeyPatch, seed: int) -> list[int]:
    """Shuffle whatever lists a folder; return a list whose length counts the listings."""
    generator, count = random.Random(seed), []

    def shuffled(values) -> list:
        values = sorted(values, key=str)
        generator.shuffle(values)
        count.append(len(values))
        return values

    def wrap(function):
        return lambda *args, **kwargs: shuffled(function(*args, **kwargs))

    def scandir(*args, _original=os.scandir):
        with _original(*args) as entries:
            return ShuffledScan(shuffled(entries))

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", wrap(os.listdir))
    monkeypatch.setattr(glob, "glob", wrap(glob.glob))
    for name in ("iterdir", "glob", "rglob"):
        original = getattr(Path, name)
        monkeypatch.setattr(
            Path,
            name,
            lambda self, *args, _original=original: iter(shuffled(_original(self, *args))),
        )
    return count


def run(data: Path, output: Path) -> dict[str, object]:
    """Carry out the pipeline from a folder of images to the rows of the submission."""
    records = scan(data)
    train, test = of_split(records, "train"), of_split(records, "test")
    extract_features(
        load_backbone("resnet10t", weights="random", layers=["layer1", "layer2"], seed=0),
        [data / r.path for r in records],
        output,
        PatchSettings(3, None, None),
        image_size=32,
        image_resize=None,
        batch_size=4,
        memory_gb=4.0,
        threads=1,
    )
    features = np.array(load_array(output))
    patches = features[: len(train)].reshape(-1, features.shape[-1])
    rows = np.arange(len(patches)).reshape(len(train), -1)
    projected = project(patches, 16, seed=0, threads=1)
    coresets, thresholds, scores = [], [], []
    for kept, held_out in fold_indices(len(train), 2, shuffle=False, seed=0):
        own = rows[kept].ravel()
        picked = own[k_center_greedy(projected[own], len(own) // 5, seed=0, progress=False)]
        found = score_images(
            features, patches[picked], num_neighbors=3, squared=True, reweight=False
        ).images
        coresets.append(picked)
        thresholds.append(fold_threshold(found[held_out], "max"))
        scores.append(found[len(train) :])
    final = aggregate_folds(np.stack(scores), "max")
    flags = dict(zip([r.id for r in test], final > np.mean(thresholds), strict=True))
    return {
        "records": records,
        "features": features,
        "coresets": np.concatenate(coresets),
        "thresholds": np.array(thresholds),
        "scores": final,
        "submission": [(name, bool(flags[name])) for name in submission_order(data, records)],
    }


@pytest.mark.parametrize("write", [write_mvtec, write_competition])
def test_a_shuffled_listing_changes_nothing(tmp_path, write):
    data = tmp_path / "data"
    write(data, n_train=6, size=32)
    expected = run(data, tmp_path / "one.npy")
    for seed in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            listings = shuffle_listings(patch, seed)
            found = run(data, tmp_path / f"{seed}.npy")
        assert len(listings) > 0, "the shuffle was never reached"
        for key, value in expected.items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(found[key], value), key
            else:
                assert found[key] == value, key


def test_the_shuffle_is_seen_by_code_that_does_not_sort(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02d}.png").touch()
    with pytest.MonkeyPatch.context() as patch:
        shuffle_listings(patch, 1)
        assert not listing_is_sorted(tmp_path)
        names = [entry.name for entry in os.scandir(tmp_path)]
        assert names != sorted(names)
        assert os.listdir(tmp_path) != sorted(os.listdir(tmp_path))  # noqa: PTH208 - it is tested
        paths = list(tmp_path.rglob("*"))
        assert paths != sorted(paths)
