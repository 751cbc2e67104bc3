"""Load a detector file and score images, with NumPy, Pillow and ONNX Runtime alone."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from ad.images import InputRule, read_rgb, to_rgb
from ad.localization import anomaly_maps

FORMAT = 2  # of the file's metadata
METADATA = "detector"
Picture = Path | str | Image.Image | np.ndarray


@dataclass(frozen=True)
class Verdict:
    """What a detector says of an image.

    Parameters
    ----------
    score : float
        Largest patch score: the pipeline's image score, every bit.
    flagged : bool
        The score is above the protocol's threshold.
    p_value : float
        How often a normal image scores as high; see `Detector.p_values`.
    patch_scores : array of float64, shape (h, w)
    fold_scores : array of float64, shape (folds,)
    appearance : array of float64, shape (2,)
        Of the pixels: `appearance`.
    milliseconds : float
        Decoding included.
    sha256 : str
        Of the pixels that the network saw.
    """

    score: float
    flagged: bool
    p_value: float
    patch_scores: np.ndarray
    fold_scores: np.ndarray
    appearance: np.ndarray
    milliseconds: float
    sha256: str


def appearance(pixels: np.ndarray) -> np.ndarray:
    """Return brightness and contrast: mean and standard deviation of the pixels' values.

    From whole-number sums, so they are the same everywhere.
    """
    whole = pixels.astype(np.int64)
    mean, square = int(whole.sum()) / whole.size, int(np.square(whole).sum()) / whole.size
    return np.array([mean, np.sqrt(max(0.0, square - mean * mean))])


class Detector:
    """Scores images as the study that wrote the file did.

    Use `load`.  A file is read, not run: it holds standard operators and numbers alone.
    """

    def __init__(self, session: onnxruntime.InferenceSession, about: dict) -> None:
        self.session, self.about = session, about
        how = about["image"]
        self.rule = InputRule(
            how["size"],
            how["resize"],
            resample=Image.Resampling[how["interpolation"].upper()],
            tiles=how["tiles"],
            region=how["region"],
        )
        self.size, self.k = self.rule.side, about["k"]
        self.threshold = about["threshold"]

    @classmethod
    def load(cls, path: str | Path, *, threads: int | None = None) -> "Detector":
        """Load a detector file.

        Parameters
        ----------
        path : path
        threads : int, optional
            By default one a core; results do not depend on it.

        Raises
        ------
        FileNotFoundError, ValueError
            In one line: no such file, no detector in it, or one of another format.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file; a finished run leaves a detector.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            text = session.get_modelmeta().custom_metadata_map[METADATA]
            about = json.loads(text)
        except Exception as error:  # whatever ONNX Runtime raises for what is no model
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path}: no detector file ({reason})") from None
        if about.get("format") != FORMAT:
            raise ValueError(
                f"{path}: format {about.get('format')}, this version reads {FORMAT}; export it anew"
            )
        if "why_not" in about:
            raise ValueError(f"{path}: {about['why_not']}")
        return cls(session, about)

    def pixels(self, picture: Picture) -> np.ndarray:
        """Decode, cut and resize as the study did.

        Returns
        -------
        array of uint8, shape (size, size, 3)
        """
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(
                    f"an array of {picture.dtype} and shape {picture.shape}; expected uint8 and "
                    f"(height, width, 3), RGB"
                )
            as_it_is = self.rule.region is None and self.rule.resize is None
            if as_it_is and picture.shape == (self.size, self.size, 3):
                return np.ascontiguousarray(picture)
            picture = Image.fromarray(picture)
        image = to_rgb(picture) if isinstance(picture, Image.Image) else read_rgb(picture)
        return self.rule.pixels(image)

    def score(self, picture: Picture) -> Verdict:
        """Score one image: a file, a Pillow image, or an array (height, width, 3) of uint8.

        Raises
        ------
        FileNotFoundError, PermissionError, ValueError
            In one line, when it cannot be read.
        """
        return self.score_batch([picture])[0]

    def score_batch(self, pictures: Sequence[Picture]) -> list[Verdict]:
        """Score several images at once; each gets what it gets alone."""
        started = time.perf_counter()
        pixels = np.stack([self.pixels(picture) for picture in pictures])
        names = ["patch_sums", "fold_sums", "image_sums", "flagged"]
        patches, folds, images, flags = self.session.run(names, {"pixels": pixels})
        folds = folds / self.k  # whole numbers: one correctly rounded division
        p_values = self.p_values(folds)
        milliseconds = 1000 * (time.perf_counter() - started) / len(pictures)
        return [
            Verdict(
                score=float(images[n] / self.k),
                flagged=bool(flags[n]),
                p_value=float(p_values[n]),
                patch_scores=patches[n] / self.k,
                fold_scores=folds[n],
                appearance=appearance(pixels[n]),
                milliseconds=milliseconds,
                sha256=hashlib.sha256(pixels[n].tobytes()).hexdigest(),
            )
            for n in range(len(pictures))
        ]

    @cached_property
    def held_out(self) -> list[np.ndarray]:
        """Return each fold's scores of its held-out normal images, sorted."""
        return [np.sort(scores) for scores in self.about["held_out"]]

    @property
    def references(self) -> list[np.ndarray]:
        """Return what `ad.detector.drift` compares with: held-out scores, and the normals' appearance."""
        return [*self.held_out, *np.transpose(self.about["appearance"])]

    @property
    def n_normals(self) -> int:
        """Count the held-out normal images."""
        return sum(map(len, self.held_out))

    def p_values(self, fold_scores: np.ndarray) -> np.ndarray:
        """Return cross-conformal p-values (Vovk, 2015, eq. 5) of images that normals are like.

        (1 + normals that score as high against the bank that never saw them) / (1 + normals).

        Parameters
        ----------
        fold_scores : array, shape (n_images, folds)

        Returns
        -------
        array of float64, shape (n_images,)
            From 1 / (1 + normals) to 1.
        """
        above = sum(
            len(own) - np.searchsorted(own, fold_scores[:, fold], side="left")
            for fold, own in enumerate(self.held_out)
        )
        return (1 + above) / (1 + self.n_normals)

    def check_rate(self, name: str, rate: float) -> None:
        """Refuse a rate of false alarms that so few normals cannot tell.

        Raises
        ------
        ValueError
            The message says how many normals the rate needs.
        """
        if not 0 < rate < 1:
            raise ValueError(f"{name}={rate} must be above 0 and below 1")
        if rate * (1 + self.n_normals) < 1 - 1e-9:
            needed = int(np.ceil(1 / rate - 1 - 1e-9))
            raise ValueError(
                f"{name}={rate} needs at least {needed} held-out normal images; this detector has "
                f"{self.n_normals}, so no rate below {1 / (1 + self.n_normals):.2g} can be told"
            )

    def anomaly_map(self, verdict: Verdict) -> np.ndarray:
        """Bring patch scores to the input's pixels, as the study does; float32, (size, size)."""
        return anomaly_maps(verdict.patch_scores[None], self.size)[0]

    def overlay(self, picture: Picture, verdict: Verdict) -> Image.Image:
        """Draw the anomaly map over the picture: from half the threshold on, white at twice."""
        pixels = self.pixels(picture).astype(np.float32)
        heat = np.clip(self.anomaly_map(verdict) / self.threshold / 1.5 - 1 / 3, 0, 1)[..., None]
        colour = 255 * np.clip(np.concatenate([3 * heat, 3 * heat - 1, 3 * heat - 2], axis=2), 0, 1)
        alpha = 0.7 * np.minimum(1, 3 * heat)
        return Image.fromarray((pixels * (1 - alpha) + colour * alpha).astype(np.uint8))
