"""The method in pictures, drawn from the run's own images, features and banks."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from ad.coreset import k_center_greedy
from ad.data import ImageRecord
from ad.neighbors import exact_neighbors
from ad.plots import ANOMALOUS_COLOUR, NEUTRAL_COLOUR, NORMAL_COLOUR, plain_image
from ad.report import figure


def influence(
    features_of: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    cell: tuple[int, int],
    blocks: int = 5,
) -> np.ndarray:
    """Say which parts of a picture one patch depends on, by turning each grey in turn.

    Parameters
    ----------
    features_of : callable
        Pixels (n, height, width, 3) to features (n, h, w, dim).
    pixels : array of uint8, shape (height, width, 3)
    cell : tuple of int
        Row and column of the patch.
    blocks : int
        Parts a side.

    Returns
    -------
    array of float64, shape (blocks, blocks)
        Sum of the absolute changes of the patch's feature.
    """
    down, across = (np.linspace(0, side, blocks + 1).astype(int) for side in pixels.shape[:2])
    whole = features_of(pixels[None])[0][cell].astype(np.float64)
    changes = np.zeros((blocks, blocks))
    for row, column in np.ndindex(blocks, blocks):
        picture = pixels[None].copy()  # one at a time, as memory is bounded
        picture[0, slice(*down[row : row + 2]), slice(*across[column : column + 2])] = 127
        changes[row, column] = np.abs(features_of(picture)[0][cell] - whole).sum()
    return changes


def draw_patch(
    ax: Axes,
    pixels: np.ndarray,
    change: np.ndarray,
    cell: tuple[int, int],
    grid: tuple[int, int],
    size: int,
) -> None:
    """Draw what `influence` found over the picture, with the patch and its neighbourhood."""
    height, width = pixels.shape[:2]
    plain_image(ax, pixels, "what a patch sees")
    extent = (0, width, height, 0)
    ax.imshow(change, cmap="inferno", alpha=0.6, extent=extent, interpolation="nearest")
    high, wide = height / grid[0], width / grid[1]
    for cells, colour in ((size, NORMAL_COLOUR), (1, "white")):
        corner = ((cell[1] - cells // 2) * wide, (cell[0] - cells // 2) * high)
        box = {"fill": False, "edgecolor": colour, "linewidth": 2}
        ax.add_patch(Rectangle(corner, cells * wide, cells * high, **box))


def sums_in_orders(left: np.ndarray, right: np.ndarray, orders: int, seed: int) -> np.ndarray:
    """Add up products in different orders, in float32: one rounding behind the other.

    Parameters
    ----------
    left, right : arrays, shape (dim,)

    Returns
    -------
    array of float32, shape (orders,)
    """
    rng, products = np.random.default_rng(seed), np.float32(left) * np.float32(right)
    found = []
    for _ in range(orders):
        total = np.float32(0)
        for value in products[rng.permutation(len(products))]:
            total = np.float32(total + value)
        found.append(total)
    return np.array(found)


def draw_orders(axes: Sequence[Axes], values: np.ndarray, seed: int, orders: int = 200) -> None:
    """Draw what the order of a sum does to fractions, and to whole numbers.

    Parameters
    ----------
    values : array, shape (2, dim)
        Two patch features, rounded to whole numbers; a seventh of them stands for fractions.
    """
    wide = np.rint(values).astype(np.float32)
    cases = (
        ("fractions in float32", wide / np.float32(7), ANOMALOUS_COLOUR),
        ("whole numbers in float32", wide, NORMAL_COLOUR),
    )
    for ax, (title, (left, right), colour) in zip(axes, cases, strict=True):
        sums = sums_in_orders(left, right, orders, seed)
        distances = sums.astype(np.float64) - float(np.median(sums))
        different, counts = np.unique(distances, return_counts=True)
        ax.bar(range(len(different)), counts, color=colour)
        ax.set_xticks([])
        ax.set_xlabel(f"{len(different)} different result{'s' if len(different) > 1 else ''}")
        ax.set_ylabel(f"of {orders} orders of one sum")
        ax.set_title(title, fontsize=10)


def plane(features: np.ndarray, n_points: int, seed: int) -> np.ndarray:
    """Take some patches in the two dimensions in which they differ most, shape (n_points, 2).

    Of features of one dimension it is taken twice.
    """
    rng = np.random.default_rng(seed)
    some = features[np.sort(rng.choice(len(features), min(n_points, len(features)), replace=False))]
    spread = some.astype(np.float64).var(axis=0)
    order = np.argsort(-spread, kind="stable")
    return some[:, np.sort(order[[0, min(1, len(order) - 1)]])]


def draw_choices(axes: Sequence[Axes], points: np.ndarray, n_select: int, seed: int) -> None:
    """Draw a greedy and a random choice from points in the plane, and how far each reaches."""
    n_select = min(n_select, len(points))
    greedy = k_center_greedy(points, n_select, seed=seed, progress=False)
    drawn = np.random.default_rng(seed).choice(len(points), n_select, replace=False)
    for ax, rows, name in zip(axes, (greedy, drawn), ("greedy k-center", "random"), strict=True):
        near = exact_neighbors(points, points[rows], 1).squared_distances
        radius = float(np.sqrt(near.max()))
        ax.plot(*points.T, ".", color=NEUTRAL_COLOUR, markersize=2, alpha=0.5)
        ax.plot(*points[rows].T, "o", color=ANOMALOUS_COLOUR, markersize=4)
        for centre in points[rows].astype(float):
            ax.add_patch(Circle(centre, radius, fill=False, color=NORMAL_COLOUR, alpha=0.35))
        ax.set_title(
            f"{name}: {n_select} circles of radius {figure(radius)} cover all", fontsize=10
        )
        ax.set_aspect("equal")
        ax.set_xlabel("one feature")
        ax.set_ylabel("another")


def crop(pixels: np.ndarray, cell: tuple[int, int], grid: tuple[int, int], cells: int = 5):
    """Cut out a patch with its surroundings; what lies outside the picture is black."""
    steps = [side / n for side, n in zip(pixels.shape[:2], grid, strict=True)]
    reach = int(cells * max(steps) / 2)
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)))
    top, left = (int((place + 0.5) * step) for place, step in zip(cell, steps, strict=True))
    return padded[top : top + 2 * reach, left : left + 2 * reach]


def draw_neighbors(
    axes: np.ndarray,
    patch: np.ndarray,
    bank: np.ndarray,
    bank_rows: np.ndarray,
    pictures: Callable[[int], np.ndarray],
    grid: tuple[int, int],
) -> None:
    """Draw the training patches that a patch is compared with, nearest first.

    Parameters
    ----------
    axes : array of Axes, shape (k,)
    patch : array, shape (dim,)
    bank : array, shape (n_bank, dim)
    bank_rows : array of int, shape (n_bank,)
        Row of each among all training patches, image by image.
    pictures : callable
        Number of a training image to its pixels.
    grid : tuple of int
        Patches of an image, down and across.
    """
    for ax in axes:
        ax.set_axis_off()
    found = exact_neighbors(patch[None], bank, min(len(axes), len(bank)))
    for ax, row, squared in zip(
        axes, bank_rows[found.indices[0]], found.squared_distances[0], strict=False
    ):
        image, place = divmod(int(row), grid[0] * grid[1])
        shown = crop(pictures(image), divmod(place, grid[1]), grid)
        plain_image(ax, shown, f"{figure(squared)} away")


def one_of_each_defect(test: Sequence[ImageRecord], n: int) -> list[int]:
    """Choose n test images spread over the defects, anomalous ones first; return their numbers."""
    order = sorted(
        range(len(test)), key=lambda k: (test[k].label != 1, test[k].defect or "", test[k].id)
    )
    return order[:: max(1, len(order) // n)][:n]


def coverage(points: np.ndarray, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure how a selection covers points as it grows.

    Parameters
    ----------
    points : array, shape (n, dim)
    selected : array like it, shape (n_select, dim)
        In greedy order.

    Returns
    -------
    steps, largest, typical : arrays, shape (n_steps,)
        Sizes of the selection, halved down to 1, and the largest and the median distance to its
        nearest.
    """
    steps = np.array([len(selected) >> n for n in reversed(range(len(selected).bit_length()))])
    squared = np.stack([exact_neighbors(points, selected[:n], 1).squared_distances for n in steps])
    distances = np.sqrt(squared[:, :, 0])
    return steps, distances.max(axis=1), np.median(distances, axis=1)
