"""Other ways from image files to the network's input, and through the network."""

import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ad.backbone import Backbone
from ad.features import patch_features
from ad.images import IMAGENET_MEAN, IMAGENET_STD, network_input, read_rgb, resize_and_crop
from studies.gap.interventions import CHOICE, MISTAKE, Case
from ad.parallel import chunk_map

Loader = Callable[[Path, Case], np.ndarray]


def _normalised(pixels: np.ndarray) -> np.ndarray:
    """Bring RGB of 0 to 255, shape (h, w, 3), to the network's input, shape (3, h, w)."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1))


def load_plain(path: Path, case: Case) -> np.ndarray:
    """Load as the pipeline does."""
    return network_input(path, size=case.image_size, resize=case.image_resize)


def load_opencv(path: Path, case: Case, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Resize with OpenCV, without antialiasing where the interpolation has none."""
    pixels = np.asarray(read_rgb(path))
    return _normalised(cv2.resize(pixels, (case.image_size,) * 2, interpolation=interpolation))


def load_opencv_area(path: Path, case: Case) -> np.ndarray:
    """Resize with OpenCV's area average."""
    return load_opencv(path, case, cv2.INTER_AREA)


def load_tensor(path: Path, case: Case, *, antialias: bool = True) -> np.ndarray:
    """Resize as a floating-point tensor."""
    tensor = torch.from_numpy(np.array(read_rgb(path))).permute(2, 0, 1)[None].float()
    resized = F.interpolate(
        tensor,
        (case.image_size,) * 2,
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    )
    return _normalised(resized[0].permute(1, 2, 0).numpy())


def load_tensor_aliased(path: Path, case: Case) -> np.ndarray:
    """Resize as a floating-point tensor without antialiasing."""
    return load_tensor(path, case, antialias=False)


def load_pillow_bicubic(path: Path, case: Case) -> np.ndarray:
    """Resize with Pillow's bicubic filter."""
    image = read_rgb(path).resize((case.image_size,) * 2, Image.Resampling.BICUBIC)
    return _normalised(np.asarray(image))


def load_other_geometry(path: Path, case: Case) -> np.ndarray:
    """Resize to 8/7 of the size (256 for 224) and crop the centre; straight if the case does so."""
    resize = round(case.image_size * 8 / 7) if case.image_resize is None else None
    return network_input(path, size=case.image_size, resize=resize)


def load_bgr(path: Path, case: Case) -> np.ndarray:
    """Give blue for red, as OpenCV's reader does."""
    image = resize_and_crop(read_rgb(path), size=case.image_size, resize=case.image_resize)
    return _normalised(np.asarray(image)[:, :, ::-1])


def load_jpeg(path: Path, case: Case) -> np.ndarray:
    """Store the image as JPEG of quality 90 in between."""
    stream = io.BytesIO()
    read_rgb(path).save(stream, format="JPEG", quality=90)
    image = Image.open(stream).convert("RGB")
    return _normalised(
        np.asarray(resize_and_crop(image, size=case.image_size, resize=case.image_resize))
    )


def load_unscaled(path: Path, case: Case) -> np.ndarray:
    """Leave out ImageNet's mean and standard deviation."""
    image = resize_and_crop(read_rgb(path), size=case.image_size, resize=case.image_resize)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255)


DECODERS: dict[str, tuple[Loader, str]] = {
    "OpenCV, linear": (load_opencv, CHOICE),
    "OpenCV, area": (load_opencv_area, CHOICE),
    "tensor, antialias": (load_tensor, CHOICE),
    "tensor, no antialias": (load_tensor_aliased, CHOICE),
    "Pillow, bicubic": (load_pillow_bicubic, CHOICE),
    "with or without centre crop": (load_other_geometry, CHOICE),
    "JPEG round trip, quality 90": (load_jpeg, CHOICE),
    "BGR for RGB": (load_bgr, MISTAKE),
    "no ImageNet scaling": (load_unscaled, MISTAKE),
}


def run_network(
    network: Backbone,
    case: Case,
    *,
    loader: Loader = load_plain,
    batch_size: int = 4,
    order: np.ndarray | None = None,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """Extract features batch by batch, whatever mode the network is in.

    Parameters
    ----------
    order : array of int, optional
        The order in which images fill the batches; rows of the result stay in manifest order.
    autocast : torch.dtype, optional
        Lower precision for the layers that PyTorch's autocast lowers.

    Returns
    -------
    array of float32, shape (n_images, h, w, dim)
    """
    paths, settings = case.paths(), case.settings()
    order = np.arange(len(paths)) if order is None else order
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def one_batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = torch.from_numpy(np.stack([loader(paths[row], case) for row in rows]))
        lower = torch.autocast("cpu", dtype=autocast) if autocast else nullcontext()
        with torch.inference_mode(), lower:
            maps = network(images.contiguous(memory_format=torch.channels_last))
        return rows, patch_features([values.float() for values in maps], settings).numpy()

    result: np.ndarray | None = None
    with chunk_map(case.threads) as run:
        for rows, features in run(one_batch, batches):
            if result is None:
                result = np.empty((len(paths), *features.shape[1:]), dtype=np.float32)
            result[rows] = features
    return result
