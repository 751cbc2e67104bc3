"""Check a data set, put it in place as data/, and update data.dvc.

Usage: python -m tools.install_data FOLDER

The folder may have the MVTec AD or the competition layout (see the README). It is only read. The
data set that stood in data/ goes to DVC's cache first, and its data.dvc is kept, so that one can
go back.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ad.dataset import of_split
from ad.files import atomic_path, write_text
from tools.scan import detect_layout, scan

DATA, POINTER = Path("data"), Path("data.dvc")
INCOMING, OUTGOING = Path(".data.incoming"), Path(".data.outgoing")


def run_dvc(*arguments: str) -> None:
    """Run DVC; its own message says what failed."""
    finished = subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False)
    if finished.returncode:
        raise SystemExit(f"error: 'dvc {' '.join(arguments)}' failed; data/ is as it was")


def pointer_hash() -> str:
    """Return the hash that data.dvc names."""
    return yaml.safe_load(POINTER.read_text(encoding="utf-8"))["outs"][0]["md5"]


def keep_previous() -> Path | None:
    """Put the data set in place into the cache and keep its pointer file."""
    if not DATA.is_dir():
        return None
    before = POINTER.read_text(encoding="utf-8") if POINTER.is_file() else None
    known = pointer_hash() if before else None
    run_dvc("add", "--quiet", str(DATA))
    if before and pointer_hash() == known:
        write_text(POINTER, before)  # with its remote, which 'dvc add' may have changed
    kept = Path(f"data.{pointer_hash()[:8]}.dvc.bak")
    with atomic_path(kept) as partial:
        shutil.copyfile(POINTER, partial)
    return kept


def forget_remote() -> None:
    """Take the repository's own store out of data.dvc: a user's images do not belong into git."""
    pointer = yaml.safe_load(POINTER.read_text(encoding="utf-8"))
    if pointer["outs"][0].pop("remote", None):
        write_text(POINTER, yaml.safe_dump(pointer, sort_keys=False))


def install(folder: Path) -> None:
    """Copy first, swap by renaming, and drop the old folder only when it is in the cache."""
    if OUTGOING.is_dir() and not DATA.is_dir():
        OUTGOING.rename(DATA)  # a run before this one was stopped between the two renames
    source = folder.resolve()
    if source == DATA.resolve() or DATA.resolve() in source.parents:
        raise ValueError(f"{folder} is data/ itself; give the folder of another data set")
    records = scan(source)
    if INCOMING.exists():
        shutil.rmtree(INCOMING)
    shutil.copytree(source, INCOMING, copy_function=shutil.copyfile)
    if [r.sha256 for r in scan(INCOMING)] != [r.sha256 for r in records]:
        raise OSError(f"{folder}: the copy differs from its source; check the disk and try again")
    previous = keep_previous()
    if previous:
        if OUTGOING.exists():
            shutil.rmtree(OUTGOING)
        DATA.rename(OUTGOING)
    INCOMING.rename(DATA)
    run_dvc("add", "--quiet", str(DATA))
    if not (previous and previous.name == f"data.{pointer_hash()[:8]}.dvc.bak"):
        forget_remote()
    if OUTGOING.exists():
        shutil.rmtree(OUTGOING)
    n_train, n_test = (len(of_split(records, split)) for split in ("train", "test"))
    print(f"data/ now holds {n_train} training and {n_test} test images, "
          f"{detect_layout(DATA)} layout.")  # fmt: skip
    if previous:
        print(f"The previous set is in DVC's cache. To go back: copy {previous} over data.dvc, "
              f"then 'dvc checkout --force data.dvc'.")  # fmt: skip
    print("Next: 'make repro' (or 'dvc repro').")


def main(arguments: list[str]) -> None:
    """Check the arguments and install."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        raise SystemExit(__doc__)
    try:
        install(Path(arguments[0]))
    except (ValueError, OSError) as error:
        if INCOMING.exists():
            shutil.rmtree(INCOMING)
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
