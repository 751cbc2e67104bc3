"""Changed copies of normal cells in the bank, and whether changed normal cells look normal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ad import plots
from ad.evaluation import image_auroc
from ad.params import CrossValidation, Score
from ad.protocol import BankImages, Result, fold_indices, run_protocol, score_held_out
from studies.common import by_seed, cell_features, estimate, gain, over_seeds

LIGHT = 0.15  # the means of normal cells spread by 11 % (standard deviation)
MEAN, SPREAD = 160.0, 30.0  # of a cell of equal light; near those of normal cells


def flip_left_right(pixels: np.ndarray) -> np.ndarray:
    """Mirror a picture, array of uint8 (h, w, 3), as all changes here take and return it."""
    return np.ascontiguousarray(pixels[:, ::-1])


def flip_up_down(pixels: np.ndarray) -> np.ndarray:
    """Mirror a picture."""
    return np.ascontiguousarray(pixels[::-1])


def quarter_turn(pixels: np.ndarray) -> np.ndarray:
    """Turn a picture by 90 degrees: a cell's busbars then run the other way."""
    return np.ascontiguousarray(np.rot90(pixels))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def darker(pixels: np.ndarray) -> np.ndarray:
    """Take light away, as a shorter exposure does."""
    return _to_bytes(pixels * (1 - LIGHT))


def brighter(pixels: np.ndarray) -> np.ndarray:
    """Add light."""
    return _to_bytes(pixels * (1 + LIGHT))


def equal_mean(pixels: np.ndarray) -> np.ndarray:
    """Bring a picture's mean to `MEAN`, by one factor."""
    return _to_bytes(pixels * (MEAN / max(pixels.mean(), 1.0)))


def equal_mean_and_contrast(pixels: np.ndarray) -> np.ndarray:
    """Bring a picture's mean to `MEAN` and its standard deviation to `SPREAD`."""
    return _to_bytes((pixels - pixels.mean()) * (SPREAD / max(pixels.std(), 1.0)) + MEAN)


Change = Callable[[np.ndarray], np.ndarray]
# What joins the bank, and what is done to every picture, bank's and query alike.
COPIES: dict[str, Sequence[Change]] = {
    "flipped left-right": [flip_left_right],
    "flipped up-down": [flip_up_down],
    "quarter turn": [quarter_turn],
    "light": [darker, brighter],
}
NORMALISED: dict[str, Change] = {
    "equal mean": equal_mean,
    "equal mean and contrast": equal_mean_and_contrast,
}
PLAIN = "as they are"  # a bank without copies, of images as they are
MARKS = (("o", plots.NORMAL_COLOUR), ("s", plots.ANOMALOUS_COLOUR))  # of the two sets
LIGHTS = (PLAIN, "light", *NORMALISED)  # what unseen modules are asked about


@dataclass(frozen=True)
class Cells:
    """A split, and the stretch of the file order that each of its cells lies in."""

    name: str
    train: Sequence[Path]
    test: Sequence[Path]
    labels: np.ndarray
    train_parts: np.ndarray
    test_parts: np.ndarray


