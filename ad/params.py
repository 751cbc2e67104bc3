"""The settings of an experiment: a section of ``params.yaml`` each, every one with its default.

Functions take a section as an argument; nothing here reads a file.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ad.thresholds import check_rule
from ad.tiles import MARGIN, side_of

RENAMED = {
    "image.size": "image.input_size",
    "patch.size": "patch.patch_size",
    "coreset.size": "coreset.n_select",
}


class Section(BaseModel):
    """Settings that belong together; frozen, and strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _number(value: object) -> object:
    """Take ``1e-6`` for a number, as people mean it; YAML 1.1 reads it as text."""
    is_number = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if is_number else value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("it must be odd")
    return value


def _weights(value: str) -> str:
    if value in ("package", "hub", "random") or value.endswith((".safetensors", ".pth", ".pt")):
        return value
    raise ValueError("it must be package, hub, random, or a .safetensors or .pth file")


def _different(layers: list) -> list:
    if not layers or len(set(map(str, layers))) < len(layers):
        raise ValueError("it must be a list of different layers")
    return layers


def _inside(region: list[float]) -> list[float]:
    left, top, right, bottom = region
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("it must be left, top, right, bottom as shares from 0 to 1")
    return region


Text = Annotated[str, Field(pattern=r"\S")]
Share = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1)]
Pixels = Annotated[int, Field(ge=32, le=4096)]
Channels = Annotated[list[Share], Field(min_length=3, max_length=3)]
Count = Annotated[int, Field(ge=1)]
Layer = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=0)]


class Data(Section):
    """Where the images are, and a second set that nothing is chosen on."""

    path: Text = "data"
    locked: Text | None = "data_locked"


class Image(Section):
    """How a picture becomes the network's input; pixels.

    ``input_size`` is a side, or height and width.  ``region`` is the part that is looked at: left,
    top, right and bottom as shares of the picture.  ``brightness`` is the mean that each picture's
    pixels are scaled to.  ``bits`` are those of 16-bit files that hold values; ``ignore`` is a mask
    picture whose marked parts never count.
    """

    input_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] = 224
    tiles: Annotated[int, Field(ge=1, le=16)] = 1
    region: (
        Annotated[list[float], Field(min_length=4, max_length=4), AfterValidator(_inside)] | None
    ) = None
    resize: Annotated[int, Field(ge=32)] | None = None
    brightness: Annotated[float, BeforeValidator(_number), Field(gt=0, lt=255)] | None = None
    mean: Channels | None = None
    std: Channels | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    ignore: Text | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the network's input."""
        size = self.input_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @model_validator(mode="after")
    def _fits(self) -> "Image":
        if self.tiles > 1 and any(side < 4 * MARGIN or side % MARGIN for side in self.shape):
            raise ValueError(
                f"image.tiles={self.tiles} with image.input_size={self.input_size}: tiles overlap "
                f"by {2 * MARGIN} pixels, so a side must be at least {4 * MARGIN} and a multiple "
                f"of {MARGIN}"
            )
        shortest = min(side_of(side, self.tiles) for side in self.shape)
        if self.resize is not None and self.resize < shortest:
            raise ValueError(
                f"image.resize={self.resize} is smaller than the crop of image.input_size="
                f"{self.input_size} in {self.tiles} x {self.tiles} tiles; it must be null or at "
                f"least {shortest}"
            )
        return self


class BackboneSettings(Section):
    """Which network, with which weights, read where."""

    name: Text = "tf_efficientnet_lite0"
    weights: Annotated[str, AfterValidator(_weights)] = "package"
    layers: Annotated[list[Layer], AfterValidator(_different)] = ["blocks.2", "blocks.4"]
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    arithmetic: Literal["integer", "float32"] = "integer"


class Patch(Section):
    """How maps become patch features.

    ``patch_size`` is the neighbourhood's side; each layer is pooled to ``pretrain_dim`` (None: one
    value a channel, the mean over its neighbourhood), all of them to ``target_dim`` (None: joined).
    """

    patch_size: Annotated[int, Field(ge=1, le=15), AfterValidator(_odd)] = 3
    pretrain_dim: Count | None = None
    target_dim: Count | None = None


class Coreset(Section):
    """How a memory bank is drawn: a share of the patches, or so many (``n_select``)."""

    ratio: Share = 0.01
    n_select: Count | None = None
    projection_dim: Count | None = None


class Score(Section):
    """How patches and images are scored."""

    num_neighbors: Annotated[int, Field(ge=1, le=1000)] = 5
    squared: bool = True
    reweight: bool = False
    index: Literal["exact", "faiss_flat", "faiss_hnsw"] = "exact"

    @model_validator(mode="after")
    def _reweighting_leaves_something(self) -> "Score":
        if self.reweight and self.num_neighbors == 1:
            raise ValueError(
                "score.reweight=true with score.num_neighbors=1 makes every score 0 (eq. 7); "
                "it must be false, or score.num_neighbors at least 2"
            )
        return self


class CrossValidation(Section):
    """How normals are split, and how the folds become one threshold and one score."""

    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    shuffle: bool = True
    threshold: Annotated[str, AfterValidator(check_rule)] = "max"
    aggregate: Literal["max", "mean", "median"] = "max"


class Runtime(Section):
    """What the run may use; with whole numbers no result depends on it."""

    device: Literal["auto", "cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory_gb: Annotated[float, BeforeValidator(_number), Field(gt=0)] = 3.0


class Params(Section):
    """All of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data = Data()
    image: Image = Image()
    backbone: BackboneSettings = BackboneSettings()
    patch: Patch = Patch()
    coreset: Coreset = Coreset()
    score: Score = Score()
    cv: CrossValidation = CrossValidation()
    runtime: Runtime = Runtime()


def read_params(given: Mapping[str, object], model: type[Section] = Params) -> Section:
    """Check settings; refuse unknown names, wrong types and values out of range.

    Parameters
    ----------
    given : mapping
        Sections by name, as ``params.yaml`` has them.
    model : type
        `Params`, or a section of a study's own.

    Raises
    ------
    ValueError
        One line that names the setting, its value and what is allowed.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        found = error.errors()[0]
    key, message = ".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, ")
    if key in RENAMED:
        raise ValueError(f"{key} is now called {RENAMED[key]}")
    if found["type"] == "extra_forbidden":
        for part in found["loc"][:-1]:
            model = model.model_fields[part].annotation
        raise ValueError(f"{key} is no setting; there are {', '.join(sorted(model.model_fields))}")
    if found["type"] == "value_error" and isinstance(found["input"], dict):
        raise ValueError(message)  # of several settings together, which it names
    text = re.sub(r"\s+", " ", f"{key}={found['input']!r}")[:200]
    raise ValueError(f"{text}: {message[0].lower()}{message[1:]}")
