"""What `ad.tiles` does, as nodes of an ONNX graph: tiles go through the network as a batch."""

from ad.detector.graph import Graph, Size
from ad.images import InputRule
from ad.tiles import corners, grid_of, kept


def cut_nodes(graph: Graph, pixels: str, rule: InputRule) -> str:
    """Cut pictures (n, 3, height, width) into a batch of tiles, one place after the other."""
    if rule.tiles == 1:
        return pixels
    (high, wide), count = rule.size, rule.tiles
    parts = [
        graph.sliced(pixels, {2: slice(top, top + high), 3: slice(left, left + wide)})
        for top, left in corners(rule.size, count)
    ]
    return graph.add("Concat", parts, axis=0)


def join_nodes(graph: Graph, features: str, cells: Size, rule: InputRule) -> tuple[str, Size]:
    """Put the tiles' features (tiles * n, *cells, dim) together; also return the whole grid."""
    count = rule.tiles
    if count == 1:
        return features, cells
    names = [f"tile_{number}" for number in range(count**2)]
    graph.several("Split", [features], names, axis=0, num_outputs=count**2)
    rows = []
    for down in range(count):
        high, row = kept(cells[0], rule.size[0], count, down), []
        for right in range(count):
            wide = kept(cells[1], rule.size[1], count, right)
            row.append(graph.sliced(names[down * count + right], {1: high, 2: wide}))
        rows.append(graph.add("Concat", row, axis=2))
    grid = tuple(grid_of(cells[axis], rule.size[axis], count) for axis in (0, 1))
    return graph.add("Concat", rows, axis=1), grid
