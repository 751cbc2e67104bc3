"""What a run's record holds, field by field; ``record.schema.json`` is this, published.

All parts but the format are optional: what a run does not know is left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studies.gap.write_record import FORMAT

SCHEMA = Path(__file__).with_name("record.schema.json")
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
Plain = bool | int | float | str | list | None
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class Part(BaseModel):
    """A part of a record; unknown keys are refused, so that none is misspelt and passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Decoding(Part):
    """One image, decoded, and brought to the network's input."""

    pixels: Hash = Field(description="hash of the decoded RGB pixels, uint8, (height, width, 3)")
    channel_means: Channels = Field(description="mean of red, green and blue, 0 to 255")
    input: Hash | None = Field(None, description="hash of the network's input, (3, size, size)")
    input_means: Channels | None = Field(None, description="mean of each channel of that input")


class Weights(Part):
    """Which network, with which weights."""

    backbone: str | None = Field(None, description="the network's name")
    source: str | None = Field(None, description="where the weights came from; a name, no path")
    sha256: str | None = Field(None, description="SHA-256 of the weights file; null: random")


class ImageFeatures(Part):
    """One image's patch features, flattened."""

    hash: Hash = Field(description="hash of the values")
    mean: float
    sd: float = Field(description="standard deviation; the unit of differences")
    max: float
    sample: list[float] = Field(description="values at evenly spread places")


class Features(Part):
    """Patch features."""

    shape: list[int] = Field(description="of one image: height, width, dimension")
    images: dict[str, ImageFeatures] = Field(description="by image id")


class Coreset(Part):
    """A memory bank: rows of the training patches, in the order in which they were picked."""

    hash: Hash
    size: int
    first: list[int] = Field(description="the first picks")


class Threshold(Part):
    """Above which score an image is flagged."""

    threshold: float
    rule: str | None = Field(None, description="how it was chosen")
    fold_thresholds: list[float] | None = Field(None, description="of each fold")


class Record(Part):
    """A run of an anomaly detector: hashes and numbers, no images, no paths of the machine."""

    format: Literal[FORMAT] = Field(description="name and version of this format")
    environment: dict[str, Plain] | None = Field(None, description="system, versions, devices")
    parameters: dict[str, Plain] | None = Field(None, description="settings of the run")
    listing: dict[str, list[int]] | None = Field(
        None, description="by folder: the system's own order of its files, as sorted positions"
    )
    ids: list[str] | None = Field(
        None, description="images in the order in which the run took them"
    )
    data: dict[str, Hash] | None = Field(None, description="by image id: hash of the file's bytes")
    decoding: dict[str, Decoding] | None = Field(None, description="by image id")
    weights: Weights | None = None
    features: Features | None = None
    folds: Hash | None = Field(None, description="hash of which images each fold holds out")
    coresets: dict[str, Coreset] | None = Field(None, description="by name, one a fold")
    validation: dict[str, float] | None = Field(
        None, description="by image id: score of each held-out normal image"
    )
    threshold: Threshold | None = None
    scores: dict[str, float] | None = Field(None, description="by image id: the test scores")
    submission: list[tuple[str, int]] | None = Field(
        None, description="id and flag (0 or 1), row by row as written"
    )
    sample_order: list[str] | None = Field(None, description="ids in the sample submission's order")
    quality: dict[str, float] | None = Field(None, description="figures that the run reports")

    def flags(self) -> dict[str, int] | None:
        """Return the flags by id."""
        return None if self.submission is None else dict(self.submission)


def schema() -> dict:
    """Return the JSON Schema of a record."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FORMAT}
    return {**Record.model_json_schema(), **head}


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {doubled!r} stands twice")
    return dict(pairs)


def read_record(path: str | Path) -> Record:
    """Read a record; refuse anything else in one line.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, the field and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such record; 'python -m studies.gap record' writes one"
        )
    try:
        # Mail may add a byte-order mark, and names from Windows may have backslashes.
        text = path.read_text(encoding="utf-8-sig").replace("\\\\", "/")
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: no JSON ({words}); record the run again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: no record of format {FORMAT!r}; record the run again")
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        words = f"{place}={first['input']!r}"[:200].replace("\n", " ")
        message = f"{path}: {words}: {first['msg']}; see {SCHEMA.name}"
        raise ValueError(" ".join(message.split())) from None
