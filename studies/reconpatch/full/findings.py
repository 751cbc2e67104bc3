"""What the trainings show: figures, and whether ReConPatch as published helps here."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pages.report import markdown_table
from studies.reconpatch.findings import compare, helps
from studies.reconpatch.full.course import Course
from studies.shared.uncertainty import auroc_interval, pair_wins

COLOURS = {"features": "#666666", "pooling": "#E69F00", "PCA": "#0072B2"}


def mean_auroc(labels: np.ndarray, runs: np.ndarray) -> float:
    """Return the mean AUROC of runs, shape (n_runs, n_images)."""
    return float(np.mean([pair_wins(labels, scores).mean() for scores in runs]))


def _each(
    courses: Sequence[Course], draw: Callable[[Axes, Course], None], what: str, *, log: bool
) -> Figure:
    """Draw an Axes for each course over epochs."""
    fig, axes = plt.subplots(
        1, len(courses), figsize=(3.6 * len(courses), 3.2), layout="constrained", squeeze=False
    )
    for ax, course in zip(axes[0], courses, strict=True):
        draw(ax, course)
        if log:
            ax.set_xscale("symlog", linthresh=1)
        ax.set_xlabel("epoch")
        ax.set_title(f"{course.n_components} dimensions, k = {course.neighbors}", fontsize=10)
    axes[0, 0].set_ylabel(what)
    return fig


def loss_figure(courses: Sequence[Course]) -> Figure:
    """Draw every training's loss over epochs."""

    def draw(ax: Axes, course: Course) -> None:
        ax.plot(np.arange(1, course.losses.shape[1] + 1), course.losses.T)

    return _each(courses, draw, "relaxed contrastive loss, a patch", log=False)


def movement_figure(courses: Sequence[Course]) -> Figure:
    """Draw how far every map has moved from its start."""

    def draw(ax: Axes, course: Course) -> None:
        ax.plot(course.epochs, course.moved.T, "o-")

    return _each(courses, draw, "distance moved, in the start's size", log=True)


def quality_figure(courses: Sequence[Course], labels: np.ndarray, *, seed: int) -> Figure:
    """Draw AUROC over epochs with its interval, and what stands beside as lines."""

    def draw(ax: Axes, course: Course) -> None:
        means = [mean_auroc(labels, runs) for runs in course.scores]
        bounds = np.array([auroc_interval(labels, runs, seed=seed) for runs in course.scores])
        ax.fill_between(course.epochs, *bounds.T, color="#D55E00", alpha=0.2, label="95 %")
        ax.plot(course.epochs, means, "o-", color="#D55E00", label="ReConPatch")
        for name, runs in course.references.items():
            ax.axhline(mean_auroc(labels, runs), color=COLOURS[name], linestyle="--", label=name)
        ax.legend(fontsize=7)

    return _each(courses, draw, "image AUROC", log=True)


def end_table(courses: Sequence[Course], labels: np.ndarray | None) -> str:
    """Lay out the loss, the distance moved and, with labels, AUROC at start and end."""
    rows = []
    for course in courses:
        row = {
            "dimensions": course.n_components,
            "k": course.neighbors,
            "loss, first epoch": float(course.losses[:, 0].mean()),
            "loss, last": float(course.losses[:, -1].mean()),
            "distance moved": f"{course.moved[:, -1].mean():.1%}",
        }
        if labels is not None:
            row |= {
                "AUROC at the start": mean_auroc(labels, course.scores[0]),
                "at the end": mean_auroc(labels, course.scores[-1]),
            }
            row |= {name: mean_auroc(labels, runs) for name, runs in course.references.items()}
        rows.append(row)
    return markdown_table(rows)


def verdict(courses: Sequence[Course], labels: np.ndarray | None, *, seed: int) -> str:
    """Say plainly whether ReConPatch as published helps, against its start and what is cheap.

    All intervals of all courses hold together at 95 % (Bonferroni); images and runs, which share
    the coresets' seeds, are drawn again.
    """
    pairs = {
        (f"{name}, k = {course.neighbors},", course.n_components): (runs, course.scores[-1])
        for course in courses
        for name, runs in {"its random start": course.scores[0], **course.references}.items()
    }
    rows = compare(labels, pairs, seed=seed)
    moved = ", ".join(f"{course.moved[:, -1].mean():.0%}" for course in courses)
    text = f"Training moved the maps by {moved} of their start's size. "
    if rows:
        cheap = [row for row in rows if not row["beside"].startswith("its")]
        if all(row["low"] > 0 for row in cheap):
            text += "**It helps here, against all that is cheap.** "
        elif any(row["low"] > 0 for row in cheap):
            text += "**It helps here in part.** "
        elif any(row["high"] < 0 for row in cheap):
            text += "**It does not help here; in part it harms.** "
        else:
            text += "**It cannot be shown to help here.** "
    return text + helps(rows, "ReConPatch as published")


def metrics(courses: Sequence[Course], labels: np.ndarray | None) -> dict[str, object]:
    """Return the figures at the end of every course, by dimension and k."""
    found = {}
    for course in courses:
        own = {
            "loss": float(course.losses[:, -1].mean()),
            "moved": float(course.moved[:, -1].mean()),
        }
        if labels is not None:
            own["image_auroc"] = mean_auroc(labels, course.scores[-1])
            own |= {name: mean_auroc(labels, runs) for name, runs in course.references.items()}
        found[f"{course.n_components} dimensions, k = {course.neighbors}"] = own
    return found
