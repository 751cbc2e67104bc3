"""Settings of the study."""

from validation.sections import Section, integer, number

_BELOW_HALF = number("a number above 0 and at most 0.5", gt=0, le=0.5)


class Settings(Section):
    """Repeats, and how far an image may be changed."""

    seeds: integer(3, 20)
    folds: integer(2, 1000)
    copies: integer(2, 100_000)
    rotation: number("a number above 0 and at most 45 (degrees)", gt=0, le=45)
    illumination: _BELOW_HALF
    crop: _BELOW_HALF
