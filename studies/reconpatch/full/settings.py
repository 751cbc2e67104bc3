"""Settings of ReConPatch as published."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from studies.reconpatch.settings import ABOVE_ZERO, SHARE, BatchPatches, Dimensions, Training
from validation.sections import Section, checked, different, integer, number

_Integers = list[Annotated[int, Field(ge=2)]]


def _from_zero(values: list[int]) -> list[int]:
    if len(values) < 2 or values[0] != 0 or values != sorted(set(values)):
        raise ValueError("not rising from 0")
    return values


class Settings(Section):
    """Which maps are trained, how, and when they are looked at."""

    dimensions: Dimensions
    neighbors: checked(_Integers, different, "a list of different integers of at least 2")
    margins: checked(
        list[Annotated[float, Field(gt=0)]],
        list,
        "a list of numbers above 0, one for each of neighbors",
    )
    seeds: integer(2, 100)
    draws: integer(1, 100)
    checkpoints: checked(
        list[Annotated[int, Field(ge=0)]], _from_zero, "a list of rising integers from 0"
    )
    learning_rate: ABOVE_ZERO
    weight_decay: number("a number of at least 0", ge=0)
    alpha: SHARE
    sigma: ABOVE_ZERO
    momentum: number("a number from 0 to below 1", ge=0, lt=1)
    batch_patches: BatchPatches

    @field_validator("margins")
    @classmethod
    def _one_each(cls, values: list[float], info: ValidationInfo) -> list[float]:
        if len(values) != len(info.data.get("neighbors", values)):
            raise ValueError("not one for each")
        return values

    def training(self, neighbors: int) -> Training:
        """Return how a map is trained with one of ``neighbors`` and its margin."""
        shared = ("learning_rate", "weight_decay", "alpha", "sigma", "momentum", "batch_patches")
        return Training(
            epochs=self.checkpoints[-1],
            neighbors=neighbors,
            margin=self.margins[self.neighbors.index(neighbors)],
            **{name: getattr(self, name) for name in shared},
        )
