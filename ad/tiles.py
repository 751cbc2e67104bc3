"""A picture too large for one pass: overlapping tiles, and their features put together.

At an inner border a tile gives up `MARGIN` pixels, so what a patch keeps was computed at least so
far from where the picture was cut.  A picture has as many tiles down as across.
"""

from collections.abc import Iterator

import numpy as np

MARGIN = 32  # pixels: the deepest stride of common networks, so whole cells of every layer


def side_of(size: int, tiles: int) -> int:
    """Return the side of a picture whose tiles have a side of ``size`` pixels."""
    return size + (tiles - 1) * (size - 2 * MARGIN)


def corners(size: tuple[int, int], tiles: int) -> Iterator[tuple[int, int]]:
    """Give every tile's first row and column in the picture, row by row of tiles."""
    for down, right in np.ndindex(tiles, tiles):
        yield down * (size[0] - 2 * MARGIN), right * (size[1] - 2 * MARGIN)


def cut(pixels: np.ndarray, size: tuple[int, int], tiles: int) -> Iterator[np.ndarray]:
    """Cut pictures (n, rows, columns, 3) into tiles (n, *size, 3), one place after the other."""
    for top, left in corners(size, tiles):
        yield pixels[:, top : top + size[0], left : left + size[1]]


def kept(cells: int, size: int, tiles: int, number: int) -> slice:
    """Return what tile ``number`` of a row (or column) keeps of its ``cells`` positions.

    Raises
    ------
    ValueError
        When a margin is no whole number of positions.
    """
    margin, rest = divmod(MARGIN * cells, size)
    if tiles > 1 and rest:
        raise ValueError(
            f"image.tiles={tiles}: {cells} positions in {size} pixels do not lie on a grid of "
            f"{MARGIN}; choose multiples of {2 * MARGIN} as image.input_size, or other layers"
        )
    return slice(margin if number else 0, cells - (margin if number < tiles - 1 else 0))


def grid_of(cells: int, size: int, tiles: int) -> int:
    """Return the positions along a picture's side, each of whose tiles has ``cells``."""
    spans = (kept(cells, size, tiles, number) for number in range(tiles))
    return sum(span.stop - span.start for span in spans)


def join(parts: list[np.ndarray], size: tuple[int, int], tiles: int) -> np.ndarray:
    """Put the tiles' features, each (n, h, w, dim), together: shape (n, rows, columns, dim)."""
    rows = []
    for down in range(tiles):
        row = parts[down * tiles : (down + 1) * tiles]
        high = kept(row[0].shape[1], size[0], tiles, down)
        wide = [kept(part.shape[2], size[1], tiles, right) for right, part in enumerate(row)]
        rows.append(np.concatenate([p[:, high, w] for p, w in zip(row, wide, strict=True)], axis=2))
    return np.concatenate(rows, axis=1)
