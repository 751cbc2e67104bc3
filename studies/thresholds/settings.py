"""Settings of the study."""

from validation.sections import Section, integer, number


class Settings(Section):
    """Nested folds, the rules' rate, runs for the headline's interval, and duplicates."""

    outer: integer(2, 1000)
    rate: number("a number above 0 and below 0.25", gt=0, lt=0.25)
    seeds: integer(1, 10_000)
    repeats: integer(2, 10_000)
    clusters: integer(1, 1000)
    duplicate: number("a number above 0", gt=0)
    planted: number("a number above 0 and at most 0.8", gt=0, le=0.8)
    noise: number("a number of at least 0", ge=0)
