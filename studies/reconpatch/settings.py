"""Settings of the study."""

from typing import Annotated

from pydantic import Field

from ad.validation import Allowed, Names, Section, checked, different, integer, number

_ABOVE_ZERO = number("a number above 0", gt=0)


class Settings(Section):
    """Dimensions and runs, and how ReConPatch is trained."""

    synthetic_every: integer(2, 1000)
    dimensions: checked(
        list[Annotated[int, Field(ge=1)]],
        different,
        "a list of different integers of at least 1",
    )
    seeds: integer(2, 100)
    draws: integer(1, 100)
    whitening: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Allowed("a number from 0 to 1, or null (chosen by synthetic anomalies)"),
    ]
    learning_rate: _ABOVE_ZERO
    random_learning_rate: _ABOVE_ZERO
    epochs: integer(1, 100_000)
    weight_decay: number("a number of at least 0", ge=0)
    neighbors: integer(2, 10_000)
    alpha: number("a number from 0 to 1", ge=0, le=1)
    sigma: _ABOVE_ZERO
    margin: _ABOVE_ZERO
    momentum: number("a number from 0 to below 1", ge=0, lt=1)
    patches_per_image: integer(1, 100_000)
    batch_patches: integer(4, 100_000)
    random_up_to: integer(0, 100_000)
    ensemble_dimension: integer(1, 100_000)
    ensemble_backbones: Names
