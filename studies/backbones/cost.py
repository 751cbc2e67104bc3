"""What extraction costs with a network: time and the size of its features."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ad.extraction import FeatureExtractor, extract_features
from ad.files import atomic_path
from ad.params import Runtime

PART = 64  # images whose features are mapped at a time; mapped pages count as resident


@dataclass(frozen=True)
class Cost:
    """What extraction took.

    Parameters
    ----------
    seconds_per_image, cpu_seconds_per_image : float
        Decoding included; loading the network is not.
    grid : tuple of int
    feature_dim : int
    feature_bytes_per_image : int
    """

    n_images: int
    threads: int
    seconds_per_image: float
    cpu_seconds_per_image: float
    grid: tuple[int, int]
    feature_dim: int
    feature_bytes_per_image: int


def timed_extraction(
    extractor: FeatureExtractor,
    paths: Sequence[Path],
    output: Path,
    runtime: Runtime,
    batch_size: int,
) -> Cost:
    """Extract features (`ad.extraction.extract_features`) and say what it took.

    The features are written a part after the other, so that no more than one part is mapped into
    memory: the peak of extraction does not grow with the number of images.
    """
    wall = cpu = 0.0
    output.parent.mkdir(parents=True, exist_ok=True)
    part_file = output.with_name(f"{output.stem}.part.npy")
    with atomic_path(output) as partial, partial.open("wb") as stream:
        for start in range(0, len(paths), PART):
            before = time.perf_counter(), time.process_time()
            some = paths[start : start + PART]
            shape = extract_features(extractor, some, part_file, runtime, batch_size)
            wall += time.perf_counter() - before[0]
            cpu += time.process_time() - before[1]
            part = np.load(part_file, allow_pickle=False)
            if start == 0:
                whole = {"fortran_order": False, "shape": (len(paths), *shape[1:])}
                header = whole | {"descr": np.lib.format.dtype_to_descr(part.dtype)}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(part.data)
            part_file.unlink()
    n, threads = len(paths), torch.get_num_threads()
    return Cost(n, threads, wall / n, cpu / n, shape[1:3], shape[3], part[0].nbytes)
