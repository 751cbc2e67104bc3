"""Features of changed copies of training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.extraction import FeatureExtractor, features_of
from ad.images import read_rgb
from ad.params import Runtime
from studies.augmentation.changes import Limits, change


@dataclass(frozen=True)
class Copies:
    """Makes changed copies of images and extracts their features.

    Parameters
    ----------
    paths : sequence of Path
        Of the training images, by number.
    limits : Limits
    extractor : FeatureExtractor
        The pipeline's.
    runtime : Runtime
    """

    paths: Sequence[Path]
    limits: Limits
    extractor: FeatureExtractor
    runtime: Runtime

    def pixels(self, number: int) -> np.ndarray:
        """Read an image as the network sees it, shape (size, size, 3) of uint8."""
        return self.extractor.rule.pixels(read_rgb(self.paths[number]))

    def image(self, number: int, kind: str, seed: int) -> np.ndarray:
        """Make a changed copy; the seed and the number determine it."""
        return change(self.pixels(number), kind, self.limits, seed=seed, number=int(number))

    def features(self, numbers: np.ndarray, kind: str, seed: int) -> np.ndarray:
        """Extract features of changed copies, shape (n, h, w, dim)."""
        images = [self.image(number, kind, seed) for number in numbers]
        return features_of(self.extractor, images, self.runtime)
