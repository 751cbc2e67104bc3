"""Settings of the study."""

from itertools import product
from typing import Annotated

from pydantic import Field

from validation.sections import Allowed, Section, checked, integer, number


def _some(values: dict) -> dict:
    if not values or not all(isinstance(each, list) and each for each in values.values()):
        raise ValueError("empty")
    return values


_Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Settings(Section):
    """Folders, parameters with their values, seeds, and where tasks run."""

    folders: Annotated[
        Annotated[dict[_Name, str], Field(min_length=1)], Allowed("names with a folder each")
    ]
    grid: checked(dict[str, list], _some, "parameters, each with a list of values")
    seeds: integer(1, 1000)
    cluster: Annotated[
        str | None, Allowed("null, local:N, tcp://HOST:PORT or a scheduler's .json file")
    ] = None
    worker_gb: number("a number above 0 (gigabytes)", gt=0) = 4.0

    def combinations(self) -> list[dict[str, object]]:
        """List every combination of the grid, the last parameter changing fastest."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]
