"""Build one very large bank from shards and score images against it, here or on a cluster.

Usage: python -m studies.scale            from the repository's root, after 'make repro'

Interrupted, it goes on where it stopped: a shard that is there is not extracted again. Shards of
other settings stay in their folder, which may be deleted. Where tasks run is the setting
``cluster`` of studies/scale/params.yaml, or the variable AD_CLUSTER.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from ad.dataset import ImageRecord, of_split, read_manifest
from ad.determinism import set_determinism, sha256_file
from ad.files import load_array, save_array, write_csv, write_json
from ad.metrics import both_classes, f1_score, image_auroc
from ad.params import Params
from ad.protocol import Protocol, fold_indices, fold_threshold
from cluster.tasks import Map, task_map
from studies.scale.cost import announce
from studies.scale.extraction import Picture, extract_shards, network_of
from studies.scale.search import Bank, sampled_recall, score_shards, train_lists
from studies.scale.selection import select
from studies.scale.settings import Settings
from studies.scale.shards import Shards
from studies.scale.two_rounds import select_in_two_rounds
from validation.sections import validate

SHARDS = Path("artifacts/studies/scale/shards")  # kept over runs: each file is named by what it is
RESULT = Path("artifacts/studies/scale/result")
KINDS = ("train", "held_out", "test")


def split(records: list[ImageRecord], params: Params) -> dict[str, list[ImageRecord]]:
    """Split into the training and held-out normals of the first fold, and the test images."""
    normals = of_split(records, "train")
    folds = fold_indices(len(normals), params.cv.folds, shuffle=params.cv.shuffle, seed=params.seed)
    kept, held_out = ([normals[number] for number in part] for part in folds[0])
    return dict(zip(KINDS, (kept, held_out, of_split(records, "test")), strict=True))


def pictures(records: list[ImageRecord], data: str) -> list[Picture]:
    """Give images their paths."""
    return [Picture(f"{data}/{record.path}", record.sha256) for record in records]


def write_bank(shards: Shards, rows: np.ndarray, name: str) -> Bank:
    """Write a bank and the rows that it was taken from."""
    path = RESULT / f"bank_{name}.npy"
    save_array(RESULT / f"rows_{name}.npy", rows)
    save_array(path, shards.take(rows))
    return Bank(path.as_posix(), sha256_file(path))


def figures(labels: Sequence[int | None], scores: np.ndarray, threshold: float) -> dict:
    """Return a method's figures; quality only where labels allow."""
    flags = scores > threshold
    found = {"threshold": threshold, "flagged": int(flags.sum())}
    if None in labels or not both_classes(np.array(labels)):
        return found
    known = np.array(labels)
    return found | {"image_auroc": image_auroc(known, scores), "f1": f1_score(known, flags)}


class Study:
    """All methods on the same shards, with their figures."""

    def __init__(self, run: Map, params: Params, settings: Settings) -> None:
        self.run, self.params, self.settings = run, params, settings
        self.records = split(read_manifest("artifacts/manifest.csv"), params)
        self.found: dict[str, dict] = {}
        self.scores: dict[str, np.ndarray] = {}

    def extract(self) -> None:
        """Extract all shards."""
        data = self.params.data.path
        normals = of_split(read_manifest("artifacts/manifest.csv"), "train")
        network = network_of(self.params, pictures(normals, data))
        images = self.settings.images_per_shard
        self.shards = {
            kind: extract_shards(
                self.run, network, pictures(own, data), SHARDS / kind, images=images
            )
            for kind, own in self.records.items()
        }
        self.size = Protocol(self.params.coreset, self.params.score, self.params.seed).bank_size(
            self.shards["train"].total
        )

    def score(self, name: str, bank: Bank, more: dict[str, object]) -> None:
        """Score held-out and test images; keep the method's figures, and more of it."""
        score = self.params.score
        held_out = score_shards(self.run, self.shards["held_out"], bank, score)
        self.scores[name] = score_shards(self.run, self.shards["test"], bank, score)
        threshold = fold_threshold(held_out, self.params.cv.threshold)
        labels = [record.label for record in self.records["test"]]
        self.found[name] = figures(labels, self.scores[name], threshold) | more

    def exact(self) -> Bank:
        """Select as one machine would, and search exactly."""
        how = {"seed": self.params.seed, "projection_dim": self.params.coreset.projection_dim}
        rows = select(self.run, self.shards["train"], self.size, **how)
        bank = write_bank(self.shards["train"], rows, "exact")
        self.score("exact", bank, {})
        return bank

    def two_rounds(self) -> Bank:
        """Select in two rounds, and search exactly."""
        how = {"seed": self.params.seed, "projection_dim": self.params.coreset.projection_dim}
        oversampling = self.settings.oversampling
        found = select_in_two_rounds(
            self.run, self.shards["train"], self.size, oversampling=oversampling, **how
        )
        bank = write_bank(self.shards["train"], found.rows, "two_rounds")
        self.score("two_rounds", bank, {"two_rounds": found.figures()})
        return bank

    def inverted_file(self, bank: Bank, name: str) -> None:
        """Search the bank of a method by inverted files, and measure their recall."""
        patches, settings = bank.read(), self.settings
        lists = settings.lists_of(len(patches))
        centroids = train_lists(patches, lists)
        path = RESULT / "centroids.npy"
        save_array(path, centroids)
        queries = self.shards["test"].sample(settings.recall_queries)
        k = self.params.score.num_neighbors
        recall = sampled_recall(queries, patches, centroids, k, probes=settings.probes)
        searched = {"centroids": path.as_posix(), "centroids_sha256": sha256_file(path)}
        inverted = replace(bank, **searched, probes=settings.probes)
        more = {"bank": name, "lists": lists, "recall": recall, "recall_queries": len(queries)}
        self.score("inverted_file", inverted, more)

    def write(self) -> None:
        """Write scores and figures."""
        ids = [record.id for record in self.records["test"]]
        columns = [self.scores[name].tolist() for name in self.scores]
        write_csv(RESULT / "scores.csv", ["id", *self.scores], zip(ids, *columns, strict=True))
        sizes = {
            kind: {"images": len(self.records[kind]), "patches": own.total, "shards": len(own)}
            for kind, own in self.shards.items()
        }
        results = {"shards": sizes, "size": self.size, "methods": self.found}
        write_json(RESULT / "results.json", results)


def main(_parameters: object = None) -> None:
    """Extract, select, score; the settings are read from their files."""
    try:
        own = yaml.safe_load(Path("studies/scale/params.yaml").read_text(encoding="utf-8"))
        whole = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        settings, params = validate(own, Settings), validate(whole, Params)
        set_determinism(params.seed, params.runtime.threads)
        with task_map(settings.cluster, memory_gb=settings.worker_gb) as run:
            study = Study(run, params, settings)
            counts = {kind: len(own) for kind, own in study.records.items()}
            shape = load_array("artifacts/features.npy").shape
            print(announce(counts, params, run.workers, shape), flush=True)
            study.extract()
            selections = {"exact": study.exact, "two_rounds": study.two_rounds}
            chosen = [name for name in selections if name in settings.methods] or ["exact"]
            banks = {name: selections[name]() for name in chosen}
            if "inverted_file" in settings.methods:
                study.inverted_file(banks[chosen[0]], chosen[0])
            study.write()
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
