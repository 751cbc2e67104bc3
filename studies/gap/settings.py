"""Settings of the study."""

import re

from pydantic import model_validator

from ad.validation import Section, Share, checked, integer, number

_PRINTED = r"[^:,]+(:[01](\.\d+)?){2}"


def _reported(text: str) -> str:
    if not re.fullmatch(rf"{_PRINTED}(,{_PRINTED})*", text):
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
