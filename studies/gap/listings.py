"""Orders in which a system, or a script, may list the same files."""

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pages.environment import file_system


def hash_order(names: Sequence[str]) -> list[str]:
    """Order names by a hash of them, as a hashed directory or an unordered set would."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def natural_order(names: Sequence[str]) -> list[str]:
    """Order names with numbers by value: 2 before 10."""
    return sorted(
        names,
        key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)],
    )


def unpadded_order(names: Sequence[str]) -> list[str]:
    """Order names as text after their numbers lost leading zeros: 10 before 2."""
    return sorted(names, key=lambda name: re.sub(r"(?<!\d)0+(?=\d)", "", name))


def raw_order(root: str | Path, paths: Sequence[str]) -> list[str]:
    """Order relative paths as the file system under ``root`` lists them, folder by folder."""
    wanted = set(paths)
    found: list[str] = []

    def walk(folder: Path) -> None:
        for entry in os.scandir(folder):  # raw order: it is the question
            if entry.is_dir():
                walk(Path(entry.path))
            else:
                relative = Path(entry.path).relative_to(root).as_posix()
                if relative in wanted:
                    found.append(relative)

    for top in dict.fromkeys(path.split("/")[0] for path in paths):
        walk(Path(root) / top)
    return found


def raw_listings(data: str | Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """List paths as the data's file system does, and as this machine's other kinds of it do."""
    listed = {f"raw {file_system(data)}": raw_order(data, paths)}
    for folder in (Path(tempfile.gettempdir()), Path("/dev/shm")):
        name = f"raw {file_system(folder)}"
        if folder.is_dir() and name not in listed:
            listed[name] = listing_elsewhere(folder, paths)
    return listed


def listing_elsewhere(parent: str | Path, paths: Sequence[str]) -> list[str]:
    """List files of these names as the file system of another folder would.

    Parameters
    ----------
    parent : path
        Empty files are created below it, in sorted order, and removed again.
    paths : sequence of str
        Relative paths with forward slashes.

    Returns
    -------
    list of str
        The same paths, in raw order.
    """
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        for path in sorted(paths):
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).touch()
        return raw_order(folder, paths)
