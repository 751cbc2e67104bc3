"""Settings of the study."""

from validation.sections import Names, Section, choice


class Settings(Section):
    """Which networks, and where their weights may come from."""

    names: Names
    weights: choice("folder", "hub")
