"""What may be chosen, and how a configuration is named."""

from dataclasses import asdict, replace

import pytest

from pretrained.sources import empty_model
from studies.search import space as study
from studies.search.settings import Settings

MODEL = empty_model("resnet10t")
DEFAULT = study.Choice(224, "layer2+layer3", 3, 0.01, 5, False)
SETTINGS = Settings(
    trials=40,
    normals=96,
    image_sizes=[160, 224],
    layers=[["layer2"], [3], ["layer2", "layer3"]],
    patch_sizes=[1, 3, 5],
    ratio=[0.002, 0.05],
    num_neighbors=[1, 9],
)


def test_the_space_is_that_of_the_settings_and_widens_to_the_default():
    found = study.space_around(DEFAULT, SETTINGS, MODEL)
    assert found == study.Space(
        DEFAULT,
        (160, 224),
        ("layer2", "layer3", "layer2+layer3"),
        (1, 3, 5),
        (0.002, 0.05),
        (1, 9),
    )
    far = study.Choice(320, "layer1", 7, 0.1, 20, True)
    wide = study.space_around(far, SETTINGS, MODEL)
    assert wide.image_sizes == (160, 224, 320) and wide.layers[-1] == "layer1"
    assert wide.patch_sizes == (1, 3, 5, 7)
    assert wide.ratio == (0.002, 0.1) and wide.num_neighbors == (1, 20)
    assert set(wide.distributions()) == set(asdict(DEFAULT))
    assert wide.used_layers() == ["layer1", "layer2", "layer3"]
    assert "(160, 224, 320)" in wide.words() and "1 to 20 neighbours" in wide.words()


def test_the_default_is_the_pipelines():
    pipeline = {
        "image_size": 64,
        "backbone_layers": [2, 3],
        "patch_size": 5,
        "coreset_ratio": 0.1,
        "score_num_neighbors": 7,
        "score_reweight": True,
    }
    expected = study.Choice(64, "layer2+layer3", 5, 0.1, 7, True)
    assert study.default_choice(MODEL, pipeline) == expected
    for other in ({"image_tiles": 2}, {"image_region": [0, 0, 0.5, 1]}, {"coreset_size": 9}):
        with pytest.raises(ValueError, match=f"the search.*{next(iter(other))[-4:]}"):
            study.default_choice(MODEL, pipeline | other)


def test_layers_get_their_names():
    model = empty_model("densenet121")
    for layers in ([2, 3], ["features.denseblock3", "features.denseblock2"]):
        word = study.named_layers(model, layers, setting="search.layers")
        names = [stage["module"] for stage in model.feature_info[2:4]]
        assert replace(DEFAULT, layers=word).layer_list() == names
    with pytest.raises(ValueError, match=r"search\.layers: no layer 'layer2'; the network has"):
        study.named_layers(model, ["layer2"], setting="search.layers")


def test_one_neighbour_is_never_reweighted():
    params = asdict(replace(DEFAULT, num_neighbors=1, reweight=True))
    assert not study.choice_from(params).reweight
    params["num_neighbors"] = 2
    assert study.choice_from(params).reweight
