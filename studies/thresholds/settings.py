"""Settings of the study."""

from ad.validation import Section, integer, number


class Settings(Section):
    """Nested folds and the rules' rate."""

    outer: integer(2, 1000)
    rate: number("a number above 0 and below 0.25", gt=0, lt=0.25)
    clusters: integer(1, 1000)
    duplicate: number("a number above 0", gt=0)
