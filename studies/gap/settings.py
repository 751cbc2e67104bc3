"""Settings of the study."""

import re

from pydantic import model_validator

from validation.sections import Section, Share, checked, integer, number

_PRINTED = r"[^:,]+(:[01](\.\d+)?){2}"


def _reported(text: str) -> str:
    if not re.fullmatch(rf"{_PRINTED}(,{_PRINTED})*", text):
        raise ValueError("not as printed")
    return text


def _printed_or_none(text: str) -> str:
    if not re.fullmatch(r"([01](\.\d+)?)?", text):
        raise ValueError("not as printed")
    return text


class Settings(Section):
    """The printed values, and the interventions."""

    reported: checked(
        str, _reported, "name:public:private of each printed F1, with commas between models"
    )
    n_images: integer(20, 10_000)
    n_anomalous: integer(1, 10_000)
    working: number("a number from 0.5 to 1", ge=0.5, le=1)
    other_private: checked(
        str, _printed_or_none, 'a printed F1 in quotes ("0.98039"), or "" (none)'
    )
    flag_window: number("a number above 0 and at most 1", gt=0, le=1)
    coreset_ratio: Share
    seeds: integer(1, 1000)
    permutations: integer(100, 1_000_000)

    @model_validator(mode="after")
    def _some_are_normal(self) -> "Settings":
        if self.n_anomalous >= self.n_images:
            raise ValueError(
                f"n_anomalous={self.n_anomalous} of n_images={self.n_images} leaves no normal "
                f"image; it must be smaller"
            )
        return self
