"""Settings of the study, and how a map is trained."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from validation.sections import Allowed, Names, Section, checked, choice, different, integer, number

ABOVE_ZERO = number("a number above 0", gt=0)
SHARE = number("a number from 0 to 1", ge=0, le=1)
Dimensions = checked(
    list[Annotated[int, Field(ge=1)]], different, "a list of different integers of at least 1"
)
BatchPatches = Annotated[
    Annotated[int, Field(ge=4)], Allowed("an integer of at least 4 and at least neighbors")
]


class Schedule(Section):
    """How a map is trained.  The authors published no code; each value's source stands beside it.

    "paper" is the text of arXiv 2305.16713, section 4; "public" are re-implementations by others
    (travishsu/ReConPatch-TF, HIRO-ops-ops/ReConPatch), which disagree where both are named.
    """

    learning_rate: ABOVE_ZERO = 1e-5  # of AdamP with cosine annealing; paper, a single model
    weight_decay: number("a number of at least 0", ge=0) = 1e-2  # paper
    epochs: integer(1, 100_000) = 120  # paper
    neighbors: integer(2, 10_000) = 5  # k, the patch itself included; 5 in HIRO's, 3 in travishsu's
    alpha: SHARE = 0.5  # weight of the pairwise similarity; paper
    sigma: ABOVE_ZERO = 1.0  # in mean squared distances of the start; public: 1, in raw ones
    margin: ABOVE_ZERO = 1.0  # m, in mean distances of the batch; 1 in HIRO's, 0.1 in travishsu's
    momentum: number("a number from 0 to below 1", ge=0, lt=1) = 0.9  # of the averages; public
    # ours: the paper gives none, HIRO's has 64
    batch_patches: BatchPatches = Field(512, validate_default=True)

    @field_validator("batch_patches")
    @classmethod
    def _neighbourhoods_fit(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("neighbors", 0):
            raise ValueError("smaller than a neighbourhood")
        return value


class Training(Schedule):
    """A schedule, the start, and the patches of an epoch."""

    patches_per_image: integer(1, 100_000) | None = None  # drawn anew each epoch; None: every one
    start: choice("random", "pca") = (
        "random"  # the paper names none: random; or principal components
    )
    start_whitening: SHARE = 0.0  # of the start "pca"


class Settings(Schedule):
    """Dimensions and runs, and how the short ReConPatch is trained."""

    synthetic_every: integer(2, 1000)
    dimensions: Dimensions
    seeds: integer(2, 100)
    draws: integer(1, 100)
    loss_margin: number("a number above 0 and below 1", gt=0, lt=1)
    confidence: number("a number from 0.5 to below 1", ge=0.5, lt=1)
    whitening: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Allowed("a number from 0 to 1, or null (chosen by synthetic anomalies)"),
    ]
    patches_per_image: integer(1, 100_000)
    ensemble_dimension: integer(1, 100_000)
    ensemble_backbones: Names
