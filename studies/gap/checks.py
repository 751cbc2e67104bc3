"""Compare two records stage by stage: a check a stage."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from studies.gap.differences import (
    DIFFERS,
    EQUAL,
    HARMLESS,
    REDUCED,
    ROUNDED,
    ROUNDING,
    Answer,
    changed,
    compare_scores,
    few,
    one_sided,
    permuted,
    relative,
)
from studies.gap.record import Features, ImageFeatures, Record
from studies.gap.write_record import PICKS_KEPT


def check_parameters(a: Record, b: Record) -> Answer:
    """Compare settings; folders and what no result depends on are left out."""
    one, two = a.parameters, b.parameters
    odd = [
        f"{key}: {one.get(key)!r} and {two.get(key)!r}"
        for key in sorted(one.keys() | two.keys())
        if (key not in one or key not in two or one[key] != two[key])
        and not key.startswith(("runtime_", "data_path"))
    ]
    if odd:
        return DIFFERS, "; ".join(odd[:5]) + (f" and {len(odd) - 5} more" * (len(odd) > 5))
    return EQUAL, f"{len(one)} parameters agree"


def check_data(a: Record, b: Record) -> Answer:
    """Compare the bytes of the images."""
    one, two = a.data, b.data
    if answer := one_sided(one, two, "images"):
        return answer
    moved = changed(one, two)
    if permuted(one, two):
        words = f"the same files stand under other ids: {len(moved)} of {len(one)}, {few(moved)}"
        return DIFFERS, words
    if moved:
        return DIFFERS, f"the bytes of {len(moved)} of {len(one)} images differ: {few(moved)}"
    return EQUAL, f"{len(one)} images have the same bytes"


def check_listing(a: Record, b: Record) -> Answer:
    """Compare the order in which images were taken, and whether they kept their names."""
    one, two = a.ids, b.ids
    if sorted(one) == sorted(two) and one != two:
        moved = sum(x != y for x, y in zip(one, two, strict=True))
        words = f"the same images in another order: {moved} of {len(one)} rows moved"
        return DIFFERS, f"the runs list {words}"
    if a.features and b.features and (moved := _renamed(a.features, b.features)):
        return DIFFERS, (
            f"the same features stand under other ids ({len(moved)} of {len(one)}, {few(moved)}): "
            f"images were listed in one order and named in another"
        )
    if one != two:
        only = sorted(set(one) ^ set(two)) or [k for k, n in Counter(one).items() if n > 1]
        return DIFFERS, f"the runs list other images: {few(only)}"
    return _raw_listing(a.listing, b.listing, len(one))


def _renamed(a: Features, b: Features) -> list[str]:
    """List the images whose features stand under another id; the features may have changed, too.

    Each image is matched with the nearest of the other run.  Where these matches are one to one,
    and not all of an image with itself, names have moved.
    """
    names = [name for name in a.images if name in b.images]
    rows = [[_numbers(run.images[name]) for name in names] for run in (a, b)]
    if a.images.keys() != b.images.keys() or len({len(r) for run in rows for r in run}) != 1:
        return []
    one, two = (np.array(run) for run in rows)
    far = np.abs(one[:, None] - two).mean(axis=2)
    nearest = far.argmin(axis=1)
    itself = np.arange(len(names))
    nearest[far[itself, itself] == far.min(axis=1)] = itself[far.diagonal() == far.min(axis=1)]
    if len(set(nearest.tolist())) < len(names):
        return []
    return [names[row] for row in np.flatnonzero(nearest != itself)]


def _numbers(image: ImageFeatures) -> list[float]:
    return [image.mean, image.sd, image.max, *image.sample]


def _raw_listing(one: Mapping | None, two: Mapping | None, n_images: int) -> Answer:
    if one is None or two is None:
        return EQUAL, f"{n_images} images in one order; a record was made without the images"
    moved = changed(one, two)
    words = f"the systems list {len(moved)} of {len(one)} folders in another order ({few(moved)})"
    if one.keys() != two.keys():
        moved, words = [1], f"folders {few(sorted(one.keys() ^ two.keys()))} stand in one run only"
    if moved:
        return HARMLESS, f"{words}, but both runs use one order of images"
    return EQUAL, f"{len(one)} folders are listed alike"


def check_decoding(a: Record, b: Record) -> Answer:
    """Compare pixels, and the network's input, of the images whose bytes are the same."""
    one, two = a.decoding, b.decoding
    if answer := one_sided(one, two, "decoded images"):
        return answer
    other = set(changed(a.data or {}, b.data or {}))  # their pixels must differ
    names = [name for name in one if name not in other]
    pixels = [name for name in names if one[name].pixels != two[name].pixels]
    if pixels:
        means = np.array([[r[n].channel_means for n in pixels] for r in (one, two)])
        what = f"decoded pixels of {len(pixels)} of {len(names)} images differ ({few(pixels)})"
        return DIFFERS, f"{what}; {_channels(means)}"
    given = [n for n in names if one[n].input and two[n].input and one[n].input != two[n].input]
    if given:
        means = np.array([[r[n].input_means or [0.0] * 3 for n in given] for r in (one, two)])
        return DIFFERS, (
            f"pixels decode alike, but resizing or scaling gives other inputs in {len(given)} of "
            f"{len(names)} images ({few(given)}); {_channels(means)}"
        )
    return EQUAL, f"{len(names)} images decode and resize alike"


