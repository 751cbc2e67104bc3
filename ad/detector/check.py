"""Hold a detector file against the scores of the pipeline: every bit, of every image."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ad
from ad.detector.detector import Detector, Picture, Verdict


@dataclass(frozen=True)
class Expected:
    """What the pipeline says of the same images.

    Parameters
    ----------
    patches : array of float64, shape (n_images, h, w)
        Patch scores over all folds.
    folds : array of float64, shape (folds, n_images)
    scores : array of float64, shape (n_images,)
    flags : array of bool, shape (n_images,)
    """

    patches: np.ndarray
    folds: np.ndarray
    scores: np.ndarray
    flags: np.ndarray


def check_detector(
    detector: Detector, ids: Sequence[str], pictures: Sequence[Picture], expected: Expected
) -> list[Verdict]:
    """Score every image; return the verdicts.

    Raises
    ------
    ValueError
        At the first image with a bit that differs; the message names it.
    """
    verdicts = []
    for n, (name, picture) in enumerate(zip(ids, pictures, strict=True)):
        verdict = detector.score(picture)
        for what, found, wanted in (
            ("patch scores", verdict.patch_scores, expected.patches[n]),
            ("fold scores", verdict.fold_scores, expected.folds[:, n]),
            ("score", verdict.score, expected.scores[n]),
            ("flag", verdict.flagged, expected.flags[n]),
        ):
            if not np.array_equal(found, wanted):
                raise ValueError(f"the detector file differs from the pipeline: {what} of {name}")
        verdicts.append(verdict)
    return verdicts


def code_sha256() -> str:
    """Hash the code that a detector comes from: names and contents of `ad`'s modules, sorted."""
    root, digest = Path(ad.__file__).parent, hashlib.sha256()
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")):
        digest.update(f"{name}\n".encode() + (root / name).read_bytes())
    return digest.hexdigest()
