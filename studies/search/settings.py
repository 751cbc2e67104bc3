"""Settings of the study."""

from typing import Annotated

from pydantic import Field

from validation.sections import Layers, Section, checked, different, integer, rising

_Size = Annotated[int, Field(ge=32, le=4096)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Count = Annotated[int, Field(ge=1, le=1000)]


class Settings(Section):
    """How many trials, on how many images, in which space."""

    trials: integer(2, 100_000)
    normals: integer(12, 100_000)
    image_sizes: checked(list[_Size], different, "a list of different integers of at least 32")
    layers: checked(list[Layers], different, "a list of different lists of layers")
    patch_sizes: checked(
        list[integer(1, 15, odd=True)], different, "a list of different odd integers from 1 to 15"
    )
    ratio: checked(list[_Share], rising, "two numbers above 0 and at most 1, the smaller first")
    num_neighbors: checked(list[_Count], rising, "two integers of at least 1, the smaller first")
