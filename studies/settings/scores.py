"""Cells scored under many settings, each by a bank that never saw it: one table of scores."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from PIL import Image as Picture
from scipy.ndimage import zoom
from torch import Tensor, nn

from ad.backbone import load_backbone
from ad.coreset import k_center_greedy
from ad.files import atomic_path
from ad.images import to_brightness
from ad.neighbors import exact_neighbors
from ad.params import BackboneSettings, Image, Patch
from ad.protocol import run_protocol
from studies.common import CACHE, ROOT, cell_features

BANKS = 5  # that the detector asks: cv.folds
KINDS = ("cut_paste", "scar", "texture")
KNOWN, UNSEEN = "known modules", "unseen modules"


@dataclass(frozen=True)
class Setting:
    """A setting; the defaults are the pipeline's.

    ``light`` is None or one of `LIGHTS`, ``judge`` one of `JUDGES`. ``position`` appends row and
    column of a patch to its feature, from 0 to so many units.
    """

    size: int = 224
    layers: str = "blocks.2+blocks.4"
    patch: int = 3
    light: str | None = None
    position: int = 0
    ratio: float = 0.01
    k: int = 5
    judge: str = "max"

    def shared(self) -> "Setting":
        """Return what features and the order of a coreset's picks depend on."""
        return replace(self, ratio=0.01, k=5, judge="max")


# How a picture's light is changed before the network sees it, pixels uint8 (side, side, 3) of grey.
# ``mean`` and ``spread`` are the data set's: mean and standard deviation of its grey values.


def brightness(pixels: np.ndarray, mean: float, _spread: float) -> np.ndarray:
    """Scale grey values so that their mean is the set's (``image.brightness``)."""
    return to_brightness(pixels, mean)


def contrast(pixels: np.ndarray, mean: float, spread: float) -> np.ndarray:
    """Bring mean and standard deviation of the grey values to the set's."""
    return _bytes((pixels - pixels.mean()) * (spread / pixels.std()) + mean)


