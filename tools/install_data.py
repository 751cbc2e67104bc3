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

from ad.data import of_split
from ad.files import atomic_path, write_text
from ad.layouts import detect_layout, list_files
from tools.published_layouts import VISA_SPLIT, visa_split
from ad.scan import scan
from tools.stage import stoppable

DATA, POINTER = Path("data"), Path("data.dvc")
INCOMING, OUTGOING = Path(".data.incoming"), Path(".data.outgoing")
CONTROL_FILES = {".git", ".gitignore", ".gitattributes", ".dvc", ".dvcignore"}


def run_dvc(*arguments: str) -> None:
    """Run DVC; if it fails, say why in one line."""
    finished = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], check=False, capture_output=True, text=True
    )
    if finished.returncode:
        reasons = [x.partition(": ")[2] for x in finished.stderr.splitlines() if "ERROR" in x]
        reason = (reasons or [f"exit code {finished.returncode}"])[0]
        raise OSError(f"'dvc {' '.join(arguments)}' failed: {reason}; data/ is as it was")


def pointer_hash() -> str:
    """Return the hash that data.dvc names."""
    try:
        return yaml.safe_load(POINTER.read_text(encoding="utf-8"))["outs"][0]["md5"]
    except (yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        raise ValueError(
            f"{POINTER}: no DVC file; 'git checkout {POINTER}' brings it back"
        ) from None


def keep_previous() -> Path | None:
    """Put the data set in place into the cache and keep its pointer file."""
    if not DATA.is_dir():
        return None
    before = POINTER.read_text(encoding="utf-8") if POINTER.is_file() else None
    known = pointer_hash() if before else None
    run_dvc("add", str(DATA))
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


def refuse_own_folders(folder: Path, source: Path) -> None:
    """Refuse a source that this command would copy into itself, or delete."""
    here = Path.cwd().resolve()
    if source == here or source in here.parents:
        raise ValueError(f"{folder} holds this clone itself; give a folder of images alone")
    for own in (DATA, INCOMING, OUTGOING):
        if source == own.resolve() or own.resolve() in source.parents:
            raise ValueError(f"{folder} is {own}/ itself; give the folder of another data set")


def copy_to_incoming(source: Path) -> None:
    """Copy the files of a data set, but not what tells git or DVC what to do with them."""
    remove(INCOMING)
    INCOMING.mkdir()
    if detect_layout(source) == "visa" and (table := visa_split(source)):  # it may lie beside
        (INCOMING / VISA_SPLIT).parent.mkdir()
        shutil.copyfile(table, INCOMING / VISA_SPLIT)
    for name in list_files(source):
        if not CONTROL_FILES.isdisjoint(Path(name).parts):
            continue
        target = INCOMING / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
        except OSError as error:
            raise OSError(
                f"{source / name}: cannot be copied to {INCOMING}/ ({error.strerror}); make it "
                f"readable, or free some space"
            ) from None


def remove(folder: Path) -> None:
    """Remove a folder of this command's own, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def swap() -> bool:
    """Put the incoming set in place; after any failure the one before is back.

    Returns
    -------
    bool
        Whether the set is the one that was there before.
    """
    before = POINTER.read_text(encoding="utf-8") if POINTER.is_file() else None
    known = pointer_hash() if before else None
    remove(OUTGOING)
    try:
        if DATA.exists():
            DATA.rename(OUTGOING)
        INCOMING.rename(DATA)
        run_dvc("add", str(DATA))
        same = pointer_hash() == known
        if same:
            write_text(POINTER, before)  # with its remote
        else:
            forget_remote()
    except BaseException:
        remove(DATA)
        if OUTGOING.exists():
            OUTGOING.rename(DATA)
        if before is None:
            POINTER.unlink(missing_ok=True)
        else:
            write_text(POINTER, before)
        raise
    remove(OUTGOING)
    return same


def install(folder: Path) -> None:
    """Copy first, swap by renaming, and drop the old folder only when it is in the cache."""
    if OUTGOING.is_dir() and not DATA.is_dir():
        OUTGOING.rename(DATA)  # a run before this one was stopped between the two renames
    source = folder.resolve()
    refuse_own_folders(folder, source)
    records = scan(source)
    try:
        copy_to_incoming(source)
        if [r.sha256 for r in scan(INCOMING)] != [r.sha256 for r in records]:
            raise OSError(f"{folder}: the copy differs from its source; try again")
        previous = keep_previous()
        same = swap()
    finally:
        remove(INCOMING)
    n_train, n_test = (len(of_split(records, split)) for split in ("train", "test"))
    print(f"data/ now holds {n_train} training and {n_test} test images, "
          f"{detect_layout(DATA)} layout.")  # fmt: skip
    if previous and not same:
        print(f"The previous set is in DVC's cache. To go back: copy {previous} over data.dvc, "
              f"then 'dvc checkout --force data.dvc'.")  # fmt: skip
    print("Next: 'make repro' (or 'dvc repro').")


def main(arguments: list[str]) -> None:
    """Check the arguments and install."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        raise SystemExit(__doc__)
    try:
        with stoppable("data/ is as it was"):
            install(Path(arguments[0]))
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
