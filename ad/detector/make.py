"""Write the detector file of a finished run: pixels in, whole-number scores and flags out."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper

from ad.files import atomic_path
from ad.images import InputRule
from ad.params import Score
from ad.exact.features import WholeForm
from ad.exact.network import PIXELS, Conv
from ad.detector.decision import Decision, DecisionNodes, FeatureNodes
from ad.detector.detector import FORMAT, METADATA
from ad.detector.graph import Graph, NetworkNodes
from ad.detector.tiles import cut_nodes, join_nodes

OPSET = 18
IR_VERSION = 9


def without_form(arithmetic: str, score: Score, aggregate: str) -> str:
    """Say why settings have no exact form in standard operators; empty where they have."""
    for setting, value, wanted in (
        ("backbone.arithmetic", arithmetic, "integer"),
        ("score.squared", score.squared, True),
        ("score.reweight", score.reweight, False),
        ("score.index", score.index, "exact"),
        ("cv.aggregate", aggregate, "max"),
    ):
        if value != wanted:
            return f"{setting}={value} has no exact form in a detector file; it must be {wanted}"
    return ""


def write_detector(
    path: Path,
    whole: WholeForm,
    decision: Decision,
    rule: InputRule,
    about: Mapping[str, object],
) -> None:
    """Write a detector file.

    Parameters
    ----------
    path : path
    whole : WholeForm
    decision : Decision
    rule : InputRule
        How an image is read.
    about : mapping
        What the file says of itself beside what it decides with: each fold's held-out scores
        (``held_out``), brightness and contrast of the normals (``appearance``), parameters and
        hashes.
    """
    graph, network = Graph(), whole.runner.network
    geometry, side = (rule.size, rule.tiles), rule.side
    values = graph.add("Transpose", [graph.cast("pixels", np.float32)], {"perm": [0, 3, 1, 2]})
    means = np.array(network.means, dtype=np.float32)[:, None, None]
    values = graph.add("Sub", [values, graph.constant(means)])
    maps = NetworkNodes(graph, cut_nodes(graph, values, geometry), (rule.size, rule.size)).run(
        network
    )
    channels = channels_of(network.operations)
    counts = [channels[output.tensor] for output in network.outputs]
    features = FeatureNodes(graph, whole).run(maps, counts)
    dim = decision.banks[0].shape[1]
    features, grid = join_nodes(graph, features, (*maps[0][1], dim), geometry)
    DecisionNodes(graph, features, dim).run(decision, grid)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])
    outputs = [
        helper.make_tensor_value_info("patch_sums", TensorProto.INT32, ["n", *grid]),
        helper.make_tensor_value_info("fold_sums", TensorProto.INT32, ["n", len(decision.banks)]),
        helper.make_tensor_value_info("image_sums", TensorProto.INT32, ["n"]),
        helper.make_tensor_value_info("flagged", TensorProto.BOOL, ["n"]),
    ]
    built = helper.make_graph(graph.nodes, "detector", [pixels], outputs, graph.constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(built, opset_imports=[opset], ir_version=IR_VERSION)
    model.producer_name = "ad"
    image = {
        "size": rule.size,
        "resize": rule.resize,
        "interpolation": rule.resample.name.lower(),
        "tiles": rule.tiles,
        "region": rule.region,
    }
    own = {"format": FORMAT, "k": decision.k, "threshold": decision.threshold, "image": image}
    text = json.dumps(own | dict(about), sort_keys=True, allow_nan=False)
    helper.set_model_props(model, {METADATA: text})
    checker.check_model(model, full_check=True)
    with atomic_path(path) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))


def write_refusal(path: Path, why: str) -> None:
    """Write a file that says, when it is loaded, why there is no detector."""
    number = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n"])
    same = helper.make_tensor_value_info("same", TensorProto.UINT8, ["n"])
    node = helper.make_node("Identity", ["pixels"], ["same"])
    built = helper.make_graph([node], "no_detector", [number], [same])
    model = helper.make_model(
        built, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, {METADATA: json.dumps({"format": FORMAT, "why_not": why})})
    with atomic_path(path) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))


def channels_of(operations: tuple) -> dict[str, int]:
    """Count the channels of every tensor of a network."""
    found = {PIXELS: 3}
    for each in operations:
        own = [found[name] for name in each.sources]
        joined = sum(own) if type(each).__name__ == "Concat" else max(own)
        found[each.target] = len(each.bias) if isinstance(each, Conv) else joined
    return found
