"""Orders in which systems and scripts list the same files, and what they do to a submission.

The mistake re-enacted: a script scores the files in the order in which the system lists them, and
writes answer i beside the i-th id of the sample submission, which is sorted.  Windows lists a
folder by name, so nothing shows there; Linux does not.
"""

import random
import re
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pandas as pd

HARMLESS = ("Windows (NTFS)", "natural order, numbers padded")


def flat_names(n_images: int) -> list[str]:
    """Name files as the competition does, in one folder, numbers padded with zeros."""
    return [f"TEST_{number:03d}.png" for number in range(n_images)]


def ntfs_order(names: Sequence[str]) -> list[str]:
    """Order names as NTFS lists a folder: a tree sorted by name, letters compared as capitals."""
    return sorted(names, key=lambda name: (name.upper(), name))


def natural_order(names: Sequence[str]) -> list[str]:
    """Order names with numbers by value: 2 before 10, as file managers show them."""
    return sorted(
        names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]
    )


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


def _positions(names: Sequence[str], listed: Sequence[str]) -> list[int]:
    rank = {name: position for position, name in enumerate(names)}
    return [rank[name] for name in listed]


def _two_layers(n_images: int, below: np.ndarray, generator: random.Random) -> list[int]:
    """List an overlay whose files lie in two layers: the lower's before the upper's."""
    upper = set(generator.sample(range(n_images), n_images // 2))
    return [i for i in below if i not in upper] + [i for i in below if i in upper]


def _doubled(n_images: int, twice: Sequence[int]) -> list[int]:
    """List a folder where some files stand twice, cut off at the number of ids."""
    # "a (1).png" sorts before "a.png": the copy and its original are neighbours.
    return sorted([*range(n_images), *twice])[:n_images]


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
    names, generator = flat_names(n_images), random.Random(seed)
    unpadded = [f"TEST_{number}.png" for number in range(n_images)]
    ext4 = ext4_orders(names, [UUID(int=generator.getrandbits(128)) for _ in range(draws)])
    in_order = np.tile(np.arange(n_images), (draws, 1))
    found = {
        "Windows (NTFS)": [_positions(names, ntfs_order(names))],
        "natural order, numbers padded": [_positions(names, natural_order(names))],
        "Linux (ext4)": ext4,
        "Linux (overlay, two layers)": [_two_layers(n_images, row, generator) for row in ext4],
        "Linux (tmpfs): the last written first": [list(range(n_images))[::-1]],
        "shuffled by the loader": np.random.default_rng(seed).permuted(in_order, axis=1),
        "sorted as text, numbers not padded": [_positions(unpadded, sorted(unpadded))],
        "ids shifted by one row": [[*range(1, n_images), 0]],
        "one file stands twice": [
            _doubled(n_images, [generator.randrange(n_images)]) for _ in range(draws)
        ],
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


def ids_of(paths: Sequence[str], separator: str) -> list[str]:
    r"""Take ids from paths by splitting at a separator, as scripts do.

    ``test/TEST_000.png`` split at ``/`` gives ``TEST_000``; Windows writes ``test\TEST_000.png``,
    of which a split at ``/`` leaves all, so that no id finds its row.
    """
    return [path.split(separator)[-1].removesuffix(".png") for path in paths]
