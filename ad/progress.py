"""One progress bar for everything that takes longer than a few seconds."""

from tqdm import tqdm


def progress_bar(total: int, what: str, unit: str, *, show: bool = True) -> tqdm:
    """Open a progress bar on the standard error stream.

    Where it is shown, tqdm's own environment variables (``TQDM_DISABLE=1``) still apply; an
    explicit ``disable=False`` would override them.
    """
    return tqdm(total=total, desc=what, unit=unit, mininterval=0.5) if show else tqdm(disable=True)
