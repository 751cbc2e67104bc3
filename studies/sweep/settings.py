"""Settings of the study."""

import re
from itertools import product

import yaml

from studies.shared.where import Where
from validation.sections import checked, different, integer

_SETTING = re.compile(r"([a-z_]+\.[a-z_]+) +(\S.*)")


def _values(line: str) -> tuple[str, list]:
    """Split ``coreset.ratio 0.01 0.1``."""
    match = _SETTING.fullmatch(line)
    if match is None:
        raise ValueError("no parameter with its values")
    return match[1], [yaml.safe_load(value) for value in match[2].split()]


def _grid(lines: list[str]) -> list[str]:
    names = [_values(line)[0] for line in lines]
    if not names or len(set(names)) < len(names):
        raise ValueError("empty, or a parameter stands twice")
    return lines


class Settings(Where):
    """Folders, parameters with their values, seeds, and where tasks run."""

    folders: checked(list[str], different, "a list of different folders")
    grid: checked(list[str], _grid, "a list of a parameter and its values each")
    seeds: integer(1, 1000)

    def names(self) -> dict[str, str]:
        """Give each folder a name that can be a file's."""
        return {re.sub(r"[^\w.-]+", "_", folder).strip("_"): folder for folder in self.folders}

    def keys(self) -> list[str]:
        """List the grid's parameters."""
        return [_values(line)[0] for line in self.grid]

    def combinations(self) -> list[dict[str, object]]:
        """List every combination of the grid, the last parameter changing fastest."""
        every = [_values(line)[1] for line in self.grid]
        return [dict(zip(self.keys(), values, strict=True)) for values in product(*every)]
