"""Shards with planted features, and workers that die; importable by workers."""

import os
import signal
from pathlib import Path

import numpy as np

from ad.files import save_array
from studies.scale import selection
from studies.scale.shards import Shards, index_of

SIZES = (300, 1, 512, 77, 200)


def points_of(kind: str) -> np.ndarray:
    """Draw points: spread, with many ties, or floats."""
    generator = np.random.default_rng(len(kind))
    shape = (sum(SIZES), 6)
    if kind == "ties":
        return generator.integers(0, 3, shape).astype(np.uint8)
    if kind == "signed":
        return generator.integers(-127, 128, shape).astype(np.int8)
    if kind == "floats":
        return generator.normal(size=shape).astype(np.float32)
    return generator.integers(0, 128, shape).astype(np.uint8)


def write(folder: Path, points: np.ndarray) -> Shards:
    """Cut points into shards of unequal sizes."""
    names = []
    for number, part in enumerate(np.split(points, np.cumsum(SIZES)[:-1])):
        names.append(f"{number}.npy")
        save_array(folder / names[-1], part)
    return index_of(folder, names)


def answer_between_deaths(question: selection.Question) -> selection.Answer | None:
    """Answer, but kill the own process in the second and in the fourth round."""
    deaths = Path(question.shards.folder) / "deaths"
    died = len(deaths.read_text()) if deaths.exists() else 0
    if question.shards.offset == 0 and question.since > 50 * (1 + died) and died < 2:
        with deaths.open("a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return selection.answer(question)