def run_cells(cells: Cells, seeds: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score a split's cells with and without copies; and its changed normals, without labels.

    Known modules: by the protocol.  Unseen ones: each cell by the one bank of the normals outside
    its stretch, with the same threshold.  A bank's size does not grow by the copies.

    Returns
    -------
    scores : DataFrame
        Columns cells, modules, bank, seed, part (test, or held out: normals by the bank that never
        saw them), image, label, score, flagged.
    looks : DataFrame
        Columns cells, change, bank, seed, image, label (1: changed), score, flagged: held-out
        normals, as they are and changed, by the banks without copies and with those of that change.
    """
    scores, looks = [], []
    plain = _features(cells, None)
    copied = {
        kind: [cell_features(cells.train, change=each, normals=cells.train)[0] for each in changes]
        for kind, changes in COPIES.items()
    }
    settings = {PLAIN: (plain, []), **{kind: (plain, own) for kind, own in copied.items()}}
    settings |= {name: (_features(cells, change), []) for name, change in NORMALISED.items()}
    outside = [
        (np.flatnonzero(cells.train_parts != part), np.flatnonzero(cells.train_parts == part))
        for part in range(max(cells.train_parts) + 1)
    ]
    for seed in seeds:
        at_random = fold_indices(len(cells.train), CrossValidation(), seed=seed)
        for name, ((normals, queries), copies) in settings.items():
            source = np.tile(np.arange(len(normals)), 1 + len(copies))
            how = {"seed": seed, "bank_images": BankImages([normals, *copies], source)}
            about = {"cells": cells.name, "bank": name, "seed": seed}
            known = run_protocol(normals, queries, folds=at_random, **how)
            found = {"known": (known, known.scores)}
            if name in LIGHTS:
                unseen = run_protocol(normals, queries, folds=outside, **how)
                one_bank = unseen.fold_scores[cells.test_parts, range(len(queries))]
                found["unseen"] = (unseen, one_bank)
            for modules, (result, own) in found.items():
                about |= {"modules": modules}
                scores.append(_rows(about, "test", cells.labels, own, known.threshold))
                held_out = np.concatenate(result.held_out)
                scores.append(_rows(about, "held out", 0, held_out, known.threshold))
            for change in copied:
                if name in (PLAIN, change):
                    looks.append(_looks({**about, "change": change}, copied[change], known))
    return pd.concat(scores), pd.concat(looks)


def _rows(
    about: dict[str, object], part: str, labels: object, scores: np.ndarray, threshold: float
) -> pd.DataFrame:
    columns = {"part": part, "image": range(len(scores)), "label": labels, "score": scores}
    return pd.DataFrame({**about, **columns, "flagged": scores > threshold})


def _features(cells: Cells, change: Change | None) -> tuple[np.ndarray, np.ndarray]:
    paths = [*cells.train, *cells.test]
    found, _ = cell_features(paths, change=change, normals=cells.train)
    return found[: len(cells.train)], found[len(cells.train) :]


def _looks(about: dict[str, object], copies: Sequence[np.ndarray], known: Result) -> pd.DataFrame:
    """Score held-out normals as they are, then changed by each change of a kind."""
    found = list(known.held_out)
    for features in copies:
        changed = score_held_out(features, known.folds, known.banks, Score())
        found += [own.images for own in changed]
    scores = np.concatenate(found)
    labels = np.arange(len(scores)) >= len(scores) // (1 + len(copies))
    return _rows(about, "held out", labels.astype(int), scores, known.threshold)


def _share(labels: np.ndarray, flags: np.ndarray) -> float:
    """Return the share of changed images that are flagged."""
    return float(flags[labels == 1].mean())


def look_figures(looks: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return how far changed normals look anomalous, without any label.

    Returns
    -------
    DataFrame
        ``value``, ``low``, ``high``: AUROC of changed against unchanged held-out normals, 0.5 where
        they look alike; ``flagged``: the share of the changed above the threshold; both with their
        95 % intervals over normals and seeds.  ``bank``: without copies, or with those of that
        change.
    """
    rows, keys = [], ["cells", "change", "bank"]
    for key, own in looks.groupby(keys, sort=False):
        row = list(key)
        for statistic, column in ((image_auroc, "score"), (_share, "flagged")):
            labels, values = by_seed(own, column)
            row += estimate(statistic, labels, values, seed=seed)
        rows.append(row)
    names = [*keys, "value", "low", "high", "flagged", "flagged_low", "flagged_high"]
    return pd.DataFrame(rows, columns=names)


def bank_figures(scores: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return each bank's image AUROC, its gain over the plain bank, and its false alarms.

    Returns
    -------
    DataFrame
        A row for each of cells, modules and bank.  ``low`` and ``high`` are of ``gain``: test cells
        and seeds are drawn, alike for both banks; the intervals of one set and its known or unseen
        modules hold together at 95 % (Bonferroni).  ``false_alarms``: the share of held-out normals
        above the threshold of known modules.
    """
    rows = []
    for (cells, modules), group in scores.groupby(["cells", "modules"], sort=False):
        own = group[group["part"] == "test"]
        banks = own["bank"].unique()
        alarms = group[group["part"] == "held out"].groupby("bank")["flagged"].mean()
        labels, plain = by_seed(own[own["bank"] == PLAIN])
        for bank in banks:
            _, values = by_seed(own[own["bank"] == bank])
            auroc = over_seeds(image_auroc, labels, values)
            how = {"seed": seed, "level": 1 - 0.05 / (len(banks) - 1), "repeats": 2000}
            change = gain(image_auroc, labels, plain, values, **how)
            rows.append((cells, modules, bank, auroc, *change, alarms[bank]))
    names = ["cells", "modules", "bank", "image_auroc", "gain", "low", "high", "false_alarms"]
    return pd.DataFrame(rows, columns=names)


def draw_pairs(ax: Axes, found: pd.DataFrame, column: str, names: Sequence[str]) -> None:
    """Draw a figure of each set with its interval, the two sets of one name beside each other."""
    labels = []
    for name, pair in found.groupby(list(names), sort=False):
        for own, (mark, colour), off in zip(pair.itertuples(), MARKS, (-0.12, 0.12), strict=True):
            ax.hlines(len(labels) + off, own.low, own.high, color=colour)
            label = own.cells if not labels else None
            ax.plot(getattr(own, column), len(labels) + off, mark, color=colour, label=label)
        labels.append(", ".join(name))
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    plots.legend_above(ax, 2)
