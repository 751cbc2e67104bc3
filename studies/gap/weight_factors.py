"""Factors of the network: weights left out, other weights, and its mode."""

from collections.abc import Iterator

import numpy as np
from timm.models import list_pretrained
from torch import Tensor

from ad.backbone import Backbone
from studies.gap.case import Case, default_tag
from studies.gap.interventions import ARGUED, CHOICE, MISTAKE, NOT_RUN, Control, Row
from studies.gap.listings import hash_order
from studies.gap.loaders import run_network


def weight_factors(control: Control) -> Iterator[Row]:
    """Leave weights out, or the last layer of them; take others; forget ``eval()``."""
    case = control.case
    if case.backbone.weights != "random":
        for name, network in (
            ("weights not loaded (random)", case.network(weights="random")),
            ("last layer not loaded", partly_loaded(case)),
        ):
            yield control.changed(name, run_network(network, case), kind=MISTAKE)
    for name in other_weights(case.backbone.name):
        factor = f"weights {name} of the hub"
        try:
            network = case.network(name=name, weights="hub")
        except ConnectionError:
            yield Row(factor, CHOICE, NOT_RUN, "the hub cannot be reached")
        else:
            yield control.changed(factor, run_network(network, case), kind=CHOICE)
    yield from mode_factors(control)
    yield TORCHVISION


def partly_loaded(case: Case) -> Backbone:
    """Leave the last layer that is read at its random start, as a lenient loader would."""
    loaded, network = case.network(), case.network(weights="random")
    last = loaded.layers[-1].name
    state: dict[str, Tensor] = {
        key: value
        for key, value in loaded.model.state_dict().items()
        if not key.startswith(f"{last}.")
    }
    network.model.load_state_dict(state, strict=False)
    return network


def other_weights(backbone: str) -> list[str]:
    """Name the backbone's weights that one name may stand for: timm's default, torchvision's V1."""
    name = backbone.partition(".")[0]
    tags = [default_tag(name), "tv_in1k", "tv2_in1k"]
    known = list_pretrained(f"{name}.*")
    return [full for full in dict.fromkeys(f"{name}.{tag}" for tag in tags) if full in known]


def mode_factors(control: Control) -> Iterator[Row]:
    """Forget ``eval()``, so that batches normalise themselves: in order, small, mixed."""
    case, network = control.case, control.case.network()
    names = [record.id for record in case.records()]
    by_hash = np.array([names.index(name) for name in hash_order(names)])
    for words, size, rows in (
        ("eval() forgotten, batches of 32", 32, None),
        ("eval() forgotten, batches of 8", 8, None),
        ("eval() forgotten, batches of 32 by hash", 32, by_hash),
    ):
        network.model.train()
        features = run_network(network, case, batch_size=size, rows=rows)
        if rows is not None:
            features = features[np.argsort(rows)]
        yield control.changed(words, features, kind=MISTAKE)


TORCHVISION = Row(
    "torchvision's V1 against V2 weights",
    CHOICE,
    ARGUED,
    "training and test images go through the same weights, and the threshold is chosen with them; "
    "either is a trained network, so flags keep information. Which one a name means: see the table "
    "of names",
)
