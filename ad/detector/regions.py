"""What was found, in numbers: connected parts of the patch grid above a threshold."""

from dataclasses import dataclass

import numpy as np

from ad.images import InputRule, resized


@dataclass(frozen=True)
class Region:
    """A connected part of a picture whose patches score above the patch threshold.

    Parameters
    ----------
    box : tuple of int
        Left, top, right and bottom in the picture's pixels; right and bottom lie outside.
    area : int
        Of its patches, in the picture's pixels.
    score : float
        Its largest patch score.
    share : float
        That score over the threshold of pictures: above 1, it alone flags the picture.
    cells : tuple of int
        First row and column of its patches, and those behind the last.
    """

    box: tuple[int, int, int, int]
    area: int
    score: float
    share: float
    cells: tuple[int, int, int, int]


def connected(marked: np.ndarray) -> list[np.ndarray]:
    """Split the marked cells of a grid into connected parts, eight neighbours a cell.

    Parameters
    ----------
    marked : array of bool, shape (h, w)

    Returns
    -------
    list of array of int, each (n_cells, 2)
        Rows and columns; the parts in reading order of their first cells.
    """
    cells = [tuple(cell) for cell in np.argwhere(marked).tolist()]
    left, parts = set(cells), []
    for first in cells:
        part = [first] if first in left else []
        left.discard(first)
        for row, column in part:  # it grows while it is read
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            part += sorted(around)
        if part:
            parts.append(np.array(part))
    return parts


def frame_of(rule: InputRule, width: int, height: int) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the part of a picture that the input shows, pixels."""
    left, top, right, bottom = rule.box(width, height)
    wide, high = right - left, bottom - top
    if rule.resize is None:
        return left, top, wide, high
    full, (rows, columns) = resized(wide, high, rule.resize), rule.shape
    across, down = wide / full[0], high / full[1]  # of the picture's pixels in one of the input
    crop = round((full[0] - columns) / 2.0), round((full[1] - rows) / 2.0)  # as `resize_and_crop`
    return left + crop[0] * across, top + crop[1] * down, columns * across, rows * down


def regions_of(
    patch_scores: np.ndarray,
    patch_threshold: float,
    threshold: float,
    frame: tuple[float, float, float, float],
) -> tuple[Region, ...]:
    """Find the regions of a picture, that of the largest score first.

    Parameters
    ----------
    patch_scores : array, shape (h, w)
    patch_threshold : float
        Patches above it belong to a region.
    threshold : float
        Of pictures.
    frame : tuple of float
        What the grid covers; see `frame_of`.
    """
    left, top, width, height = frame
    wide, high = width / patch_scores.shape[1], height / patch_scores.shape[0]  # of a cell
    found = []
    for part in connected(patch_scores > patch_threshold):
        (row, column), (below, behind) = part.min(axis=0).tolist(), (part.max(axis=0) + 1).tolist()
        edges = (left + column * wide, top + row * high, left + behind * wide, top + below * high)
        score = float(patch_scores[tuple(part.T)].max())
        box, area = tuple(map(round, edges)), round(len(part) * wide * high)
        found.append(Region(box, area, score, score / threshold, (row, column, below, behind)))
    return tuple(sorted(found, key=lambda region: -region.score))
