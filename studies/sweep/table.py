"""From rows to tables and words: means over seeds and folders, with their spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ad.files import read_json, write_csv
from pages.plots import NORMAL_COLOUR
from pages.report import markdown_table

FIGURES = ("image_auroc", "f1", "flagged")
WORDS = {"image_auroc": "image AUROC", "f1": "F1", "flagged": "flagged test images"}


def read_rows(names: Sequence[str], folder: Path) -> list[dict]:
    """Read the rows of all tasks, in their order.

    Parameters
    ----------
    names : sequence of str
        Files of the rows, as ``tasks.json`` lists them.

    Raises
    ------
    FileNotFoundError
        When some are missing; the message says how many.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} rows are missing, the first is {folder / missing[0]}; "
            f"run 'python -m studies.sweep' again, which computes them alone"
        )
    return [read_json(folder / name) for name in names]


def write_table(path: Path, rows: Sequence[Mapping]) -> None:
    """Write all rows as CSV; what some lack is empty."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(path, header, [[row.get(key) for key in header] for row in rows])


def setting_of(row: Mapping, keys: Sequence[str]) -> str:
    """Name a row's combination of the grid."""
    return ", ".join(f"{key}={row[key]}" for key in keys)


def means(rows: Sequence[Mapping], keys: Sequence[str], figure: str) -> dict[str, dict[str, float]]:
    """Average a figure over seeds: setting to folder to mean; folders without it are left out."""
    collected: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.get(figure) is not None:
            by_folder = collected.setdefault(setting_of(row, keys), {})
            by_folder.setdefault(row["folder"], []).append(row[figure])
    return {
        setting: {folder: float(np.mean(values)) for folder, values in by_folder.items()}
        for setting, by_folder in collected.items()
    }


def table(rows: Sequence[Mapping], keys: Sequence[str], figure: str) -> str:
    """Lay a figure out as papers do: a row a setting, a column a folder, and their mean."""
    laid = []
    for setting, folders in means(rows, keys, figure).items():
        values = list(folders.values())
        spread = f" (sd {np.std(values, ddof=1):.3f})" if len(values) > 1 else ""
        laid.append(
            {"setting": setting}
            | {folder: f"{value:.3f}" for folder, value in folders.items()}
            | {"mean over folders": f"{np.mean(values):.3f}{spread}"}
        )
    return markdown_table(laid)


def tables(rows: Sequence[Mapping], keys: Sequence[str]) -> str:
    """Lay out every figure that the rows have."""
    laid = {words: table(rows, keys, name) for name, words in WORDS.items()}
    return "\n\n".join(f"{words}:\n\n{text}" for words, text in laid.items() if text)


def draw(axes: Sequence[Axes], rows: Sequence[Mapping], keys: Sequence[str]) -> None:
    """Draw each figure's means by setting, a dot a folder."""
    for ax, figure in zip(axes, FIGURES, strict=True):
        found = means(rows, keys, figure)
        for place, folders in enumerate(found.values()):
            values = list(folders.values())
            ax.plot(values, [place] * len(values), "o", color=NORMAL_COLOUR, alpha=0.6)
            ax.plot(np.mean(values), place, "|", color="black", markersize=18)
        ax.set_yticks(range(len(found)), list(found))
        ax.set_xlabel(f"{WORDS[figure]}: dots are folders, the bar their mean")
        ax.invert_yaxis()


def findings(rows: Sequence[Mapping], keys: Sequence[str]) -> str:
    """Say which setting is best on average, and whether all folders agree."""
    found = means(rows, keys, "f1")
    folders = list(dict.fromkeys(row["folder"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    text = f"{len(rows)} runs: {len(folders)} folders, {seeds} seeds. "
    if not found:
        return f"{text}Without labels nothing says which setting is best."
    averages = {setting: np.mean(list(values.values())) for setting, values in found.items()}
    best = max(averages, key=averages.__getitem__)
    worst = min(averages, key=averages.__getitem__)
    wins = [f for f in found[best] if all(found[best][f] >= found[s].get(f, 0) for s in found)]
    return (
        f"{text}On average over the folders F1 is largest with **{best}** ({averages[best]:.3f}) "
        f"and smallest with {worst} ({averages[worst]:.3f}); in {len(wins)} of "
        f"{len(found[best])} folders that setting is the best or as good. The settings were "
        f"compared on the test labels: the best one's figure is a little too good, and with so "
        f"few folders no interval is given."
    )
