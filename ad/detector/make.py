"""Stage 05: banks and a threshold are added to `network.onnx`, and it is a detector file.

Needs ONNX and ONNX Runtime; neither PyTorch nor timm.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from ad import __version__
from ad.detector.check import code_sha256
from ad.detector.contract import (
    FORMAT,
    ZEROS,
    picture_shape,
    probe_picture,
    rule_of,
    sealed,
    sums_digest,
)
from ad.detector.decision import Decision, DecisionNodes
from ad.detector.detector import appearance
from ad.detector.graph import Graph, model_bytes, read_graph, tensor, write_bytes
from ad.images import read_rgb

if TYPE_CHECKING:  # pydantic is not needed here
    from ad.params import Score

ROWS = 1024  # patches measured at a time


def without_form(arithmetic: str, score: "Score", aggregate: str) -> str:
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
    network: Path,
    decision: Decision,
    *,
    held_out: Sequence[Sequence[float]],
    patch_threshold: float | None = None,
    normals: Sequence[Path] = (),
    about: Mapping[str, object] | None = None,
    camera: tuple[int, int] | None = None,
) -> None:
    """Write a detector file: pixels in, whole-number scores and a flag out.

    Parameters
    ----------
    path : path
    network : path
        The run's ``network.onnx``.
    decision : Decision
        The folds' banks, the number of neighbours, the threshold as ``threshold.json`` has it, and
        the patches that never count.
    held_out : sequence of sequences of float
        Each fold's image scores of its held-out normals, which p-values rest on.
    patch_threshold : float, optional
        Above it a patch belongs to a region; from held-out normals' patch scores.
    normals : sequence of path
        The training images: their brightness and contrast are what a line watches for drift.
    about : mapping, optional
        What else the file says of itself: data, weights, settings, rules.
    camera : tuple of int, optional
        Width and height of a camera's pictures, which the file then takes as they are, 8-bit RGB;
        by default it takes resized pixels.

    Raises
    ------
    ValueError
        When the network does not compute the extractor's features here, or no whole-number form
        holds the scores.
    """
    graph, known = read_graph(network)
    rule, bank = rule_of(known["image"]), decision.banks[0]
    grid = known["grid"]
    expected = sums_of(probe_features(network, known, bank.dtype), decision)
    DecisionNodes(graph, "features", grid, bank.shape[1]).run(decision)
    own = {
        "format": FORMAT,
        "version": __version__,
        "digest": ZEROS,
        "image": known["image"],
        "camera": camera and list(camera),
        "k": decision.k,
        "threshold": decision.threshold,
        "patch_threshold": patch_threshold,
        "ignored": 0 if decision.ignore is None else int(decision.ignore.sum()),
        "held_out": [list(map(float, scores)) for scores in held_out],
        "appearance": [appearance(rule.pixels(read_rgb(each))).tolist() for each in normals],
        "self_test": sums_digest(*expected),
        "needs": known["needs"],
        "code_sha256": code_sha256(),
    }
    inputs = [tensor("pixels", np.uint8, ["n", *picture_shape(rule), 3])]
    outputs = [
        tensor("patch_sums", np.int32, ["n", *grid]),
        tensor("fold_sums", np.int32, ["n", len(decision.banks)]),
        tensor("image_sums", np.int32, ["n"]),
        tensor("flagged", np.bool_, ["n"]),
    ]
    write_bytes(path, sealed(model_bytes([graph], inputs, outputs, dict(about or {}) | own)))


def probe_features(network: Path, known: Mapping[str, object], dtype: np.dtype) -> np.ndarray:
    """Send the probe picture through a network's file, and hold it against the extractor's."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    pixels = probe_picture(*picture_shape(rule_of(known["image"])))[None]
    features = session.run(["features"], {"pixels": pixels})[0].astype(dtype)
    if hashlib.sha256(features.tobytes()).hexdigest() != known["features_sha256"]:
        raise ValueError(
            f"{network}: ONNX Runtime {onnxruntime.__version__} does not compute the extractor's "
            f"features on this machine, so its scores would not be the run's"
        )
    return features[0]


def sums_of(features: np.ndarray, decision: Decision) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decide by NumPy alone: a picture's patch, fold and image sums of k squared distances.

    In float64, which holds every whole number below 2 ** 53: the reference of the graph's nodes.

    Parameters
    ----------
    features : array of uint8 or int8, shape (h, w, dim)
    """
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    counted = 1 if decision.ignore is None else ~decision.ignore.ravel()
    of_folds = []
    for bank in decision.banks:
        wide = bank.astype(np.float64)
        norms, sums = np.square(wide).sum(axis=1), []
        for some in (flat[at : at + ROWS] for at in range(0, len(flat), ROWS)):
            distances = np.square(some).sum(axis=1)[:, None] - 2 * some @ wide.T + norms
            nearest = np.partition(distances, decision.k - 1, axis=1)[:, : decision.k]
            sums.append(nearest.sum(axis=1))
        of_folds.append(np.concatenate(sums) * counted)
    patches, folds = np.max(of_folds, axis=0), np.max(of_folds, axis=1)
    return patches.reshape(features.shape[:2]), folds, folds.max()


def write_refusal(path: Path, why: str) -> None:
    """Write a file that says, when it is loaded, why there is no detector."""
    graph, shape = Graph(), ["n"]
    graph.add("Identity", ["pixels"], "same")
    inputs, outputs = [tensor("pixels", np.uint8, shape)], [tensor("same", np.uint8, shape)]
    about = {"format": FORMAT, "version": __version__, "digest": ZEROS, "why_not": why}
    write_bytes(path, sealed(model_bytes([graph], inputs, outputs, about)))
