"""Row orders, re-enacted: flags are written beside ids in the order in which files are listed.

All on the flat layout of the competition: one folder, images of all classes mixed.  The labels are
shuffled over the names in each draw, so no result hangs on which image has which name.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np

from studies.gap.listings import ext4_orders, file_systems, natural_order, raw_order
from studies.gap.unpacking import listed_after_unpacking, overlay_listings

NAME_SETS = 20  # sets of names, and of unpacking orders, that each file system is given
COMPUTED, LISTED = "computed", "listed by this machine"


@dataclass(frozen=True)
class RowOrders:
    """Orders in which systems or scripts of one kind list a flat test set.

    Parameters
    ----------
    orders : array of int, shape (n_orders, n_images)
        Row i gets the flag of image ``orders[k, i]``, numbered by sorted name.
    """

    name: str
    how: str
    orders: np.ndarray


def flat_names(n_images: int, prefix: str = "TEST_") -> list[str]:
    """Name files as the competition does, numbers padded with zeros."""
    return [f"{prefix}{number:0{len(str(n_images - 1))}d}.png" for number in range(n_images)]


def _positions(names: Sequence[str], listed: Sequence[str]) -> list[int]:
    number = {name: position for position, name in enumerate(names)}
    return [number[name] for name in listed]


def _doubled(n_images: int, doubled: Sequence[int]) -> list[int]:
    """List a folder in which some files stand twice, cut off at the number of ids."""
    # "a (1).png" sorts before "a.png": the copy and its original are neighbours.
    return sorted([*range(n_images), *doubled])[:n_images]


def computed_orders(n_images: int, *, draws: int, seed: int) -> list[RowOrders]:
    """Compute listings that hang on no machine: of file systems, of sorting, of scripts.

    Parameters
    ----------
    draws : int
        Hash seeds of ext4, and other random orders.
    """
    names, generator = flat_names(n_images), random.Random(seed)
    seeds = [UUID(int=generator.getrandbits(128)) for _ in range(draws)]
    shuffled = np.random.default_rng(seed).permuted(
        np.tile(np.arange(n_images), (draws, 1)), axis=1
    )
    unpadded = [f"TEST_{number}.png" for number in range(n_images)]
    doubled = {
        count: [_doubled(n_images, generator.sample(range(n_images), count)) for _ in range(draws)]
        for count in (1, max(1, n_images // 10))
    }
    found = {
        "ext4 directory, any hash seed": ext4_orders(names, seeds),
        "test loader that shuffles": shuffled,
        "tmpfs after sorted unpacking (reversed)": [list(range(n_images))[::-1]],
        "natural order, numbers padded": [_positions(names, natural_order(names))],
        "sorted as text, numbers not padded": [_positions(unpadded, sorted(unpadded))],
    }
    for count, orders in doubled.items():
        found[f"{count} file{'s' * (count > 1)} doubled as 'name (1).png'"] = orders
    return [RowOrders(name, COMPUTED, np.array(orders)) for name, orders in found.items()]


def machine_orders(n_images: int, *, seed: int) -> list[RowOrders]:
    """List files made for it on this machine's kinds of file system: many names, many unpackings.

    A kind that this machine does not have is left out.
    """
    generator = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    sets = [flat_names(n_images)]
    while len(sets) < NAME_SETS:
        sets.append(flat_names(n_images, "".join(generator.choices(letters, k=5)) + "_"))
    unpackings = {
        "unpacked sorted": sets,
        "unpacked in any order": [generator.sample(names, n_images) for names in sets],
    }
    found: list[RowOrders] = []
    for words, made in unpackings.items():
        listings = {
            system: [listed_after_unpacking(folder, names) for names in made]
            for system, folder in file_systems().items()
        }
        if "overlay" not in listings:
            over = [folder for system, folder in file_systems().items() if system != "overlay"]
            listings["overlay"] = overlay_listings(over[-1], made) if over else None
        for system, listed in sorted(listings.items()):
            if listed:
                orders = [_positions(n, each) for n, each in zip(sets, listed, strict=True)]
                found.append(RowOrders(f"{system}, {words}", LISTED, np.array(orders)))
    return found


def enact(flags: np.ndarray, orders: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """Give images to names at random, and rows their flags in each listed order.

    Parameters
    ----------
    flags : array of bool, shape (n_images,)
        A detector's answers.
    orders : array of int, shape (n_orders, n_images)
        Taken in turn.

    Returns
    -------
    array of bool, shape (draws, n_images)
        The flag that each image ends up with.
    """
    generator, n_images = np.random.default_rng(seed), len(flags)
    written = np.empty((draws, n_images), dtype=bool)
    for draw in range(draws):
        image = generator.permutation(n_images)  # of each name
        written[draw, image] = flags[image[orders[draw % len(orders)]]]
    return written


def f1_of_draws(labels: np.ndarray, written: np.ndarray) -> np.ndarray:
    """Return F1 of each row of flags, shape (draws,).

    Parameters
    ----------
    labels : array, shape (n_images,), or (draws, n_images)
    written : array of bool, shape (draws, n_images)
    """
    labels = np.broadcast_to(labels == 1, written.shape)
    below = written.sum(axis=1) + labels.sum(axis=1)
    return 2 * (written & labels).sum(axis=1) / np.maximum(below, 1)


def f1_of_parts(labels: np.ndarray, written: np.ndarray, *, seed: int) -> np.ndarray:
    """Return F1 over a random part of the images, a tenth to nine tenths of them, for each draw."""
    generator, n_images = np.random.default_rng(seed), len(labels)
    sizes = generator.integers(round(0.1 * n_images), round(0.9 * n_images) + 1, len(written))
    ranks = generator.permuted(np.tile(np.arange(n_images), (len(written), 1)), axis=1)
    part = ranks < np.maximum(sizes, 1)[:, None]
    return f1_of_draws(part & (labels == 1), part & written)


def chance_f1(labels: np.ndarray, flags: np.ndarray) -> float:
    """Return the F1 of as many flags, given to images at random, with the mean number of hits."""
    flagged, positives = int(np.sum(flags)), int(np.sum(labels == 1))
    return 2 * flagged * positives / len(labels) / max(1, flagged + positives)


@dataclass(frozen=True)
class OrderEffect:
    """What one kind of row order does to a detector's answers, over all draws.

    Parameters
    ----------
    moved, wrong : float
        Median number of rows out of place, and of images with a wrong flag.
    f1 : tuple of float or None
        Mean, and the middle 95 %, over all images; ``None`` without labels.
    part : tuple of float or None
        The middle 95 % over parts of the images.
    """

    name: str
    how: str
    n_orders: int
    moved: float
    wrong: float
    f1: tuple[float, float, float] | None
    part: tuple[float, float] | None


def order_effect(
    kind: RowOrders, flags: np.ndarray, labels: np.ndarray | None, *, draws: int, seed: int
) -> OrderEffect:
    """Measure one kind of row order; ``draws`` shuffles of the labels, at least one an order."""
    written = enact(flags, kind.orders, draws=max(draws, len(kind.orders)), seed=seed)
    moved = (kind.orders != np.arange(len(flags))).sum(axis=1)
    f1 = part = None
    if labels is not None:
        values = f1_of_draws(labels, written)
        f1 = (float(values.mean()), *map(float, np.quantile(values, [0.025, 0.975])))
        parts = f1_of_parts(labels, written, seed=seed)
        part = tuple(map(float, np.quantile(parts, [0.025, 0.975])))
    wrong = (written != flags).sum(axis=1)
    return OrderEffect(
        kind.name, kind.how, len(kind.orders), float(np.median(moved)), float(np.median(wrong)),
        f1, part,
    )  # fmt: skip


def own_folder(data: str | Path, paths: Sequence[str]) -> list[RowOrders]:
    """List the data's own test folder; nothing where classes have folders of their own."""
    if len({path.rpartition("/")[0] for path in paths}) != 1:
        return []
    order = _positions(paths, raw_order(data, paths))
    return [RowOrders("the data's own folder", LISTED, np.array([order]))]
