"""Time anomalib's coreset selection; runs in an environment of its own (see ``run.py``)."""

import argparse
import json
import time
from importlib.metadata import version

import numpy as np
import torch
from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("features", help=".npy file of float32, shape (n, dim)")
parser.add_argument("ratio", type=float)
parser.add_argument("threads", type=int)
given = parser.parse_args()
torch.set_num_threads(given.threads)
torch.manual_seed(0)  # anomalib draws from the global generator; this process is its own
features = torch.from_numpy(np.load(given.features))
sampler = KCenterGreedy(embedding=features, sampling_ratio=given.ratio)
start = time.perf_counter()
picks = sampler.select_coreset_idxs()
seconds = time.perf_counter() - start
print(
    json.dumps(
        {
            "seconds": seconds,
            "n_select": len(picks),
            "projection_dim": int(sampler.features.shape[1]),
            "version": version("anomalib"),
        }
    )
)
