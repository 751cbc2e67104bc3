"""Time anomalib's coreset selection; runs in an environment of its own (see ``run.py``).

Usage: python anomalib_peer.py FEATURES.npy RATIO THREADS
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

torch.set_num_threads(int(sys.argv[3]))
torch.manual_seed(0)  # anomalib draws from the global generator; this process is its own
features = torch.from_numpy(np.load(sys.argv[1]))
sampler = KCenterGreedy(embedding=features, sampling_ratio=float(sys.argv[2]))
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