LIGHTS = {"brightness": brightness, "contrast": contrast}


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# How an image's patch scores, shape (n, patches), become one.
JUDGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": lambda patches: patches.max(axis=1),
    "top": lambda patches: np.sort(patches)[:, -(patches.shape[1] // 100) :].mean(axis=1),
    "relative": lambda patches: patches.max(axis=1) / np.median(patches, axis=1),
}


def paste(grey: np.ndarray, kind: str, generator: np.random.Generator) -> np.ndarray:
    """Paste a synthetic anomaly into a normal picture, grey values uint8 (side, side).

    ``cut_paste`` copies a rectangle of 0.5 to 3 % of the picture, turned, to another place,
    ``scar`` a thin one (Li et al., *CutPaste*, CVPR 2021); ``texture`` blends noise into a blob of
    noise (after Zavrtanik et al., *DRAEM*, ICCV 2021). Two are fainter than published, as nearly
    all of those are found; none was made with a look at defects of cells.
    """
    side = len(grey)
    if kind == "texture":
        noise, field = (_noise(side, generator.integers(*c), generator) for c in ((4, 24), (3, 7)))
        rows, columns = np.ogrid[:side, :side]
        y, x = generator.uniform(0.3 * side, 0.7 * side, 2)
        blob = field * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * (0.18 * side) ** 2))
        mask = blob > np.quantile(blob, 1 - generator.uniform(0.01, 0.06))
        share = mask * generator.uniform(0.05, 0.3)
        return _bytes(grey * (1 - share) + 255 * noise * share)
    if kind == "scar":
        high, wide = generator.uniform(10, 25) * side / 256, generator.uniform(2, 16) * side / 256
    else:
        area, ratio = generator.uniform(0.005, 0.03) * side**2, np.exp(generator.uniform(-1.2, 1.2))
        high, wide = np.sqrt(area * ratio), np.sqrt(area / ratio)
    high, wide = (int(np.clip(length, 2, side // 2)) for length in (high, wide))
    top, left = generator.integers(side - high), generator.integers(side - wide)
    picture = Picture.fromarray(grey)
    turn = {"angle": generator.uniform(-45, 45), "expand": True}
    piece = picture.crop((left, top, left + wide, top + high))
    mask = Picture.new("L", piece.size, 255).rotate(**turn)
    piece = piece.rotate(resample=Picture.Resampling.BILINEAR, **turn)
    middle = generator.uniform(0.25, 0.75, 2) * side
    corner = (middle - np.array(piece.size) / 2).astype(int)
    picture.paste(piece, tuple(corner.tolist()), mask)
    return np.asarray(picture)


def _noise(side: int, cells: int, generator: np.random.Generator) -> np.ndarray:
    """Draw noise from 0 to 1 that changes over side / cells pixels."""
    noise = zoom(generator.random((cells + 1, cells + 1)), side / (cells + 1), order=3)
    noise = np.pad(noise, (0, max(0, side - len(noise))), mode="edge")[:side, :side]
    return (noise - noise.min()) / np.ptp(noise)


def pasted_cells(cells: pd.DataFrame, *, every: int, seed: int) -> pd.DataFrame:
    """Paste one of each kind into every so many normal cells; return rows with it as ``label``."""
    rows = []
    for _, cell in cells[cells["label"] == 0].iloc[::every].iterrows():
        for kind in KINDS:
            generator = np.random.default_rng([seed, cell["cell"], zlib.crc32(kind.encode())])
            grey = paste(np.asarray(Picture.open(cell["path"]).convert("L")), kind, generator)
            path = CACHE / "pasted" / f"{cell['cell']:04d}_{kind}_{zlib.crc32(grey):08x}.png"
            with atomic_path(path) as partial:
                Picture.fromarray(grey).save(partial, format="PNG")
            rows.append({**cell, "path": str(path), "label": kind})
    return pd.DataFrame(rows)


def features_under(setting: Setting, cells: pd.DataFrame) -> np.ndarray:
    """Extract the cells' features; scales and the set's light are those of its normal cells."""
    normals = cells["path"][cells["label"] == 0].tolist()
    grey = [np.asarray(Picture.open(path).convert("L"), dtype=np.float64) for path in normals]
    mean, spread = np.mean([each.mean() for each in grey]), np.mean([each.std() for each in grey])

    def change(pixels: np.ndarray) -> np.ndarray:
        return LIGHTS[setting.light](pixels, mean, spread)

    change.__name__ = f"{setting.light} {mean:.6g} {spread:.6g}"
    found, _ = cell_features(
        cells["path"].tolist(),
        image=Image(input_size=setting.size),
        backbone=BackboneSettings(layers=setting.layers.split("+")),
        patch=Patch(patch_size=setting.patch),
        change=change if setting.light else None,
        normals=normals,
    )
    return with_position(np.asarray(found), setting.position)


def splits_of(cells: pd.DataFrame, parts: int, *, seed: int) -> dict[str, np.ndarray]:
    """Deal cells out to parts: at random, and as stretches of neighbouring files of each run."""
    numbers = cells["cell"].unique()
    dealt = np.random.default_rng(seed).permutation(len(numbers)) % parts
    known = cells["cell"].map(dict(zip(numbers, dealt, strict=True)))
    return {KNOWN: known.to_numpy(), UNSEEN: (cells["place"] * parts).astype(int).to_numpy()}


def with_position(features: np.ndarray, units: int) -> np.ndarray:
    """Append each patch's row and column, scaled to 0 to ``units``, to its feature."""
    if not units:
        return features
    places = [np.rint(np.linspace(0, units, n)).astype(features.dtype) for n in features.shape[1:3]]
    grid = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1)
    return np.concatenate([features, np.broadcast_to(grid, (*features.shape[:3], 2))], axis=-1)


def score_settings(
    settings: Mapping[str, Setting],
    cells: pd.DataFrame,
    splits: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> pd.DataFrame:
    """Score every cell under every setting, by a bank of the normal cells of its run's other parts.

    Parameters
    ----------
    settings : mapping of str to Setting
        Those that share features share computation.
    cells : DataFrame
        ``cell``, ``path``, ``run`` and ``label``: 0, 1, or a kind of synthetic anomaly.
    splits : mapping of str to array of int, shape (n_cells,)
        Each cell's part; a synthetic anomaly's is that of its cell.
    seed : int
        Of the banks.

    Returns
    -------
    DataFrame
        ``set`` (the split), ``run``, ``setting``, ``seed``, ``fold`` (the part), ``image``,
        ``label``, ``score``, and ``level``: the mean patch score, in units of the mean squared
        distance of two patches of normal cells.
    """
    normal, tables = (cells["label"] == 0).to_numpy(), []
    about = cells[["cell", "run", "label"]].rename(columns={"cell": "image"})
    for shared in dict.fromkeys(each.shared() for each in settings.values()):
        features = features_under(shared, cells)
        spread = 2 * features[normal][::8].reshape(-1, features.shape[-1]).var(axis=0).sum()
        own = {name: each for name, each in settings.items() if each.shared() == shared}
        for where, others, asked in _left_out(cells, splits):
            bank = features[others].reshape(-1, features.shape[-1])
            queries = features[asked].reshape(-1, features.shape[-1])
            for name, patches in _patch_scores(own, bank, queries, seed=seed):
                patches = patches.reshape(len(asked), -1)
                found = {"setting": name, "seed": seed, "score": JUDGES[own[name].judge](patches)}
                found["level"] = patches.mean(axis=1) / spread
                tables.append(about.iloc[asked].assign(**where, **found))
    return pd.concat(tables, ignore_index=True)


def score_by_protocol(
    settings: Mapping[str, Setting],
    cells: pd.DataFrame,
    splits: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> pd.DataFrame:
    """Score every cell as the pipeline does: the largest score of five banks (`run_protocol`).

    Parameters and result are those of `score_settings`, less ``level``; of a setting, what features
    depend on counts.
    """
    about, tables = cells[["cell", "run", "label"]].rename(columns={"cell": "image"}), []
    for name, each in settings.items():
        if each != each.shared():
            raise ValueError(f"{name}: only settings of the features are scored by the protocol")
        features = features_under(each, cells)
        for where, others, asked in _left_out(cells, splits):
            found = run_protocol(features[others], features[asked], seed=seed)
            own = {"setting": name, "seed": seed, "score": found.scores}
            tables.append(about.iloc[asked].assign(**where, **own))
    return pd.concat(tables, ignore_index=True)


def _left_out(cells: pd.DataFrame, splits: Mapping[str, np.ndarray]) -> Iterator[tuple]:
    """Give each part of each run: its set and number, its run's other normal cells, and its own."""
    normal, runs = (cells["label"] == 0).to_numpy(), cells["run"].to_numpy()
    for split, part in splits.items():
        for run, fold in sorted(set(zip(runs.tolist(), part.tolist(), strict=True))):
            here, inside = runs == run, part == fold
            others = np.flatnonzero(here & normal & ~inside)
            yield {"set": split, "fold": fold}, others, np.flatnonzero(here & inside)


def _patch_scores(
    settings: Mapping[str, Setting], patches: np.ndarray, queries: np.ndarray, *, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Score patches under settings that share features; a small coreset begins a larger one."""
    sizes = {name: round(each.ratio * len(patches)) for name, each in settings.items()}
    picks = k_center_greedy(patches, max(sizes.values()), seed=seed, progress=False)
    most = max(each.k for each in settings.values())
    for size in sorted(set(sizes.values())):
        squares = exact_neighbors(queries, patches[picks[:size]], most).squared_distances
        for name, each in settings.items():
            if sizes[name] == size:
                yield name, squares[:, : each.k].mean(axis=1)


def cost(setting: Setting, n_normal: float) -> float:
    """Count an image's multiplications: the network's, and in `BANKS` banks of so many cells."""
    network, patches, dim = _network_cost(setting.layers, setting.size)
    dim += 2 * (setting.position > 0)
    return network + BANKS * patches * setting.ratio * n_normal * patches * dim


@cache
def _network_cost(layers: str, size: int) -> tuple[int, int, int]:
    """Return the multiplications of a network's convolutions, patches an image, dimension."""
    network, count = load_backbone(BackboneSettings(layers=layers.split("+")), root=ROOT, seed=0), 0

    def add(module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        nonlocal count
        count += output.numel() * module.weight[0].numel()

    for module in network.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    with torch.inference_mode():
        maps = network(torch.zeros(1, 3, size, size))
    return count, maps[0][0, 0].numel(), sum(each.shape[1] for each in maps)
