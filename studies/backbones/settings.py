"""Settings of the study."""

from ad.validation import Names, Section, choice, integer_or_null


class Settings(Section):
    """Which networks, and what is measured."""

    names: Names
    weights: choice("folder", "hub")
    cost_images: integer_or_null(1, "all")
