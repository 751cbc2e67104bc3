"""The neighbourhood graph of some patches, before and after a map."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.sparse.csgraph import connected_components

from pages.report import markdown_table
from studies.reconpatch.training import neighborhoods, squared_distances


def some_patches(features: np.ndarray, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw patches without replacement.

    Parameters
    ----------
    features : array, shape (n_images, h, w, dim)

    Returns
    -------
    patches : array of float32, shape (n, dim)
    rows : array of int, shape (n,)
        Row of the grid that each patch lies in.
    """
    n_images, height, width, dim = features.shape
    total = n_images * height * width
    chosen = np.sort(np.random.default_rng(seed).choice(total, min(n, total), replace=False))
    return features.reshape(-1, dim)[chosen], chosen // width % height


def edges(points: np.ndarray, k: int) -> np.ndarray:
    """Join patches that are among each other's k nearest, themselves included.

    Returns
    -------
    array of bool, shape (n, n)
        Symmetric, False on the diagonal.
    """
    near = neighborhoods(squared_distances(torch.from_numpy(np.float64(points))), k).numpy() > 0
    return near & near.T & ~np.eye(len(points), dtype=bool)


def describe(spaces: Mapping[str, np.ndarray], k: int) -> str:
    """Compare the graphs of spaces with the first one's, in a table.

    Parameters
    ----------
    spaces : mapping of str to array, shape (n, dim)
        The same patches in each.
    """
    rows, first = [], None
    for name, points in spaces.items():
        graph = edges(points, k)
        first = graph if first is None else first
        distances = squared_distances(torch.from_numpy(np.float64(points))).sqrt().numpy()
        rows.append(
            {
                "space": name,
                "edges": int(graph.sum()) // 2,
                "of them in the first": float((graph & first).sum() / max(graph.sum(), 1)),
                "parts that hang together": int(connected_components(graph)[0]),
                "an edge's length, in mean distances": float(
                    distances[graph].mean() / distances.mean()
                ),
            }
        )
    return markdown_table(rows)


def draw(spaces: Mapping[str, np.ndarray], rows: np.ndarray, k: int) -> Figure:
    """Draw the graph of each space in that space's first two principal components.

    Parameters
    ----------
    rows : array of int, shape (n,)
        Row of the grid that each patch lies in: its colour.
    """
    fig, axes = plt.subplots(
        1, len(spaces), figsize=(4.2 * len(spaces), 4), layout="constrained", squeeze=False
    )
    for ax, (name, points) in zip(axes[0], spaces.items(), strict=True):
        centred = points - points.mean(axis=0)
        _, _, axes_of = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
        signs = np.sign(axes_of[np.arange(2), np.abs(axes_of[:2]).argmax(axis=1)])
        places = centred @ (axes_of[:2] * signs[:, None]).T
        pairs = np.argwhere(np.triu(edges(points, k)))
        ax.add_collection(LineCollection(places[pairs], colors="#999999", linewidths=0.5))
        dots = ax.scatter(*places.T, c=rows, s=9, cmap="viridis", zorder=2)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("1st principal component")
        ax.set_ylabel("2nd principal component")
    fig.colorbar(dots, ax=axes[0], label="row of the patch in the image")
    return fig
