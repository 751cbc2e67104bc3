"""List every confusion table, of every split of a test set, that prints the reported F1 values.

A leaderboard prints the F1 of a public and of a private part of the test set.  F1 = 2 TP / (flags +
anomalous images) is a fraction of small whole numbers, so a printed value leaves few tables.  All
comparisons are between integers: no border is lost to rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import comb

import numpy as np

ROUNDINGS = ("round", "truncate", "either")
PARTS = ("public", "private")


@dataclass(frozen=True)
class Reported:
    """One model's printed F1 values, as text, digit by digit."""

    name: str
    public: str
    private: str


@dataclass(frozen=True)
class Reading:
    """How the printed values are read and how the test set may be split.

    Parameters
    ----------
    n_images, n_anomalous : int
        Composition of the test set.
    public_sizes : tuple of int
        Possible numbers of public images; each is as likely as the others.
    private : {"rest", "all"}
        The private part is the images that are not public, or all of them.
    digits : {"given", "zeros dropped"}
        Digits as printed, or to the longest of the model's two values (0.44 beside 0.35714 then
        means 0.44000).
    rounding : {"round", "truncate", "either"}
    stratified : bool
        The public part has the anomalous share of the whole (to the nearest image); otherwise it is
        drawn at random.
    other_private : str
        Private F1 that another entrant of the same competition printed: only splits whose private
        part can print it are left.  Empty: all splits.
    """

    n_images: int = 100
    n_anomalous: int = 40
    public_sizes: tuple[int, ...] = tuple(range(10, 95, 5))
    private: str = "rest"
    digits: str = "given"
    rounding: str = "either"
    stratified: bool = False
    other_private: str = ""

    def __post_init__(self) -> None:
        """Refuse words and sizes that mean nothing."""
        for name, allowed in (
            ("private", ("rest", "all")),
            ("digits", ("given", "zeros dropped")),
            ("rounding", ROUNDINGS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {' or '.join(allowed)}")
        if not 0 < self.n_anomalous < self.n_images:
            raise ValueError(f"n_anomalous={self.n_anomalous} must be 1 to {self.n_images - 1}")
        for size in self.public_sizes:
            if not 0 < size < self.n_images:
                raise ValueError(f"public_sizes: {size} must be 1 to {self.n_images - 1}")

    @property
    def n_normal(self) -> int:
        """Count the normal images."""
        return self.n_images - self.n_anomalous


def parse_reported(text: str) -> list[Reported]:
    """Read ``name:public:private`` for each model, with commas between models."""
    models = []
    for part in text.split(","):
        fields = part.strip().split(":")
        if len(fields) != 3:
            raise ValueError(f"{part!r} is not name:public:private, as in ResNet-50:0.3846:0.375")
        decimals(fields[1]), decimals(fields[2])
        models.append(Reported(*fields))
    return models


def decimals(text: str) -> int:
    """Count the digits behind the point of a printed value."""
    whole, point, behind = text.partition(".")
    if not (whole.isdigit() and (behind.isdigit() or not point)):
        raise ValueError(f"{text!r} is no printed F1; write it as a decimal such as 0.44")
    return len(behind)


def shares_of(n_images: int, percentages: range | tuple[int, ...]) -> tuple[int, ...]:
    """Turn percentages of a test set into different numbers of images."""
    sizes = {round(n_images * each / 100) for each in percentages}
    return tuple(sorted(size for size in sizes if 0 < size < n_images))


def standard_reading(n_images: int, n_anomalous: int, *, other_private: str = "") -> Reading:
    """Read values of a test set whose public part is any tenth to nine tenths of it."""
    sizes = shares_of(n_images, range(10, 95, 5))
    return Reading(n_images, n_anomalous, sizes, other_private=other_private)


def printed_as(
    numerator: np.ndarray, denominator: np.ndarray, text: str, *, digits: int, rounding: str
) -> np.ndarray:
    """Tell which fractions print as ``text``.

    Parameters
    ----------
    numerator, denominator : arrays of int
        A zero denominator never matches.
    text : str
        The printed value.
    digits : int
        Digits behind the point that it stands for.
    rounding : {"round", "truncate", "either"}
        Halves may round either way.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding={rounding!r} must be {' or '.join(ROUNDINGS)}")
    scale = 10**digits
    value = Fraction(text) * scale
    if value.denominator != 1:
        raise ValueError(f"{text} has more than digits={digits} digits")
    top, below = numerator * scale, denominator * int(value)
    rounds = (2 * top >= 2 * below - denominator) & (2 * top <= 2 * below + denominator)
    truncates = (top >= below) & (top < below + denominator)
    match = {"round": rounds, "truncate": truncates, "either": rounds | truncates}[rounding]
    return match & (denominator > 0)


@cache
def matching_tables(
    text: str, n_images: int, n_anomalous: int, *, digits: int | None = None, rounding: str
) -> np.ndarray:
    """Enumerate the confusion tables whose F1 prints as ``text``.

    Returns
    -------
    array of int, shape (n_tables, 2)
        TP and FP; FN and TN follow from the counts.
    """
    tp, fp = np.mgrid[: n_anomalous + 1, : n_images - n_anomalous + 1]
    digits = decimals(text) if digits is None else digits
    match = printed_as(2 * tp, tp + fp + n_anomalous, text, digits=digits, rounding=rounding)
    tables = np.argwhere(match)
    tables.setflags(write=False)  # the cache hands out this very array
    return tables


def _private_part(reading: Reading, size: int, count: int) -> tuple[int, int]:
    """Count images and anomalous images of the private part of one split."""
    if reading.private == "all":
        return reading.n_images, reading.n_anomalous
    return reading.n_images - size, reading.n_anomalous - count


@cache
def splits(reading: Reading) -> tuple[list[tuple[int, int]], list[float]]:
    """List the splits that a reading allows.

    Returns
    -------
    list of (public images, public anomalous images)
    list of float
        Their prior probabilities; of the splits that print the other entrant's value they sum to 1.
        Both lists are empty where no split prints it.
    """
    found: dict[tuple[int, int], Fraction] = {}
    for size in reading.public_sizes:
        counts = range(max(0, size - reading.n_normal), min(size, reading.n_anomalous) + 1)
        for count in counts:
            chance = Fraction(
                comb(reading.n_anomalous, count) * comb(reading.n_normal, size - count),
                comb(reading.n_images, size),
            )
            if reading.stratified:
                exact = round(Fraction(size * reading.n_anomalous, reading.n_images))
                chance = Fraction(int(count == exact))
            part = _private_part(reading, size, count)
            if chance and (
                not reading.other_private
                or len(matching_tables(reading.other_private, *part, rounding=reading.rounding))
            ):
                found[size, count] = chance
    total = sum(found.values())
    return list(found), [float(chance / total) for chance in found.values()]


@cache
def explanations(reported: Reported, reading: Reading) -> dict[str, np.ndarray]:
    """Enumerate every split and pair of confusion tables that print both values of a model.

    Returns
    -------
    dict of arrays of int, shape (n_explanations,)
        ``split`` (its number in `splits`), ``public_images``, ``public_anomalous``, ``public_tp``,
        ``public_fp``, and over all images ``tp``, ``fp``.
    """
    digits = [decimals(reported.public), decimals(reported.private)]
    if reading.digits == "zeros dropped":
        digits = [max(digits)] * 2
    nested, rounding = reading.private == "all", reading.rounding
    found = [np.empty((0, 7), dtype=np.int64)]
    for number, (size, count) in enumerate(splits(reading)[0]):
        part = _private_part(reading, size, count)
        public = matching_tables(reported.public, size, count, digits=digits[0], rounding=rounding)
        private = matching_tables(reported.private, *part, digits=digits[1], rounding=rounding)
        one, two = np.repeat(public, len(private), axis=0), np.tile(private, (len(public), 1))
        total = two if nested else one + two
        rest, limits = total - one, (reading.n_anomalous - count, reading.n_normal - size + count)
        fits = ((rest >= 0) & (rest <= limits)).all(axis=1)
        head = np.tile((number, size, count), (len(one), 1))
        found.append(np.hstack([head, one, total])[fits])
    names = ("split", "public_images", "public_anomalous", "public_tp", "public_fp", "tp", "fp")
    return dict(zip(names, np.concatenate(found).T, strict=True))


@dataclass(frozen=True)
class FlagCounts:
    """How many flags in all can print a model's pair, over every split of any size.

    Parameters
    ----------
    private, digits, evidence
        The reading; ``evidence`` tells whether the other entrant's value was used.
    counts : tuple of int
        Numbers of flags, ascending; empty where nothing prints the pair.
    after_private : bool
        Whether the pair can come from flags that were all right in the private part, reordered.
    """

    model: str
    private: str
    digits: str
    evidence: bool
    counts: tuple[int, ...]
    after_private: bool

    def distance(self, flags: int) -> int | None:
        """Return how far ``flags`` is from the nearest count; ``None`` if there is none."""
        return min((abs(count - flags) for count in self.counts), default=None)


def flag_counts(reported: Reported, reading: Reading) -> FlagCounts:
    """Collect the numbers of flags that can print a model's pair, whatever the public size.

    A run with F1 = 1 over all images raised exactly ``n_anomalous`` flags, and reordering keeps
    their number.  A run with F1 = 1 over the private part alone raised one for each anomalous
    private image and, in the public part, anything from none to all.
    """
    sizes = tuple(range(1, reading.n_images))
    wide = Reading(**{**reading.__dict__, "public_sizes": sizes})
    found = explanations(reported, wide)
    flags = found["tp"] + found["fp"]
    private = reading.n_anomalous - found["public_anomalous"]
    inside = (flags >= private) & (flags <= private + found["public_images"])
    exact = flags == reading.n_anomalous  # where the private part is all images
    return FlagCounts(
        reported.name,
        reading.private,
        reading.digits,
        bool(reading.other_private),
        tuple(np.unique(flags).tolist()),
        bool((exact if reading.private == "all" else inside).any()),
    )


def reported_case(forensics: Mapping) -> tuple[list[Reported], Reading]:
    """Take the printed values and how they are read from what the forensics wrote."""
    reading = standard_reading(**forensics["reading"])
    if not splits(reading)[0]:  # no split prints the other entrant's value
        reading = replace(reading, other_private="")
    return [Reported(**model) for model in forensics["models"]], reading


def named_values(models: Sequence[Reported]) -> dict[str, float]:
    """Name each printed value by model and part."""
    return {f"{m.name} {part}": float(getattr(m, part)) for m in models for part in PARTS}
