"""What `ad.tiles` does, as nodes of an ONNX graph: tiles go through the network as a batch."""

import numpy as np

from ad.tiles import corners, grid_of, kept
from ad.detector.graph import Graph


def _slice(graph: Graph, name: str, spans: dict[int, slice]) -> str:
    """Take a span of each of some axes."""
    ends = ([s.start for s in spans.values()], [s.stop for s in spans.values()], list(spans))
    return graph.add("Slice", [name, *(graph.constant(np.array(e, dtype=np.int64)) for e in ends)])


def cut_nodes(graph: Graph, pixels: str, geometry: tuple[int, int]) -> str:
    """Cut pictures (n, 3, side, side) into a batch of tiles, one place after the other.

    Parameters
    ----------
    geometry : tuple of int
        Side of a tile in pixels, and tiles a side.
    """
    size, tiles = geometry
    if tiles == 1:
        return pixels
    parts = [
        _slice(graph, pixels, {2: slice(top, top + size), 3: slice(left, left + size)})
        for top, left in corners(size, tiles)
    ]
    return graph.add("Concat", parts, {"axis": 0})


def join_nodes(
    graph: Graph, features: str, shape: tuple[int, int, int], geometry: tuple[int, int]
) -> tuple[str, tuple[int, int]]:
    """Put the tiles' features (tiles * n, h * w, dim) together; also return the whole grid.

    Parameters
    ----------
    shape : tuple of int
        h, w and dim of a tile's features.
    """
    (high, wide, dim), (size, tiles) = shape, geometry
    if tiles == 1:
        return features, (high, wide)
    apart = graph.constant(np.array([0, high, wide, dim], dtype=np.int64))
    names = [f"tile_{number}" for number in range(tiles**2)]
    tiled = graph.add("Reshape", [features, apart])
    graph.several("Split", [tiled], {"axis": 0, "num_outputs": tiles**2}, names)
    rows, grid = [], (grid_of(high, size, tiles), grid_of(wide, size, tiles))
    for down in range(tiles):
        vertical, row = kept(high, size, tiles, down), []
        for right in range(tiles):
            horizontal = kept(wide, size, tiles, right)
            row.append(_slice(graph, names[down * tiles + right], {1: vertical, 2: horizontal}))
        rows.append(graph.add("Concat", row, {"axis": 2}))
    whole = graph.add("Concat", rows, {"axis": 1})
    flat = graph.constant(np.array([0, grid[0] * grid[1], dim], dtype=np.int64))
    return graph.add("Reshape", [whole, flat]), grid
