"""Put images in place as data/: the default solar cells, or your own.

Usage: python -m tools.install_data          the default cells, where data/ or data_locked/ lacks
       python -m tools.install_data FOLDER   a copy of your own images, after a check of each file
       python -m tools.install_data --back   the set that stood there before; once more undoes it

The folder may have any layout that the README shows; it is only read. The set that stood in data/
goes to DVC's cache first.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from ad.cells import write_cells
from ad.data import directory_hash, of_split
from ad.determinism import sha256_file
from ad.files import write_text
from ad.layouts import VISA_SPLIT, detect_layout, read_layout, visa_split
from ad.params import read_params
from ad.scan import scan

DATA, LOCKED, POINTER = Path("data"), Path("data_locked"), Path("data.dvc")
PREVIOUS = Path(".data.previous")  # the .dvc file of the set before
INCOMING, OUTGOING = Path(".data.incoming"), Path(".data.outgoing")
PARAMS = Path("params.yaml")


def run_dvc(*arguments: str) -> None:
    """Run DVC; if it fails, say why in one line."""
    command = [sys.executable, "-m", "dvc", *arguments]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode:
        reasons = [x.partition(": ")[2] for x in finished.stderr.splitlines() if "ERROR" in x]
        reason = (reasons or [f"exit code {finished.returncode}"])[0]
        raise OSError(f"'dvc {' '.join(arguments)}' failed: {reason}; data/ is as it was")


def pointer_hash(pointer: Path) -> str:
    """Return the hash that a .dvc file names."""
    try:
        return yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"]
    except (OSError, yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        raise ValueError(
            f"{pointer}: no DVC file; 'git checkout {pointer}' brings it back"
        ) from None


def remove(folder: Path) -> None:
    """Remove a folder of this command's own, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def fetch(target: Path) -> None:
    """Bring the images that a .dvc file names: from the wheel, DVC's cache or its remote."""
    pointer = target.with_name(f"{target.name}.dvc")
    expected = pointer_hash(pointer)
    remove(INCOMING)
    try:
        write_cells(target.name, INCOMING)
        if directory_hash(INCOMING) == expected:
            INCOMING.rename(target)
            return
    finally:
        remove(INCOMING)
    for command in ("checkout", "pull"):
        try:
            run_dvc(command, str(pointer))
        except OSError:
            continue
        return
    raise FileNotFoundError(
        f"{pointer} names images that this clone does not have; get them from a DVC remote of "
        f"the team ('dvc remote add --default team URL', then 'dvc pull'), or install the folder "
        f"itself with 'make data FROM=<folder>'"
    )


def install_defaults() -> None:
    """Lay out the default cells where they are missing; what is there stays as it is."""
    for target in (DATA, LOCKED):
        if not target.exists():
            fetch(target)
            print(f"{target}/ is in place.")


@contextmanager
def replaced() -> Iterator[None]:
    """Take data/ away for a new one; it is in the cache then, and back after any failure."""
    before = None
    if DATA.is_dir():
        run_dvc("add", str(DATA))
        before = POINTER.read_text(encoding="utf-8")
        remove(OUTGOING)
        DATA.rename(OUTGOING)
    try:
        yield
    except BaseException:  # a stop by the user too
        remove(DATA)
        if before:
            OUTGOING.rename(DATA)
            write_text(POINTER, before)
        raise
    if before and before != POINTER.read_text(encoding="utf-8"):
        write_text(PREVIOUS, before)
        print("The set before is kept: 'python -m tools.install_data --back' brings it back. The "
              "cache keeps every set; 'dvc gc --workspace' frees all but this one.")  # fmt: skip
    remove(OUTGOING)


def install_own(folder: Path) -> None:
    """Check a folder of images, copy it, and swap it for data/."""
    source, here = folder.expanduser().resolve(), Path.cwd().resolve()
    if source == here or source in here.parents:
        raise ValueError(f"{folder} holds this clone itself; give a folder of images alone")
    for own in (DATA, INCOMING, OUTGOING):
        if source == own.resolve() or own.resolve() in source.parents:
            raise ValueError(f"{folder} is {own}/ itself; give the folder of another data set")
    given = yaml.safe_load(PARAMS.read_text(encoding="utf-8")) if PARAMS.is_file() else {}
    records = scan(source, bits=read_params(given).image.bits)
    try:
        copy_to_incoming(source)
        copied = read_layout(INCOMING)[0]
        hashes = [sha256_file(INCOMING / r.path) for r in copied]
        if hashes != [r.sha256 for r in records]:
            raise OSError(f"{folder}: the copy differs from its source; try again")
        with replaced():
            INCOMING.rename(DATA)
            run_dvc("add", str(DATA))
    finally:
        remove(INCOMING)
    n_train, n_test = (len(of_split(records, split)) for split in ("train", "test"))
    print(f"data/ now holds {n_train} training and {n_test} test images, {detect_layout(DATA)} "
          f"layout; data_locked/ belongs to the solar cells and is not used with them.\n"
          f"Next: 'make repro' (or 'dvc repro').")  # fmt: skip


def copy_to_incoming(source: Path) -> None:
    """Copy a data set, checked before; hidden files, which may steer git or DVC, stay behind."""
    remove(INCOMING)
    hidden = shutil.ignore_patterns(".*", "@*")
    try:
        shutil.copytree(source, INCOMING, ignore=hidden, copy_function=shutil.copyfile)
    except shutil.Error as error:  # lists all files that failed; the first says enough
        path, _, reason = error.args[0][0]
        raise OSError(
            f"{path}: cannot be copied to {INCOMING}/ ({reason}); make it readable, or free space"
        ) from None
    if detect_layout(source) == "visa" and (table := visa_split(source)):  # it may lie beside
        (INCOMING / VISA_SPLIT).parent.mkdir(exist_ok=True)
        shutil.copyfile(table, INCOMING / VISA_SPLIT)


def go_back() -> None:
    """Bring the set before back into data/."""
    if not PREVIOUS.is_file():
        raise FileNotFoundError("no set was in data/ before this one; nothing to go back to")
    with replaced():
        write_text(POINTER, PREVIOUS.read_text(encoding="utf-8"))
        fetch(DATA)
    print("data/ holds the set before again.")


def main(arguments: list[str]) -> None:
    """Check the arguments and install."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        raise SystemExit(__doc__)
    here = Path.cwd()
    no_scm = Path(".dvc/config").is_file() and "no_scm" in Path(".dvc/config").read_text()
    if not no_scm and not any((folder / ".git").exists() for folder in (here, *here.parents)):
        raise SystemExit("error: DVC needs a git repository, which a ZIP download is not: run "
                         "'git init' here, that is enough")  # fmt: skip
    try:
        if OUTGOING.is_dir() and not DATA.exists():
            OUTGOING.rename(DATA)  # a run before this one was stopped between two renames
        if not arguments:
            install_defaults()
        elif arguments == ["--back"]:
            go_back()
        else:
            install_own(Path(arguments[0]))
    except KeyboardInterrupt:
        raise SystemExit("stopped; data/ is as it was") from None
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