def _channels(means: np.ndarray) -> str:
    """Describe how the channels' means (2, n, 3) differ."""
    swapped = np.allclose(means[0], means[1, :, ::-1], rtol=0, atol=1e-6)
    if swapped and not np.allclose(means[0], means[1], rtol=0, atol=1e-6):
        return "red and blue are exchanged"
    return f"channel means by up to {np.abs(means[0] - means[1]).max():.3g}"


def check_weights(a: Record, b: Record) -> Answer:
    """Compare the network and its weights file."""
    one, two = a.weights, b.weights
    odd = [k for k in ("backbone", "sha256", "source") if getattr(one, k) != getattr(two, k)]
    if odd == ["source"] and one.sha256:
        return EQUAL, f"one file under two names: {one.source}, {two.source}"
    if odd:
        pairs = [f"{k} {str(getattr(r, k))[:24]}" for k in odd for r in (one, two)]
        return DIFFERS, " and ".join(pairs)
    return EQUAL, f"{one.backbone}, {str(one.sha256)[:16]}"


def check_features(a: Record, b: Record) -> Answer:
    """Compare patch features; tell rounding from half precision and from gross changes."""
    if a.features.shape != b.features.shape:
        return DIFFERS, f"shape {a.features.shape} and {b.features.shape} an image"
    one, two = a.features.images, b.features.images
    if answer := one_sided(one, two, "features"):
        return answer
    moved = [name for name in one if one[name] != two[name]]
    if not moved:
        return EQUAL, f"features of {len(one)} images are equal bit by bit"
    largest = 0.0
    for name in moved:
        pair = one[name], two[name]
        unit = max(pair[0].sd, pair[1].sd, np.finfo(float).tiny)
        if len(pair[0].sample) != len(pair[1].sample):
            return DIFFERS, f"{name}: {[len(each.sample) for each in pair]} values are recorded"
        values = [np.array(_numbers(each)) for each in pair]
        largest = max(largest, float(np.abs(values[0] - values[1]).max()) / unit)
    size = "rounding" if largest <= ROUNDED else "half precision" if largest <= REDUCED else "gross"
    return (ROUNDING if size == "rounding" else DIFFERS), (
        f"{len(moved)} of {len(one)} images differ, by up to {largest:.2g} standard deviations in "
        f"the recorded values ({size})"
    )


