"""Orders in which a system, or a script, may list the same files."""

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from pages.environment import file_system


def hash_order(names: Sequence[str]) -> list[str]:
    """Order names by a hash of them, as an unordered set would."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def natural_order(names: Sequence[str]) -> list[str]:
    """Order names with numbers by value: 2 before 10."""
    return sorted(
        names,
        key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)],
    )


def half_md4(name: str, seed: np.ndarray) -> np.ndarray:
    """Hash a name as an ext4 directory does (``half_md4`` of fs/ext4/hash.c), for many seeds.

    Parameters
    ----------
    name : str
        ASCII.
    seed : array of uint32, shape (n, 4)
        Each file system draws its own when it is made.

    Returns
    -------
    array of uint64, shape (n,)
        The hash, and below it the minor hash: ext4 lists a directory by rising values.
    """
    state, rest = seed.T.astype(np.uint32).copy(), name.encode()
    while rest:
        pad = (len(rest) | len(rest) << 8) * 0x10001 & 0xFFFFFFFF
        words = []
        for start in range(0, 32, 4):
            word = pad
            for letter in rest[:32][start : start + 4]:
                word = (letter + (word << 8)) & 0xFFFFFFFF
            words.append(np.uint32(word))
        state += _half_md4_rounds(state, words)
        rest = rest[32:]
    return (state[1] & ~np.uint32(1)).astype(np.uint64) << np.uint64(32) | state[2]


def _half_md4_rounds(state: np.ndarray, words: Sequence[np.uint32]) -> np.ndarray:
    a, b, c, d = state.copy()
    for mix, constant, turns, order in (
        (lambda x, y, z: z ^ (x & (y ^ z)), 0, (3, 7, 11, 19), (0, 1, 2, 3, 4, 5, 6, 7)),
        (lambda x, y, z: (x & y) + ((x ^ y) & z), 0x5A827999, (3, 5, 9, 13),
         (1, 3, 5, 7, 0, 2, 4, 6)),
        (lambda x, y, z: x ^ y ^ z, 0x6ED9EBA1, (3, 9, 11, 15), (3, 7, 2, 6, 1, 5, 0, 4)),
    ):  # fmt: skip
        with np.errstate(over="ignore"):  # sums are modulo 2^32
            for number, word in enumerate(order):
                total = a + mix(b, c, d) + words[word] + np.uint32(constant)
                turn = np.uint32(turns[number % 4])
                a, b, c, d = d, total << turn | total >> (np.uint32(32) - turn), b, c
    return np.stack([a, b, c, d])


def ext4_orders(names: Sequence[str], seeds: Sequence[UUID]) -> np.ndarray:
    """List names as ext4 directories with these hash seeds do.

    Returns
    -------
    array of int, shape (n_seeds, n_names)
        Positions in ``names``.
    """
    words = np.array([np.frombuffer(seed.bytes, dtype="<u4") for seed in seeds])
    return np.argsort([half_md4(name, words) for name in names], axis=0).T


def raw_order(root: str | Path, paths: Sequence[str]) -> list[str]:
    """Order relative paths as the file system under ``root`` lists them, folder by folder."""
    wanted = set(paths)
    found: list[str] = []

    def walk(folder: Path) -> None:
        for entry in os.scandir(folder):  # any order: it is the question
            if entry.is_dir():
                walk(Path(entry.path))
            else:
                relative = Path(entry.path).relative_to(root).as_posix()
                if relative in wanted:
                    found.append(relative)

    for top in dict.fromkeys(path.split("/")[0] for path in paths):
        walk(Path(root) / top)
    return found


def file_systems() -> dict[str, Path]:
    """Name the kinds of file system on which this machine lets files be made for a moment."""
    folders = (Path(tempfile.gettempdir()), Path.cwd(), Path("/dev/shm"))
    return {
        file_system(folder): folder for folder in reversed(folders) if os.access(folder, os.W_OK)
    }
