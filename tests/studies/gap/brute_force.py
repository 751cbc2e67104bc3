"""Every labelling and every split of a small test set, for comparison."""

from fractions import Fraction
from itertools import combinations

import numpy as np
from scipy.stats import binom

from studies.gap.enumeration import (
    Reading,
    Reported,
)

SMALL = Reading(n_images=6, n_anomalous=2, public_sizes=(2, 3))
MODEL = Reported("small", "0.67", "0.5")


def prints(fraction: Fraction, text: str) -> bool:
    """Round (either way at a half) or cut a fraction to the digits given."""
    scaled = fraction * 10 ** len(text.partition(".")[2])
    half = Fraction(1, 2)
    wanted = int(text.replace(".", ""))
    return wanted == int(scaled) or scaled - half <= wanted <= scaled + half


def f1(labels, flags) -> Fraction | None:
    hits = sum(a and b for a, b in zip(labels, flags, strict=True))
    total = sum(labels) + sum(flags)
    return Fraction(2 * hits, total) if total else None


def labels_of(reading: Reading) -> list[int]:
    return [1] * reading.n_anomalous + [0] * reading.n_normal


def parts_of(reading: Reading, size: int):
    """Yield every public part of a size with its private part."""
    images = range(reading.n_images)
    for part in combinations(images, size):
        rest = [i for i in images if i not in part]
        yield part, (list(images) if reading.private == "all" else rest)


def fits(model: Reported, labels, flags, parts) -> bool:
    values = [f1([labels[i] for i in own], [flags[i] for i in own]) for own in parts]
    texts = (model.public, model.private)
    return all(v is not None and prints(v, t) for v, t in zip(values, texts, strict=True))


def independent_flags(reading: Reading, sensitivity: float, alarms: float) -> np.ndarray:
    tp = binom.pmf(np.arange(reading.n_anomalous + 1), reading.n_anomalous, sensitivity)
    fp = binom.pmf(np.arange(reading.n_normal + 1), reading.n_normal, alarms)
    return np.outer(tp, fp)
