"""Settings of the study."""

from ad.validation import Names, Section, choice


class Settings(Section):
    """Which networks, and where their weights may come from."""

    names: Names
    weights: choice("folder", "hub")
