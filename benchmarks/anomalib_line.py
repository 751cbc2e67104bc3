"""Time one image with anomalib's exported PatchCore; runs in an environment of its own.

The weights and the bank are drawn: neither changes the time. See ``run.py``.
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version

import numpy as np
import onnxruntime
import torch
from anomalib.models import Patchcore

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("backbone")
parser.add_argument("layers", help="separated by commas")
parser.add_argument("size", type=int, help="of the input, pixels")
parser.add_argument("bank", type=int, help="rows of the bank")
parser.add_argument("neighbors", type=int)
parser.add_argument("threads", type=int)
parser.add_argument("repeats", type=int)
given = parser.parse_args()
torch.manual_seed(0)  # anomalib draws from the global generator; this process is its own
detector = Patchcore(
    backbone=given.backbone,
    layers=given.layers.split(","),
    pre_trained=False,
    num_neighbors=given.neighbors,
    pre_processor=Patchcore.configure_pre_processor(image_size=(given.size, given.size)),
).eval()
sides = torch.zeros(1, 3, given.size, given.size)
found = detector.model.feature_extractor(sides)
dim = sum(maps.shape[1] for maps in found.values())
detector.model.memory_bank = torch.rand(given.bank, dim)
path = detector.to_onnx(
    "anomalib_line", input_size=(given.size, given.size), dynamic_shapes=None, opset_version=18
)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = given.threads
session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
pixels = np.random.default_rng(0).random((1, 3, given.size, given.size), dtype=np.float32)
seconds = []
for _ in range(3 + given.repeats):  # the first three warm up
    start = time.perf_counter()
    session.run(None, {session.get_inputs()[0].name: pixels})
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": statistics.median(seconds[3:]), "version": version("anomalib")}))
