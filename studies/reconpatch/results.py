"""The runs of all dimensions together: read, laid out as tables, written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.dataset import ImageRecord
from ad.files import load_array, read_csv, write_csv, write_json
from pages.report import markdown_table
from studies.reconpatch.choice import Candidate, candidates_of
from studies.reconpatch.maps import load_map, save_map
from studies.reconpatch.methods import METHODS, start_name
from studies.shared.uncertainty import pair_wins, spearman

Key = tuple[str, int]  # method and dimensions


@dataclass(frozen=True)
class Results:
    """All runs of the study.

    Parameters
    ----------
    labels : array of int, shape (n_test,), or None
    scores : dict of array, each (seeds, draws, n_test)
    candidates : list of Candidate
    starts : dict of float
        Whitening of ReConPatch's start, by dimensions.
    moved : dict of float
        How far training took it from there, mean over seeds, by dimensions.
    maps : dict of path
    """

    labels: np.ndarray | None
    scores: dict[Key, np.ndarray]
    candidates: list[Candidate]
    starts: dict[int, float]
    moved: dict[int, float]
    maps: dict[Key, Path]

    @property
    def dimensions(self) -> list[int]:
        """All dimensions, the features' own first."""
        return sorted({n for _, n in self.scores}, reverse=True)

    @property
    def methods(self) -> list[str]:
        """All methods, the simplest first."""
        return [m for m in METHODS if any(m == name for name, _ in self.scores)]

    @property
    def words(self) -> str:
        """Name the figure of merit on the test images."""
        if self.labels is not None:
            return "image AUROC"
        return f"rank correlation with the scores of pooling in {self.dimensions[0]} dimensions"

    def values(self, key: Key) -> np.ndarray:
        """Return the figure of merit of every run, shape (seeds, draws).

        It is AUROC; without labels the agreement with pooling in the most dimensions.
        """
        scores = self.scores[key]
        if self.labels is not None:
            return np.array([[pair_wins(self.labels, s).mean() for s in run] for run in scores])
        full = self.scores["pooling", self.dimensions[0]]
        runs = np.ndindex(*scores.shape[:2])
        agreement = [spearman(scores[run], full[run]) for run in runs]
        return np.reshape(agreement, scores.shape[:2])

    def over_seeds(self, key: Key) -> tuple[float, float]:
        """Return mean and standard deviation of the figure of merit over seeds."""
        seeds = self.values(key).mean(axis=1)
        return float(seeds.mean()), float(seeds.std(ddof=1))

    def candidate(self, key: Key) -> Candidate:
        """Return the candidate of a method and dimensions."""
        return next(c for c in self.candidates if (c.method, c.n_components) == key)


def read_results(folder: Path, dimensions: Sequence[int], labels: np.ndarray | None) -> Results:
    """Read what `studies.reconpatch.runs.Runs.write` left in a folder for each dimension."""
    results = Results(labels, {}, [], {}, {}, {})
    for asked in dimensions:
        own = folder / str(asked)
        if not (own / "runs.csv").exists():
            continue  # another dimension stands for it
        scores = load_array(own / "scores.npy")
        keys = [(r["method"], int(r["dimensions"]), r["seed"]) for r in read_csv(own / "runs.csv")]
        for method, n in dict.fromkeys(key[:2] for key in keys):
            seeds = dict.fromkeys(key for key in keys if key[0] == method)
            rows = [[s for s, k in zip(scores, keys, strict=True) if k == key] for key in seeds]
            results.scores[method, n] = np.array(rows)
            path = own / "maps" / f"{METHODS.index(method)}.safetensors"
            results.maps[method, n] = path
        results.candidates.extend(candidates_of(read_csv(own / "choice.csv")))
        if moved := read_csv(own / "movement.csv"):
            n = int(moved[0]["dimensions"])
            results.starts[n] = float(moved[0]["whitening"])
            results.moved[n] = float(np.mean([float(row["movement"]) for row in moved]))
    return results


def counts(results: Results, asked: Sequence[int]) -> str:
    """Say how many images, seeds, coresets and dimensions there are."""
    seeds, draws, n_test = next(iter(results.scores.values())).shape
    largest = results.dimensions[0]
    capped = " and ".join(str(n) for n in asked if n > largest)
    return (
        f"{n_test} test images, {'without' if results.labels is None else 'with'} labels; {seeds} "
        f"seeds of {draws} coresets; dimensions {', '.join(map(str, results.dimensions))}."
        + (f" The features have {largest}: {capped} of the list is that." if capped else "")
    )


def quality_table(results: Results) -> str:
    """Lay out the figure of merit by method and dimensions."""
    rows = []
    for method in results.methods:
        cells = {
            str(n): "{:.4f} ± {:.4f}".format(*results.over_seeds((method, n)))
            if (method, n) in results.scores
            else None
            for n in results.dimensions
        }
        rows.append({"method": method} | cells)
    return f"{results.words}: mean ± standard deviation over seeds.\n\n{markdown_table(rows)}"


def movement_table(results: Results) -> str:
    """Say what each learnt map started from and how far it went from there."""
    return markdown_table(
        [
            {
                "dimensions": n,
                "start": start_name(results.starts[n]),
                "distance moved": f"{results.moved[n]:.2%}",
            }
            for n in results.dimensions
        ]
    )


def write_results(
    results: Results,
    test: Sequence[ImageRecord],
    choice: tuple[Candidate, Sequence[dict[str, object]]],
    root: Path,
    asked: Sequence[int],
) -> None:
    """Write the study's tables, the chosen map and its metrics."""
    studies, (chosen, ranking) = root / "artifacts" / "studies", choice
    known, full = results.labels is not None, results.scores["pooling", results.dimensions[0]]
    runs, scores = [], []
    for (method, n), by_seed in results.scores.items():
        values = results.values((method, n))
        for run, draw in np.ndindex(*values.shape):
            row, whole = by_seed[run, draw], full[run, draw]
            merit = float(values[run, draw]) if known else None
            runs.append([method, n, run, draw, merit, spearman(row, whole)])
            scores += [
                [method, n, run, draw, record.id, score]
                for record, score in zip(test, row, strict=True)
            ]
    header = ["method", "dimensions", "run", "draw"]
    write_csv(studies / "reconpatch.csv", [*header, "image_auroc", "agreement"], runs)
    write_csv(studies / "reconpatch_scores.csv", [*header, "id", "score"], scores)
    rows = [list(row.values()) for row in ranking]
    write_csv(studies / "reconpatch_choice.csv", list(ranking[0]), rows)
    key = chosen.method, chosen.n_components
    save_map(studies / "chosen_map.safetensors", load_map(results.maps[key]))
    merit, largest = "image_auroc" if known else "agreement", results.dimensions[0]
    table = {
        # A dimension above the features' own has the figures of those.
        method: {
            str(n): dict(zip(("mean", "sd"), results.over_seeds(found), strict=True))
            for n in asked
            if (found := (method, min(n, largest))) in results.scores
        }
        for method in results.methods
    }
    metrics = {"chosen_method": chosen.method, "chosen_dimensions": chosen.n_components}
    metrics |= {f"chosen_{merit}": results.over_seeds(key)[0], merit: table}
    write_json(root / "metrics" / "reconpatch.json", metrics)
