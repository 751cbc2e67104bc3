"""Two models whose flags were moved by one and the same row order: their hits go together."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import product
from math import comb, fsum, prod

from studies.gap.enumeration import Reading, Reported, explanations, splits
from studies.gap.forensics import flag_window, working_counts

Overlap = Callable[[int, int], dict[int, float]]


@cache
def working_overlap(n_anomalous: int, n_normal: int, working: float) -> Overlap:
    """Model how many images two working detectors both flag, given how many each flags.

    Given the class, their errors are independent: of TP1 and TP2 flagged anomalous images a
    hypergeometric number is flagged by both, and so for the normal ones.

    Returns
    -------
    function of (flags of one, flags of the other)
        Gives the distribution of the number of images that both flag.
    """
    hits = working_counts(n_anomalous, working)
    alarms = working_counts(n_normal, working)[::-1]

    @cache
    def given(flags: int) -> dict[int, float]:
        pairs = range(max(0, flags - n_normal), min(flags, n_anomalous) + 1)
        chances = {tp: hits[tp] * alarms[flags - tp] for tp in pairs}
        total = sum(chances.values())
        return {tp: float(chance / total) for tp, chance in chances.items() if chance}

    @cache
    def overlap(one: int, two: int) -> dict[int, float]:
        found = [0.0] * (min(one, two) + 1)
        for (tp_one, chance_one), (tp_two, chance_two) in product(
            given(one).items(), given(two).items()
        ):
            alarms_both = common(n_normal, one - tp_one, two - tp_two)
            for hits_both, chance in common(n_anomalous, tp_one, tp_two).items():
                chance *= chance_one * chance_two
                for count, other in alarms_both.items():
                    found[hits_both + count] += chance * other
        return {count: chance for count, chance in enumerate(found) if chance}

    return overlap


def largest_overlap(one: int, two: int) -> dict[int, float]:
    """Let the model with fewer flags flag nothing that the other does not."""
    return {min(one, two): 1.0}


@cache
def common(n_images: int, one: int, two: int) -> dict[int, float]:
    """Distribution of how many images two random sets of sizes ``one`` and ``two`` share."""
    counts = range(max(0, one + two - n_images), min(one, two) + 1)
    total = comb(n_images, two)
    return {k: comb(one, k) * comb(n_images - one, two - k) / total for k in counts}


@cache
def _packed(size: int, one: int, two: int, bits: int) -> int:
    """Count the sets of ``two`` of ``size`` images by their overlap with a set of ``one``.

    The counts are the coefficients of a polynomial in the overlap, packed into one integer, so
    that multiplying integers convolves them exactly.  ``bits`` is the room of a coefficient.
    """
    counts = range(max(0, one + two - size), min(one, two) + 1)
    return sum(comb(one, k) * comb(size - one, two - k) << (bits * k) for k in counts)


def _joint_chance(
    cells: tuple[int, ...], one: tuple[int, ...], two: tuple[int, ...], overlap: dict[int, float]
) -> float:
    """Chance that two sets of flags fall into the cells as given, under one random row order.

    Parameters
    ----------
    cells : tuple of int, length 4
        Images: public anomalous, public normal, private anomalous, private normal.
    one, two : tuples of int, length 4
        Flags of each model in each cell.
    overlap : dict
        Probability of each number of images that both flag.
    """
    n_images, flags, others = sum(cells), sum(one), sum(two)
    bits = n_images + 1  # a coefficient counts sets of images: it is at most 2^n_images
    ways = prod(_packed(*each, bits) for each in zip(cells, one, two, strict=True))
    mask = (1 << bits) - 1
    terms = []
    for both, chance in overlap.items():
        count = (ways >> (bits * both)) & mask  # sets of the second model with this overlap
        if count and both <= others:
            total = comb(flags, both) * comb(n_images - flags, others - both)
            terms.append(chance * (count / total))
    return fsum(terms) * (prod(map(comb, cells, one)) / comb(n_images, flags))


def _cells(reading: Reading, split: tuple[int, int]) -> tuple[int, ...]:
    size, count = split
    rest = reading.n_anomalous - count, reading.n_normal - size + count
    return count, size - count, *rest


def _flags_by_split(
    reported: Reported, reading: Reading, window: range
) -> dict[int, list[tuple[int, ...]]]:
    """Collect the flags in the four cells that print a model's pair, split by split."""
    found = explanations(reported, reading)
    keys = ("split", "public_tp", "public_fp", "tp", "fp")
    by_split: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for split, one_tp, one_fp, tp, fp in zip(*(found[key].tolist() for key in keys), strict=True):
        if tp + fp in window:
            by_split[split].append((one_tp, one_fp, tp - one_tp, fp - one_fp))
    return by_split


def shared_order_likelihood(
    models: Sequence[Reported], reading: Reading, *, overlap: Overlap, window: float
) -> float:
    """Probability of the values of two models whose flags one random row order moved.

    Each number of flags in the window is as likely, for each model, as in all other causes.

    Parameters
    ----------
    models : sequence of Reported
        Two of them.
    overlap : function
        `largest_overlap`, or what `working_overlap` returns.
    """
    if len(models) != 2:
        raise ValueError(f"{len(models)} models; a shared row order is worked out for 2")
    flags = flag_window(reading, window)
    ones, twos = (_flags_by_split(model, reading, flags) for model in models)
    terms = []
    for number, (split, weight) in enumerate(zip(*splits(reading), strict=True)):
        cells = _cells(reading, split)
        for one in ones.get(number, ()):
            for two in twos.get(number, ()):
                chance = _joint_chance(cells, one, two, overlap(sum(one), sum(two)))
                terms.append(weight * chance)
    return float(Fraction(1, len(flags) ** 2)) * fsum(terms)
