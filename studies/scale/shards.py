"""Patch features in many files, with an index that knows their hashes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ad.determinism import sha256_file
from ad.files import load_array, read_json, write_json

INDEX = "index.json"


@dataclass(frozen=True)
class Shards:
    """Patches of many images, one file behind the other.

    Parameters
    ----------
    folder : str
    names, hashes : sequence of str
        Files (``.npy``, shape (n_images, h, w, dim) or (n, dim)), and their SHA-256.
    sizes : sequence of int
        Patches in each.
    unit : float
        What a difference of 1 between features stands for.
    offset : int
        Row of the first patch, where these are a part of more shards.
    """

    folder: str
    names: Sequence[str]
    hashes: Sequence[str]
    sizes: Sequence[int]
    unit: float = 1.0
    offset: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def total(self) -> int:
        """Return the number of all patches."""
        return sum(self.sizes)

    def start(self, number: int) -> int:
        """Return the row of a shard's first patch among all."""
        return self.offset + sum(self.sizes[:number])

    def images(self, number: int) -> np.ndarray:
        """Map a shard as it lies on disk, after its hash was compared.

        Raises
        ------
        ValueError
            When the file is missing or another than the index's.
        """
        path = Path(self.folder) / self.names[number]
        if not path.is_file() or sha256_file(path) != self.hashes[number]:
            raise ValueError(f"{path} is not the index's shard; delete it and run again")
        return load_array(path)

    def patches(self) -> np.ndarray:
        """Read all shards as one array, shape (n, dim)."""
        whole, end = np.empty(0), 0
        for number, size in enumerate(self.sizes):  # one at a time: twice would count as memory
            part = np.array(self.images(number))
            if not number:
                whole = np.empty((sum(self.sizes), part.shape[-1]), part.dtype)
            whole[end : end + size] = part.reshape(-1, part.shape[-1])
            end += size
        return whole

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return patches by their rows among all, shape (len(rows), dim)."""
        owner = np.searchsorted(np.cumsum(self.sizes), rows, side="right")
        found = [np.empty(0)] * len(rows)
        for number in np.unique(owner).tolist():
            part = self.images(number)
            part = part.reshape(-1, part.shape[-1])
            for place in np.flatnonzero(owner == number).tolist():
                found[place] = part[rows[place] - self.start(number)]
        return np.stack(found)

    def sample(self, count: int) -> np.ndarray:
        """Return about so many patches, evenly spread, shape (n, dim)."""
        return self.take(np.arange(0, self.total, max(1, self.total // count)))

    def parts(self, count: int) -> list["Shards"]:
        """Deal successive shards out in so many parts, or one a shard where that is fewer."""
        split = np.array_split(np.arange(len(self)), min(count, len(self)))
        return [self._part(slice(part[0], part[-1] + 1)) for part in split]

    def _part(self, at: slice) -> "Shards":
        kept = {"names": self.names[at], "hashes": self.hashes[at], "sizes": self.sizes[at]}
        return replace(self, **kept, offset=self.start(at.start))

    def write(self) -> None:
        """Write the index."""
        write_json(Path(self.folder) / INDEX, asdict(self))


def read_shards(folder: str | Path) -> Shards:
    """Read the index of a folder of shards.

    Raises
    ------
    ValueError
        When there is none.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise ValueError(f"{path}: no index; the extraction did not finish, run it again")
    return Shards(**{**read_json(path), "folder": str(folder)})


def index_of(folder: Path, names: Sequence[str], unit: float = 1.0) -> Shards:
    """Make the index of files that are there."""
    shapes = [load_array(folder / name).shape for name in names]
    sizes = [int(np.prod(shape[:-1])) for shape in shapes]
    hashes = [sha256_file(folder / name) for name in names]
    return Shards(str(folder), list(names), hashes, sizes, unit)
