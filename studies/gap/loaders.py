"""Other ways from image files to the network's input, and through the network."""

import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ad.backbone import Backbone
from ad.features import patch_features
from ad.images import IMAGENET_MEAN, IMAGENET_STD, InputRule, network_input, read_rgb
from ad.parallel import chunk_map
from studies.gap.case import Case
from studies.gap.interventions import CHOICE, MISTAKE

Loader = Callable[[Path, InputRule], np.ndarray]


def load_opencv(path: Path, rule: InputRule, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Resize with OpenCV, without antialiasing where the interpolation has none."""
    pixels = np.asarray(rule.looked_at(read_rgb(path)))
    return rule.normalised(cv2.resize(pixels, (rule.side,) * 2, interpolation=interpolation))


def load_opencv_area(path: Path, rule: InputRule) -> np.ndarray:
    """Resize with OpenCV's area average."""
    return load_opencv(path, rule, cv2.INTER_AREA)


def load_tensor(path: Path, rule: InputRule, *, antialias: bool = True) -> np.ndarray:
    """Resize as a floating-point tensor."""
    pixels = np.array(rule.looked_at(read_rgb(path)))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    resized = F.interpolate(
        tensor, (rule.side,) * 2, mode="bilinear", align_corners=False, antialias=antialias
    )
    return rule.normalised(resized[0].permute(1, 2, 0).numpy())


def load_tensor_aliased(path: Path, rule: InputRule) -> np.ndarray:
    """Resize as a floating-point tensor without antialiasing."""
    return load_tensor(path, rule, antialias=False)


def load_other_filter(path: Path, rule: InputRule) -> np.ndarray:
    """Resize with Pillow's bicubic filter, or with its bilinear one where the run is bicubic."""
    bicubic = rule.resample == Image.Resampling.BICUBIC
    other = Image.Resampling.BILINEAR if bicubic else Image.Resampling.BICUBIC
    return network_input(path, replace(rule, resample=other))


def load_other_geometry(path: Path, rule: InputRule) -> np.ndarray:
    """Resize to 8/7 of the size (256 for 224) and crop the centre; straight if the run does so."""
    resize = round(rule.side * 8 / 7) if rule.resize is None else None
    return network_input(path, replace(rule, resize=resize))


def load_bgr(path: Path, rule: InputRule) -> np.ndarray:
    """Give blue for red, as OpenCV's reader does."""
    return rule.normalised(rule.pixels(read_rgb(path))[:, :, ::-1])


def load_jpeg(path: Path, rule: InputRule) -> np.ndarray:
    """Store the image as JPEG of quality 90 in between."""
    stream = io.BytesIO()
    read_rgb(path).save(stream, format="JPEG", quality=90)
    return rule.normalised(rule.pixels(Image.open(stream).convert("RGB")))


def load_unscaled(path: Path, rule: InputRule) -> np.ndarray:
    """Leave out mean and standard deviation."""
    return network_input(path, replace(rule, mean=(0, 0, 0), std=(1, 1, 1)))


def load_other_scaling(path: Path, rule: InputRule) -> np.ndarray:
    """Take ImageNet's mean and deviation for 0.5 and 0.5, or the other way round."""
    half = replace(rule, mean=(0.5,) * 3, std=(0.5,) * 3)
    usual = replace(rule, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return network_input(path, usual if rule.mean == half.mean else half)


DECODERS: dict[str, tuple[Loader, str]] = {
    "OpenCV, linear": (load_opencv, CHOICE),
    "OpenCV, area": (load_opencv_area, CHOICE),
    "tensor, antialias": (load_tensor, CHOICE),
    "tensor, no antialias": (load_tensor_aliased, CHOICE),
    "Pillow, bicubic for bilinear or back": (load_other_filter, CHOICE),
    "with or without centre crop": (load_other_geometry, CHOICE),
    "JPEG round trip, quality 90": (load_jpeg, CHOICE),
    "BGR for RGB": (load_bgr, MISTAKE),
    "no mean and deviation": (load_unscaled, MISTAKE),
    "another network's mean and deviation": (load_other_scaling, MISTAKE),
}


def run_network(
    network: Backbone,
    case: Case,
    *,
    loader: Loader = network_input,
    batch_size: int = 4,
    rows: np.ndarray | None = None,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """Extract features batch by batch, whatever mode the network is in.

    Parameters
    ----------
    rows : array of int, optional
        The images, in this order; by default all of the manifest.
    autocast : torch.dtype, optional
        Lower precision for the layers that PyTorch's autocast lowers.

    Returns
    -------
    array of float32, shape (n_rows, h, w, dim)
    """
    paths, rule = case.paths(), case.rule(network)
    rows = np.arange(len(paths)) if rows is None else rows

    def one_batch(start: int) -> np.ndarray:
        some = [loader(paths[row], rule) for row in rows[start : start + batch_size]]
        images = torch.from_numpy(np.stack(some)).contiguous(memory_format=torch.channels_last)
        lower = torch.autocast("cpu", dtype=autocast) if autocast else nullcontext()
        with torch.inference_mode(), lower:
            maps = network(images)
        return patch_features([values.float() for values in maps], case.patch).numpy()

    with chunk_map() as run:
        return np.concatenate(list(run(one_batch, range(0, len(rows), batch_size))))