def check_coreset(a: Record, b: Record) -> Answer:
    """Compare the folds and the memory banks."""
    if a.folds and b.folds and a.folds != b.folds:
        return DIFFERS, "the folds hold out other images"
    one, two = a.coresets, b.coresets
    if one.keys() != two.keys():
        return DIFFERS, f"coresets {few(sorted(one.keys() ^ two.keys()))} stand in one run only"
    moved = changed(one, two)
    if not moved:
        return EQUAL, f"{len(one)} coresets are equal"
    shown = []
    for name in moved[:3]:
        own, other = one[name], two[name]
        pairs = zip(own.first, other.first, strict=False)
        agreed = next((n for n, (x, y) in enumerate(pairs) if x != y), None)
        where = f"from pick {agreed + 1}" if agreed is not None else f"after pick {PICKS_KEPT}"
        if own.size != other.size:
            where += f", sizes {own.size} and {other.size}"
        shown.append(f"{name} {where}")
    return DIFFERS, f"{len(moved)} of {len(one)} differ: {'; '.join(shown)}"


def check_validation(a: Record, b: Record) -> Answer:
    """Compare the scores of held-out normal images."""
    one, two = a.validation, b.validation
    if answer := one_sided(one, two, "held-out scores"):
        return answer
    return compare_scores(one, two, "held-out scores")


def check_threshold(a: Record, b: Record) -> Answer:
    """Compare the threshold, its rule, and the folds'."""
    one, two = a.threshold, b.threshold
    if one == two:
        return EQUAL, f"{one.threshold:.6g}"
    gap = relative(one.threshold, two.threshold)
    words = f"{one.threshold:.6g} and {two.threshold:.6g} ({gap:.2g} relative)"
    if one.rule != two.rule:
        words += f", rules {one.rule} and {two.rule}"
    folds = one.fold_thresholds or [], two.fold_thresholds or []
    close = len(folds[0]) == len(folds[1]) and all(map(_close, *folds))
    if not close:
        words += "; the folds' differ"
    same = close and gap <= ROUNDED and one.rule == two.rule
    return (ROUNDING if same else DIFFERS), words


def _close(one: float, two: float) -> bool:
    return relative(one, two) <= ROUNDED


def check_scores(a: Record, b: Record) -> Answer:
    """Compare the test scores."""
    one, two = a.scores, b.scores
    if answer := one_sided(one, two, "scores"):
        return answer
    if permuted(one, two):
        return EQUAL, "the same values; see row order"
    return compare_scores(one, two, "scores")


def check_submission(a: Record, b: Record) -> Answer:
    """Compare the flags by id."""
    one, two = a.flags(), b.flags()
    for which, record, flags in (("first", a, one), ("second", b, two)):
        if len(flags) < len(record.submission):
            doubled = [k for k, n in Counter(i for i, _ in record.submission).items() if n > 1]
            return DIFFERS, f"in the {which} run ids stand twice: {few(doubled)}"
    if answer := one_sided(one, two, "flags"):
        return answer
    moved, sums = changed(one, two), (sum(one.values()), sum(two.values()))
    if moved and sums[0] != sums[1]:
        words = f"{len(moved)} of {len(one)} flags differ; {sums[0]} and {sums[1]} are flagged"
        return DIFFERS, words
    if moved:
        return EQUAL, f"{sums[0]} flags each; see row order"
    return EQUAL, f"{len(one)} flags are equal"


CHECKS: dict[str, tuple[Callable[[Record, Record], Answer], tuple[str, ...]]] = {
    "parameters": (check_parameters, ("parameters",)),
    "data bytes": (check_data, ("data",)),
    "listing order": (check_listing, ("ids",)),
    "decoding": (check_decoding, ("decoding",)),
    "weights": (check_weights, ("weights",)),
    "features": (check_features, ("features",)),
    "coreset": (check_coreset, ("coresets",)),
    "validation": (check_validation, ("validation",)),
    "threshold": (check_threshold, ("threshold",)),
    "scores": (check_scores, ("scores",)),
    "submission": (check_submission, ("submission",)),
}
