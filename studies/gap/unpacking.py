"""Make files in some order in a new folder, and list it as its file system does.

Usage: python -m studies.gap.unpacking FOLDER < NAMES    a line of names (a/b/c) gives such a line

Imports nothing heavy: it also runs as a process of its own, on a file system of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Mounted for one process only, in name spaces of its own; needs no rights on most Linux systems.
_OVERLAY = """set -e; cd "$0"; mkdir lower upper work merged
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
exec "$1" -m studies.gap.unpacking merged"""


def listed_after_unpacking(folder: Path, names: Sequence[str]) -> list[str]:
    """Create empty files of these names in this order in a new folder; list it, and remove it."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for name in names:
            (Path(place) / name).touch()
        return [entry.name for entry in os.scandir(place)]  # any order: it is the question


def overlay_listings(parent: Path, unpackings: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """List names on an overlay file system; ``None`` where the system does not let one be made."""
    if not shutil.which("unshare"):
        return None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _OVERLAY]
        package = Path(__file__).resolve().parents[2]
        finished = subprocess.run(
            [*command, folder, sys.executable],
            input="\n".join("/".join(names) for names in unpackings),
            env={**os.environ, "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
            check=False,
        )
        shutil.rmtree(Path(folder) / "work", ignore_errors=True)
    if finished.returncode:
        return None
    return [line.split("/") for line in finished.stdout.splitlines()]


def main(arguments: Sequence[str]) -> None:
    """List, for each line of names (``a/b/c``), a folder below the first argument."""
    for line in sys.stdin.read().splitlines():
        print("/".join(listed_after_unpacking(Path(arguments[0]), line.split("/"))))


if __name__ == "__main__":
    main(sys.argv[1:])
