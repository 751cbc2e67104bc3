"""Stage 05: banks and a threshold are added to `network.onnx`, and it is a detector file.

Needs ONNX and ONNX Runtime; neither PyTorch nor timm.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from ad import __version__
from ad.detector.check import code_sha256
from ad.detector.contract import FORMAT, ZEROS, probe_picture, rule_of, sealed, sums_digest
from ad.detector.decision import Decision, DecisionNodes
from ad.detector.detector import Detector, appearance
from ad.detector.graph import Graph, Size, model_bytes, read_graph, tensor, write_bytes
from ad.detector.resizing import ResizingNodes

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
    patch_threshold: float,
    normals: Sequence[Path],
    about: Mapping[str, object] | None = None,
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
    patch_threshold : float
        Above it a patch belongs to a region; from held-out normals' patch scores.
    normals : sequence of path
        The training images: their brightness and contrast are what a line watches for drift.
    about : mapping, optional
        What else the file says of itself: data, weights, settings, rules.

    Raises
    ------
    ValueError
        When the network does not compute the extractor's features here, or no whole-number form
        holds the scores.
    """
    decision.check()
    graph, known = read_graph(network)
    rule, bank = rule_of(known["image"]), decision.banks[0]
    expected = sums_of(probe_features(network, known, bank.dtype), decision)
    DecisionNodes(graph, "features", known["grid"], bank.shape[1]).run(decision)
    own = {
        "format": FORMAT,
        "version": __version__,
        "code_sha256": code_sha256(),
        "digest": ZEROS,
        "self_test": sums_digest(*expected),
        "needs": known["needs"],
        "image": known["image"],
        "camera": None,
        "grid": known["grid"],
        "k": decision.k,
        "threshold": decision.threshold,
        "patch_threshold": patch_threshold,
        "ignored": decision.ignored,
        "held_out": [list(map(float, scores)) for scores in held_out],
        "appearance": [appearance(rule.read(each)).tolist() for each in normals],
    }
    write_bytes(path, detector_bytes([graph], dict(about or {}) | own))


def detector_bytes(graphs: Sequence[Graph], about: Mapping[str, object]) -> bytes:
    """Make a detector file of its graphs and what it says of itself."""
    shape, camera = rule_of(about["image"]).shape, about["camera"]
    taken = shape if camera is None else camera[::-1]
    outputs = [
        tensor("patch_sums", np.int32, ["n", *about["grid"]]),
        tensor("fold_sums", np.int32, ["n", len(about["held_out"])]),
        tensor("image_sums", np.int32, ["n"]),
        tensor("flagged", np.bool_, ["n"]),
    ]
    if camera:
        outputs.append(tensor("seen", np.uint8, ["n", *shape, 3]))
    inputs = [tensor("pixels", np.uint8, ["n", *taken, 3])]
    return sealed(model_bytes(graphs, inputs, outputs, about))


def add_resizing(path: Path, detector: Path, camera: Size) -> None:
    """Write a detector file that takes a camera's pictures as they are and resizes them itself.

    Its output ``seen`` are the resized pixels.

    Parameters
    ----------
    path : path
    detector : path
        A detector file that takes resized pixels.
    camera : tuple of int
        Width and height of the pictures, 8-bit RGB.
    """
    plain = Detector.load(detector)
    if plain.camera:
        raise ValueError(f"{detector}: no detector file that takes resized pixels")
    if plain.rule.brightness is not None:
        raise ValueError(
            f"{detector}: image.brightness={plain.rule.brightness} has no form in a camera's file"
        )
    sums = plain.run(plain.pixels(probe_picture(*camera[::-1])))[:3]
    known = {"camera": list(camera), "digest": ZEROS, "self_test": sums_digest(*sums)}
    graph, about = read_graph(detector)
    resizing = Graph("camera_")
    ResizingNodes(resizing, plain.rule, camera).run("pixels", "seen")
    for node in graph.nodes:
        node.input[:] = ["seen" if name == "pixels" else name for name in node.input]
    write_bytes(path, detector_bytes([resizing, graph], about | known))


def probe_features(network: Path, known: Mapping[str, object], dtype: np.dtype) -> np.ndarray:
    """Send the probe picture through a network's file, and hold it against the extractor's."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    pixels = probe_picture(*rule_of(known["image"]).shape)[None]
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
    counted = ~decision.ignore.ravel() if decision.ignored else 1
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a camera's file of a detector file."""
    parser = argparse.ArgumentParser(prog="python -m ad.detector.make", description=main.__doc__)
    parser.add_argument("detector", type=Path, help="a file that takes resized pixels")
    parser.add_argument("camera", help="width and height of its pictures: 1024x768")
    parser.add_argument("output", type=Path)
    options = parser.parse_args(arguments)
    try:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", options.camera):
            raise ValueError(f"{options.camera}: a camera's size is written 1024x768")
        add_resizing(options.output, options.detector, tuple(map(int, options.camera.split("x"))))
        print(options.output)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
