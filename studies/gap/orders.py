"""Orders in which systems and scripts list the same files, and what they do to a submission.

The mistake re-enacted: a script scores the files in the order in which the system lists them, and
writes answer i beside the i-th id of the sample submission, which is sorted.  Windows lists a
folder by name, so nothing shows there; Linux does not.
"""

import random
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pandas as pd


def ext4_orders(names: Sequence[str], seeds: Sequence[UUID]) -> np.ndarray:
    """List names as ext4 folders with these hash seeds do; each disk draws its own when it is made.

    Returns
    -------
    array of int, shape (n_seeds, n_names)
        Positions in ``names``.
    """
    words = np.array([np.frombuffer(seed.bytes, dtype="<u4") for seed in seeds])
    return np.argsort([half_md4(name, words) for name in names], axis=0).T


def half_md4(name: str, seeds: np.ndarray) -> np.ndarray:
    """Hash an ASCII name as an ext4 folder does (``half_md4`` of Linux's fs/ext4/hash.c).

    Parameters
    ----------
    seeds : array of uint32, shape (n, 4)

    Returns
    -------
    array of uint64, shape (n,)
        The hash, and below it the minor hash: a folder is listed by rising values.
    """
    state, rest = seeds.T.astype(np.uint32).copy(), name.encode()
    while rest:
        # 32 letters at a time; words not filled hold the length of the rest, byte by byte.
        pad = (len(rest) | len(rest) << 8) * 0x10001 & 0xFFFFFFFF
        words = []
        for start in range(0, 32, 4):
            word = pad
            for letter in rest[:32][start : start + 4]:
                word = (letter + (word << 8)) & 0xFFFFFFFF
            words.append(np.uint32(word))
        state += _rounds(state, words)
        rest = rest[32:]
    # The lowest bit marks collisions and is no part of the hash.
    return (state[1] & ~np.uint32(1)).astype(np.uint64) << np.uint64(32) | state[2]


def _rounds(state: np.ndarray, words: Sequence[np.uint32]) -> np.ndarray:
    """Run MD4's three rounds of eight steps each; sums are modulo 2^32."""
    a, b, c, d = state.copy()
    for mix, constant, turns, order in (
        (lambda x, y, z: z ^ (x & (y ^ z)), 0, (3, 7, 11, 19), (0, 1, 2, 3, 4, 5, 6, 7)),
        (lambda x, y, z: (x & y) + ((x ^ y) & z), 0x5A827999, (3, 5, 9, 13),
         (1, 3, 5, 7, 0, 2, 4, 6)),
        (lambda x, y, z: x ^ y ^ z, 0x6ED9EBA1, (3, 9, 11, 15), (3, 7, 2, 6, 1, 5, 0, 4)),
    ):  # fmt: skip
        with np.errstate(over="ignore"):
            for step, word in enumerate(order):
                total = a + mix(b, c, d) + words[word] + np.uint32(constant)
                turn = np.uint32(turns[step % 4])
                a, b, c, d = d, total << turn | total >> (np.uint32(32) - turn), b, c
    return np.stack([a, b, c, d])


def _two_layers(n_images: int, below: np.ndarray, generator: random.Random) -> list[int]:
    """List an overlay whose files lie in two layers: the lower's before the upper's."""
    upper = set(generator.sample(range(n_images), n_images // 2))
    return sorted(below, key=upper.__contains__)  # which keeps the order within a layer


def _one_twice(n_images: int, generator: random.Random) -> list[int]:
    """List a folder where one file stands twice, cut off at the number of ids."""
    # "a (1).png" sorts before "a.png": the copy and its original are neighbours.
    return sorted([*range(n_images), generator.randrange(n_images)])[:n_images]


def listings(n_images: int, *, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Compute listings of the competition's flat test folder; none hangs on this machine.

    Parameters
    ----------
    draws : int
        Orders of each kind that has more than one.

    Returns
    -------
    dict of array of int, shape (n_orders, n_images)
        Row i of the submission gets the answer of image ``orders[k, i]``, by sorted name.
    """
    generator, order = random.Random(seed), np.arange(n_images)
    names = [f"TEST_{number:03d}.png" for number in order]
    unpadded = [f"TEST_{number}.png" for number in order]
    ext4 = ext4_orders(names, [UUID(int=generator.getrandbits(128)) for _ in range(draws)])
    found = {
        "Windows (NTFS)": [np.argsort(names)],  # a tree sorted by name
        "natural order, numbers padded": [order],  # numbers by value, as file managers show them
        "Linux (ext4)": ext4,
        "Linux (overlay, two layers)": [_two_layers(n_images, row, generator) for row in ext4],
        "Linux (tmpfs): the last written first": [order[::-1]],
        "shuffled by the loader": np.random.default_rng(seed).permuted(
            np.tile(order, (draws, 1)), axis=1
        ),
        "sorted as text, numbers not padded": [np.argsort(unpadded)],
        "ids shifted by one row": [np.roll(order, -1)],
        "one file stands twice": [_one_twice(n_images, generator) for _ in range(draws)],
    }
    return {name: np.array(orders) for name, orders in found.items()}


def written(flags: np.ndarray, orders: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """Write answers in listed orders; which image has which name is drawn anew each time.

    Parameters
    ----------
    flags : array of bool, shape (n_images,)
        A detector's answers.
    orders : array of int, shape (n_orders, n_images)
        Taken in turn.

    Returns
    -------
    array of bool, shape (draws, n_images)
        The answer that each image ends up with.
    """
    generator, n_images = np.random.default_rng(seed), len(flags)
    ends = np.empty((draws, n_images), dtype=bool)
    for draw in range(draws):
        image = generator.permutation(n_images)  # of each name
        ends[draw, image] = flags[image[orders[draw % len(orders)]]]
    return ends


def f1_of_draws(labels: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Return the F1 of each row of flags (draws, n_images), shape (draws,)."""
    labels = np.asarray(labels) == 1
    return 2 * (flags & labels).sum(axis=1) / (flags.sum(axis=1) + labels.sum())


def order_effects(flags: np.ndarray, labels: np.ndarray, *, draws: int, seed: int) -> pd.DataFrame:
    """Tabulate what each kind of listing does to a submission joined by position.

    Returns
    -------
    DataFrame
        Indexed by listing: rows out of place (median), wrong flags (median), F1 (mean, and the
        ends of the middle 95 %).
    """
    rows = {}
    for name, orders in listings(len(flags), draws=draws, seed=seed).items():
        ends = written(flags, orders, draws=draws, seed=seed)
        f1 = f1_of_draws(labels, ends)
        rows[name] = {
            "rows out of place": np.median((orders != np.arange(len(flags))).sum(axis=1)),
            "wrong flags": np.median((ends != flags).sum(axis=1)),
            "F1": f1.mean(),
            "low": np.quantile(f1, 0.025),
            "high": np.quantile(f1, 0.975),
        }
    return pd.DataFrame(rows).T
