"""A file of weights says how its network was trained, or the parameters do."""

from pathlib import Path

import pytest

from tools.check_inputs import check_origin
from tools.parameters import read_params

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")


def with_weights(name: str, weights: str, **image: object):
    """Return the repository's parameters with another network."""
    backbone = PARAMS.backbone.model_copy(update={"name": name, "weights": weights})
    changes = {"backbone": backbone, "image": PARAMS.image.model_copy(update=image)}
    return PARAMS.model_copy(update=changes)


def test_a_network_of_several_normalisations_needs_a_tag_or_a_setting(one_line):
    with pytest.raises(ValueError) as caught:
        check_origin(with_weights("efficientnet_b1", "weights/mine.safetensors"))
    one_line(caught, "mine.safetensors", "[0.5, 0.5, 0.5]", "[0.485, 0.456, 0.406]", "image.mean")
    check_origin(with_weights("efficientnet_b1", "weights/efficientnet_b1.ft_in1k.safetensors"))
    half = [0.5] * 3
    check_origin(with_weights("efficientnet_b1", "weights/mine.pth", mean=half, std=half))


@pytest.mark.parametrize("weights", ["package", "hub", "random", "weights/mine.safetensors"])
def test_others_do_not(weights):
    check_origin(with_weights("tf_efficientnet_lite0", weights))
