"""The order in which the system lists folders changes nothing in what the pipeline gives."""

import glob
import os
import random
from pathlib import Path

import numpy as np
import pytest
from small_data import extractor, write_competition, write_mvtec

from ad.data import of_split, submission_order
from ad.extraction import extract_features
from ad.files import load_array
from ad.params import Coreset, CrossValidation, Patch, Runtime, Score
from ad.protocol import run_protocol
from ad.scan import scan


def shuffle_listings(monkeypatch: pytest.MonkeyPatch, seed: int) -> list[int]:
    """Shuffle what lists a folder, and so globs and walks; count the listings in a list."""
    generator, count = random.Random(seed), []
    scandir, listdir = os.scandir, os.listdir

    def shuffled(values) -> list:
        values = sorted(values, key=str)
        generator.shuffle(values)
        count.append(len(values))
        return values

    class Shuffled:
        """What ``os.scandir`` gives, in another order."""

        def __init__(self, *path) -> None:
            with scandir(*path) as entries:
                self.entries = iter(shuffled(entries))

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.entries)

        __enter__, __exit__ = __iter__, lambda *_: None

    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(os, "listdir", lambda *path: shuffled(listdir(*path)))
    for name in ("glob", "rglob"):  # newer Pythons' own hold the scandir of their import
        own = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda *args, own=own: iter(shuffled(own(*args))))
    return count


def run(data: Path, output: Path) -> dict[str, object]:
    """Carry out the pipeline from a folder of images to the rows of the submission."""
    records = scan(data)
    train, test = of_split(records, "train"), of_split(records, "test")
    paths = [data / r.path for r in records]
    tiny = extractor(paths[: len(train)], Patch(patch_size=3), size=32)
    extract_features(tiny, paths, output, Runtime(memory_gb=4.0))
    features = np.array(load_array(output))
    found = run_protocol(
        features[: len(train)],
        features[len(train) :],
        coreset=Coreset(ratio=0.2, projection_dim=16),
        score=Score(num_neighbors=3),
        cv=CrossValidation(folds=2, shuffle=False),
    )
    by_id = dict(zip([r.id for r in test], found.flags.tolist(), strict=True))
    return {
        "records": records,
        "features": features,
        "banks": np.concatenate(found.banks),
        "held_out": np.concatenate(found.held_out),
        "scores": found.scores,
        "submission": [(name, by_id[name]) for name in submission_order(data, records)],
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
        with os.scandir(tmp_path) as entries:
            names = [entry.name for entry in entries]
        walked = [files for _, _, files in os.walk(tmp_path)]
        listings = [names, os.listdir(tmp_path), glob.glob(f"{tmp_path}/*")]  # noqa: PTH207, PTH208
        listings += [list(tmp_path.iterdir()), list(tmp_path.rglob("*")), *walked]
        for found in listings:
            assert found != sorted(found)
