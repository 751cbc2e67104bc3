"""What a search may choose: one configuration, and the space of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from torch import nn

from ad.backbone import resolve_layers
from studies.search.settings import Settings


@dataclass(frozen=True)
class Choice:
    """One configuration."""

    image_size: int
    layers: str  # joined with +
    patch_size: int
    ratio: float
    num_neighbors: int
    reweight: bool

    def layer_list(self) -> list[str]:
        """Return the layers' names."""
        return self.layers.split("+")


def named_layers(model: nn.Module, layers: Sequence[str | int], *, setting: str) -> str:
    """Write layers, by their names, as one word: the value of a category.

    Parameters
    ----------
    model : nn.Module
        A timm network; stage numbers become the names that it has for them.
    layers : sequence of str or int
    setting : str
        The parameter that lists them, for the message of an error.
    """
    try:
        return "+".join(layer.name for layer in resolve_layers(model, layers))
    except ValueError as error:
        raise ValueError(str(error).replace("backbone.layers", setting)) from None


@dataclass(frozen=True)
class Space:
    """What may be chosen; ranges are inclusive, and the default lies inside."""

    default: Choice
    image_sizes: tuple[int, ...]
    layers: tuple[str, ...]
    patch_sizes: tuple[int, ...]
    ratio: tuple[float, float]
    num_neighbors: tuple[int, int]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's description of the space."""
        return {
            "image_size": CategoricalDistribution(self.image_sizes),
            "layers": CategoricalDistribution(self.layers),
            "patch_size": CategoricalDistribution(self.patch_sizes),
            "ratio": FloatDistribution(*self.ratio, log=True),
            "num_neighbors": IntDistribution(*self.num_neighbors),
            "reweight": CategoricalDistribution((False, True)),
        }

    def used_layers(self) -> list[str]:
        """Return every layer that may be read."""
        return sorted({layer for name in self.layers for layer in name.split("+")})

    def words(self) -> str:
        """Describe the space."""
        return (
            f"sizes {self.image_sizes}, layers {', '.join(self.layers)}, neighbourhoods "
            f"{self.patch_sizes}, ratio {self.ratio[0]:g} to {self.ratio[1]:g}, "
            f"{self.num_neighbors[0]} to {self.num_neighbors[1]} neighbours, re-weighting on or off"
        )


def default_choice(model: nn.Module, pipeline: Mapping[str, object]) -> Choice:
    """Return the pipeline's own configuration, from a notebook's parameters.

    Raises
    ------
    ValueError
        With tiles or a region: synthetic anomalies are kept as whole inputs of the network.  With a
        fixed size of banks: their ratio is searched.
    """
    tiles, region = pipeline.get("image_tiles", 1), pipeline.get("image_region")
    if tiles > 1 or region is not None:
        raise ValueError(
            f"the search knows neither tiles nor regions: image.tiles={tiles}, "
            f"image.region={region}; set 1 and null for it"
        )
    if size := pipeline.get("coreset_size"):
        raise ValueError(f"the search varies the ratio: coreset.size={size}; set null for it")
    return Choice(
        pipeline["image_size"],
        named_layers(model, pipeline["backbone_layers"], setting="backbone.layers"),
        pipeline["patch_size"],
        pipeline["coreset_ratio"],
        pipeline["score_num_neighbors"],
        pipeline["score_reweight"],
    )


def space_around(default: Choice, settings: Settings, model: nn.Module) -> Space:
    """Return the space of the study's settings, widened so that the default lies in it."""

    def with_value(values: Sequence, value: object) -> tuple:
        return (*values,) if value in values else (*values, value)

    layers = [named_layers(model, each, setting="search.layers") for each in settings.layers]
    (low, high), (few, many) = settings.ratio, settings.num_neighbors
    return Space(
        default,
        image_sizes=with_value(settings.image_sizes, default.image_size),
        layers=with_value(layers, default.layers),
        patch_sizes=with_value(settings.patch_sizes, default.patch_size),
        ratio=(min(low, default.ratio), max(high, default.ratio)),
        num_neighbors=(min(few, default.num_neighbors), max(many, default.num_neighbors)),
    )


def choice_from(params: Mapping[str, object]) -> Choice:
    """Make a choice of a trial's values.  With one neighbour nothing can be re-weighted (eq. 7)."""
    choice = Choice(**params)
    return replace(choice, reweight=choice.reweight and choice.num_neighbors > 1)
