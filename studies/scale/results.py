"""Figures of a large bank's methods, and what they show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ad.files import read_csv
from pages.plots import NEUTRAL_COLOUR, NORMAL_COLOUR
from studies.scale.two_rounds import NEAR

WORDS = {
    "exact": "exact selection, exact search",
    "two_rounds": "two rounds, exact search",
    "inverted_file": "inverted file",
}


def rows(results: Mapping) -> list[dict]:
    """Lay the methods out, a row each."""
    laid = []
    for name, found in results["methods"].items():
        of = f", of {found['bank']}" if "bank" in found else ""
        row = {"method": WORDS[name] + of, "threshold": f"{found['threshold']:,.1f}"}
        row["flagged"] = found["flagged"]
        if "f1" in found:
            row |= {"F1": f"{found['f1']:.3f}", "image AUROC": f"{found['image_auroc']:.3f}"}
        laid.append(row)
    return laid


def read_scores(path: Path) -> dict[str, np.ndarray]:
    """Read the test images' scores, method by method."""
    table = read_csv(path)
    return {
        name: np.array([float(row[name]) for row in table]) for name in table[0] if name != "id"
    }


def rows_among_all(rows: np.ndarray, held_out: np.ndarray, patches: int) -> np.ndarray:
    """Turn rows among the kept normals' patches into rows among all normals' patches.

    Parameters
    ----------
    rows : array of int
    held_out : array of bool, shape (n_normals,)
    patches : int
        Of all kept normals together.
    """
    kept = np.flatnonzero(~held_out)
    grid = patches // len(kept)
    return kept[rows // grid] * grid + rows % grid


def draw(axes: Sequence[Axes], results: Mapping, scores: Mapping[str, np.ndarray]) -> None:
    """Draw each method's scores over the first one's, with both thresholds."""
    first, *others = scores
    for ax, name in zip(axes, others, strict=False):
        ax.plot(scores[first], scores[name], ".", color=NORMAL_COLOUR)
        ax.axvline(results["methods"][first]["threshold"], color=NEUTRAL_COLOUR, linestyle=":")
        ax.axhline(results["methods"][name]["threshold"], color=NEUTRAL_COLOUR, linestyle=":")
        ax.set_xlabel(f"score: {WORDS[first]}")
        ax.set_ylabel(f"score: {WORDS[name]}")
        ax.set_title("a test image a dot; dotted: thresholds")


def findings(results: Mapping, scores: Mapping[str, np.ndarray], same: bool | None) -> str:
    """Say what sharding changes.

    Parameters
    ----------
    scores : mapping of method to scores of the test images
    same : bool or None
        Whether the exact selection is the pipeline's of its first fold; ``None``: it did not run.
    """
    methods, shards = results["methods"], results["shards"]["train"]
    text = []
    if "exact" in methods:
        end = (
            "is the pipeline's of its first fold, pick by pick" if same else "is NOT the pipeline's"
        )
        text.append(
            f"**Selected over {shards['shards']} shards, the bank of {results['size']:,} of "
            f"{shards['patches']:,} patches {end}.**"
        )
    if "two_rounds" in methods:
        rounds = methods["two_rounds"]["two_rounds"]
        proved, radii = rounds["factor"], rounds["factor_of_rounds"]
        how = "the radius that was measured"
        if rounds["radius"] <= NEAR * rounds["second"]:
            how = f"what was checked: no patch is farther than {NEAR} times the second radius"
        text.append(
            f"Two rounds leave no patch farther from the bank than {_times(proved)} the best "
            f"possible radius, by {how}. By the radii of both rounds alone that is "
            f"{_times(radii)}. {_against(methods, scores, 'two_rounds')}"
        )
    if "inverted_file" in methods:
        found = methods["inverted_file"]
        text.append(
            f"The inverted file finds {found['recall']:.1%} of the exact neighbours of "
            f"{found['recall_queries']:,} test patches. "
            f"{_against(methods, scores, 'inverted_file')}"
        )
    text.append(
        "Of so few images this shows that the parts fit together, not how long a million take: "
        "`docs/scale.md` reckons that from measured rates."
    )
    return "\n\n".join(text)


def _times(factor: float | None) -> str:
    return "an unproven multiple of" if factor is None else f"{factor:.2f} times"


def _against(methods: Mapping, scores: Mapping[str, np.ndarray], name: str) -> str:
    """Compare a method's decisions with the exact one's, image by image."""
    if "exact" not in scores:
        return ""
    flags = {each: scores[each] > methods[each]["threshold"] for each in ("exact", name)}
    differing = int((flags["exact"] != flags[name]).sum())
    return f"{differing} of {len(flags[name])} test images are decided otherwise than by exact."
