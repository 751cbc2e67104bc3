"""Images in memory go the same way as images on disk."""

from pathlib import Path

import numpy as np

from ad.backbone import load_backbone
from ad.features import PatchSettings, extract_features
from ad.image_features import features_of_images, network_pixels


def test_features_are_those_of_the_files(small_mvtec: Path, tmp_path: Path):
    paths = sorted(small_mvtec.rglob("train/good/*.png"))
    backbone = load_backbone("resnet10t", weights="random", layers=["layer2", "layer3"])
    settings = PatchSettings(3, None, None)
    for resize in (None, 40):
        extract_features(
            backbone,
            paths,
            tmp_path / "f.npy",
            settings,
            image_size=32,
            image_resize=resize,
            batch_size=4,
            memory_gb=3.0,
            threads=1,
        )
        images = [network_pixels(path, size=32, resize=resize) for path in paths]
        assert images[0].shape == (32, 32, 3) and images[0].dtype == np.uint8
        found = features_of_images(backbone, images, settings, memory_gb=3.0, threads=1)
        np.testing.assert_array_equal(found, np.load(tmp_path / "f.npy"))
