"""The pipeline's settings: a section of ``params.yaml`` each.

Functions take a section as an argument; nothing here reads a file.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ad.tiles import MARGIN, side_of
from ad.sections import (
    Allowed,
    Flag,
    Layers,
    Section,
    Share,
    Text,
    checked,
    choice,
    integer,
    integer_or_null,
    number,
)

THRESHOLD_RULES = "max, quantile:Q with 0 < Q <= 1 (quantile:0.99), or mean_sd:K (mean_sd:3)"


def parse_threshold_rule(rule: str) -> tuple[str, float | None]:
    """Split ``max``, ``quantile:0.99`` or ``mean_sd:3`` into its name and its number."""
    match = re.fullmatch(r"(max)|(quantile|mean_sd):(\d+(?:\.\d+)?)", rule)
    if match:
        if match[1]:
            return "max", None
        value = float(match[3])
        if match[2] == "mean_sd" or 0 < value <= 1:
            return match[2], value
    raise ValueError(f"cv.threshold={rule!r} is not {THRESHOLD_RULES}")


def _threshold_rule(rule: str) -> str:
    parse_threshold_rule(rule)
    return rule


def _weights(value: str) -> str:
    if value in ("hub", "package", "random") or value.endswith((".safetensors", ".pth", ".pt")):
        return value
    raise ValueError("no such source")


WEIGHTS = "hub, package, random, or the path of a .safetensors or .pth file"
_Channels = Annotated[
    Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=3)] | None,
    Allowed("null (the weights' own) or a list of three numbers above 0 and at most 1"),
]


class Data(Section):
    """Where the images are, and a second set that nothing was chosen on."""

    path: Text
    locked: Annotated[
        Annotated[str, Field(pattern=r"\S")] | None, Allowed("null (none) or a non-empty text")
    ] = None


def _inside(region: list[float]) -> list[float]:
    left, top, right, bottom = region
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("not inside the picture")
    return region


class Image(Section):
    """How a picture becomes the network's input; pixels.

    ``region`` is the part that is looked at: left, top, right and bottom as shares of the picture.
    """

    size: integer(32, 4096)
    tiles: integer(1, 16) = 1
    region: Annotated[
        Annotated[list[float], Field(min_length=4, max_length=4), AfterValidator(_inside)] | None,
        Allowed("null (the whole picture) or left, top, right, bottom as shares from 0 to 1"),
    ] = None
    resize: integer_or_null(32, "straight to image.size") = None
    mean: _Channels = None
    std: _Channels = None
    interpolation: Annotated[
        Literal["bilinear", "bicubic"] | None,
        Allowed("null (the weights' own), bilinear or bicubic"),
    ] = None

    @model_validator(mode="after")
    def _crop_fits(self) -> "Image":
        if self.tiles > 1 and (self.size < 4 * MARGIN or self.size % MARGIN):
            raise ValueError(
                f"image.tiles={self.tiles} with image.size={self.size}: tiles overlap by "
                f"{2 * MARGIN} pixels, so image.size must be at least {4 * MARGIN} and a multiple "
                f"of {MARGIN}"
            )
        side = side_of(self.size, self.tiles)
        if self.resize is not None and self.resize < side:
            tiled = f" in {self.tiles} x {self.tiles} tiles" if self.tiles > 1 else ""
            raise ValueError(
                f"image.resize={self.resize} is smaller than the crop "
                f"image.size={self.size}{tiled}; it must be null or at least {side}"
            )
        return self


class BackboneSettings(Section):
    """Which network, with which weights, read where."""

    name: Text
    weights: checked(str, _weights, WEIGHTS)
    layers: Layers
    batch_size: integer(1, 4096) = 32
    arithmetic: choice("integer", "float32") = "integer"


class Patch(Section):
    """How maps become patch features.

    ``size`` is the neighbourhood's side; each layer is pooled to ``pretrain_dim`` (null: one value
    a channel, the mean over its neighbourhood), all of them to ``target_dim`` (null: joined).
    """

    size: integer(1, 15, odd=True)
    pretrain_dim: integer_or_null(1, "each layer's own channels") = None
    target_dim: integer_or_null(1, "all layers' dimensions, joined") = None


class Coreset(Section):
    """How a memory bank is drawn."""

    ratio: Share
    size: integer_or_null(1, "by ratio") = None
    projection_dim: integer_or_null(1, "no projection") = None


class Score(Section):
    """How patches and images are scored."""

    num_neighbors: integer(1, 1000)
    squared: Flag = True
    reweight: Flag = False
    index: choice("exact", "faiss_flat", "faiss_hnsw") = "exact"

    @model_validator(mode="after")
    def _reweighting_leaves_something(self) -> "Score":
        if self.reweight and self.num_neighbors == 1:
            raise ValueError(
                "score.reweight=True with score.num_neighbors=1 makes every score 0 (eq. 7); "
                "it must be false, or score.num_neighbors at least 2"
            )
        return self


class CrossValidation(Section):
    """How normals are split, and how the folds become one threshold and one score."""

    folds: integer(2, 1000)
    shuffle: Flag = False
    threshold: checked(str, _threshold_rule, THRESHOLD_RULES) = "max"
    aggregate: choice("max", "mean", "median") = "max"


class Runtime(Section):
    """What the run may use; no result depends on it."""

    device: choice("auto", "cpu", "cuda") = "cpu"
    threads: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | None,
        Allowed("null (every core) or an integer of at least 1 and at most 1024"),
    ] = None
    memory_gb: number("a number above 0 (gigabytes)", gt=0) = 3.0


class Params(Section):
    """All of ``params.yaml``."""

    seed: integer(0, 2**32 - 1)
    data: Data
    image: Image
    backbone: BackboneSettings
    patch: Patch
    coreset: Coreset
    score: Score
    cv: CrossValidation
    runtime: Runtime
