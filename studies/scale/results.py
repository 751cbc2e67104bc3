"""Figures of a large bank's methods, and what they show."""

from collections.abc import Mapping, Sequence

import numpy as np

from ad.metrics import both_classes, f1_score, image_auroc

WORDS = {
    "exact": "exact selection, exact search",
    "two_rounds": "two rounds, exact search",
    "inverted_file": "exact selection, inverted file",
}


def figures(labels: Sequence[int | None], scores: np.ndarray, threshold: float) -> dict:
    """Return a method's figures; quality only where labels allow."""
    flags = scores > threshold
    found = {"threshold": threshold, "flagged": int(flags.sum())}
    if None in labels or not both_classes(np.array(labels)):
        return found
    known = np.array(labels)
    return found | {"image_auroc": image_auroc(known, scores), "f1": f1_score(known, flags)}


def rows(results: Mapping) -> list[dict]:
    """Lay the methods out, a row each."""
    laid = []
    for name, found in results["methods"].items():
        row = {"method": WORDS[name], "threshold": f"{found['threshold']:,.1f}"}
        row["flagged"] = found["flagged"]
        if "f1" in found:
            row |= {"F1": f"{found['f1']:.3f}", "image AUROC": f"{found['image_auroc']:.3f}"}
        laid.append(row)
    return laid


def findings(
    results: Mapping, scores: Mapping[str, Sequence[float]], same: bool | None, fold: str
) -> str:
    """Say what sharding changes.

    Parameters
    ----------
    scores : mapping of method to scores of the test images
    same : bool, optional
        The exact rows are those of the pipeline's ``fold``; ``None``: other settings, not compared.
    """
    methods, shards = results["methods"], results["shards"]["train"]
    text = []
    if "exact" in methods:
        head = (
            f"**Selected over {shards['shards']} shards, the bank of {results['size']:,} of "
            f"{shards['patches']:,} patches "
        )
        ends = {
            True: f"is the pipeline's of {fold}, row by row.** ",
            False: f"differs from the pipeline's of {fold}: that is an error.** ",
            None: f"was not compared with the pipeline's of {fold}, whose settings differ.** ",
        }
        text.append(head + ends[same])
    if "two_rounds" in methods:
        rounds = methods["two_rounds"]["two_rounds"]
        proved, radii = rounds["factor"], rounds["factor_of_rounds"]
        text.append(
            f"Two rounds reach every patch within {_times(proved)} the best possible radius "
            f"(proved by the radius that was measured; by both rounds' radii alone "
            f"{_times(radii)}). {_against(methods, scores, 'two_rounds')}"
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
        "[docs/scale.md](../../docs/scale.md) reckons that from measured rates."
    )
    return "\n\n".join(text)


def _times(factor: float | None) -> str:
    return "no proven multiple of" if factor is None else f"{factor:.2f} times"


def _against(methods: Mapping, scores: Mapping[str, Sequence[float]], name: str) -> str:
    """Compare a method's decisions with the exact one's, image by image."""
    if "exact" not in scores:
        return ""
    flags = {
        each: np.array(scores[each], dtype=float) > methods[each]["threshold"]
        for each in ("exact", name)
    }
    differing = int((flags["exact"] != flags[name]).sum())
    return f"{differing} of {len(flags[name])} test images are decided otherwise than by exact."
