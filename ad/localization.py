"""From patch scores to anomaly maps in the pixels of the network's input."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

SMOOTHING_SIGMA = 4.0  # pixels; the value of the paper (section 4.4.1) and of the authors' code


def anomaly_maps(
    patch_scores: np.ndarray, size: int, *, sigma: float = SMOOTHING_SIGMA
) -> np.ndarray:
    """Bring patch scores to the image's size (bilinear) and smooth them (Gaussian).

    Parameters
    ----------
    patch_scores : array of float, shape (n_images, h, w)
    size : int
        Side of the maps, in pixels.
    sigma : float
        Standard deviation of the smoothing, in pixels; 0 for none.

    Returns
    -------
    array of float32, shape (n_images, size, size)
    """
    coarse = torch.from_numpy(np.asarray(patch_scores, dtype=np.float32))[:, None]
    fine = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    maps = fine.numpy()
    if sigma == 0:
        return maps
    return np.stack([gaussian_filter(each, sigma) for each in maps])
