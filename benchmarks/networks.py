"""A network's integer form beside the same network in PyTorch's float32: seconds an image."""

from contextlib import nullcontext

import numpy as np
import torch

from ad.backbone import load_backbone
from ad.extraction import CPU_CHUNK, FeatureExtractor, make_extractor, pixels_of
from ad.parallel import chunk_map
from ad.params import BackboneSettings, Image, Patch
from benchmarks.parts import DEFAULT, SEED, best_of, images
from benchmarks.peers import TEAM
from ad.exact.engines import exact_float32

CHUNKS = 8  # of images; threads take them one behind the other, as the extraction does
NETWORKS = (
    DEFAULT,
    BackboneSettings(name="resnet18", weights="random", layers=["layer2", "layer3"]),
    TEAM,
)


def seconds_an_image(extractor: FeatureExtractor, pixels: np.ndarray) -> float:
    """Time the layers' maps of chunks of images, the best of three passes."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    if not extractor.whole:  # scaled before the clock starts
        scaled = np.stack([extractor.rule.normalised(each) for each in pixels])
        images = torch.from_numpy(scaled).to(memory_format=torch.channels_last)

    def one_chunk(chunk: torch.Tensor) -> None:
        with torch.inference_mode():
            extractor.whole.runner(chunk) if extractor.whole else extractor.backbone(chunk)

    def one_pass() -> None:
        with chunk_map() as run:
            for _ in run(one_chunk, [images] * CHUNKS):
                pass

    return best_of(one_pass, 3) / (CHUNKS * len(pixels))


def networks() -> dict:
    """Time each network both ways; random weights cost the same as trained ones."""
    train, _ = images()
    found = []
    for settings in NETWORKS:
        row: dict[str, object] = {"name": settings.name, "layers": settings.layers}
        for arithmetic in ("integer", "float32"):
            backbone = load_backbone(settings, seed=SEED)
            extractor = make_extractor(
                backbone, Image(size=224), Patch(size=3), train, arithmetic=arithmetic
            )
            pixels = np.stack([pixels_of(path, extractor.rule) for path in train[:CPU_CHUNK]])
            with exact_float32() if extractor.whole else nullcontext():
                row[arithmetic] = seconds_an_image(extractor, pixels)
            if extractor.whole:
                row["engines"] = extractor.engines
        found.append(row)
    return {"networks": found}
