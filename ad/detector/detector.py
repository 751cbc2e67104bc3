"""Load a detector file and score images, with NumPy, Pillow and ONNX Runtime alone."""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

from ad.detector.contract import (
    FORMAT,
    METADATA,
    OUTPUTS,
    file_digest,
    probe_picture,
    rule_of,
    sums_digest,
)
from ad.detector.regions import Region, frame_of, regions_of
from ad.determinism import available_cores
from ad.images import read_rgb, reason_of, to_rgb
from ad.localization import anomaly_maps

Picture = Path | str | Image.Image | np.ndarray
OUTSIDE = b"\x08location"  # of weights kept in another file: the field's length, then its name


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
        How often a normal image scores as high; see `Detector.p_value`.
    patch_scores : array of float64, shape (h, w)
    fold_scores : array of float64, shape (folds,)
    appearance : array of float64, shape (2,)
        Of the pixels: `appearance`.
    milliseconds : float
        Decoding included.
    sha256 : str
        Of the resized pixels.
    size : tuple of int
        Width and height of the picture, upright, as it was decoded.
    regions : tuple of Region
        What was found, in this picture's pixels.
    """

    score: float
    flagged: bool
    p_value: float
    patch_scores: np.ndarray
    fold_scores: np.ndarray
    appearance: np.ndarray
    milliseconds: float
    sha256: str
    size: tuple[int, int]
    regions: tuple[Region, ...]


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

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Or what has its ``run``.
    about : mapping
        The file's metadata.

    Raises
    ------
    ValueError
        When the file is of another format, or the engine's numbers are not exact.
    """

    def __init__(self, session: onnxruntime.InferenceSession, about: Mapping) -> None:
        self.session, self.about = session, about
        if about.get("format") != FORMAT:
            raise ValueError(
                f"format {about.get('format')}, this version reads {FORMAT}; export it anew"
            )
        if "why_not" in about:
            raise ValueError(about["why_not"])
        self.rule, self.k = rule_of(about["image"]), about["k"]
        self.threshold, self.patch_threshold = about["threshold"], about["patch_threshold"]
        self.camera = about["camera"] and tuple(about["camera"])  # width and height
        self.held_out = [np.array(scores) for scores in about["held_out"]]  # normals', by fold
        self.n_normals = sum(map(len, self.held_out))
        probe = probe_picture(*(self.camera[::-1] if self.camera else self.rule.shape))
        if sums_digest(*self.run(probe)[:3]) != about["self_test"]:
            raise ValueError(
                "this engine's numbers are not exact (self-test), so no score of it can be "
                "trusted; use ONNX Runtime at its defaults on another machine or version"
            )

    @classmethod
    def load(
        cls, path: str | Path, *, threads: int | None = None, expect: str | None = None
    ) -> "Detector":
        """Load a detector file.

        Parameters
        ----------
        path : path
        threads : int, optional
            By default one a core, and never more; results do not depend on it.
        expect : str, optional
            SHA-256 that the file must have, in hexadecimal.

        Raises
        ------
        FileNotFoundError, ValueError
            In one line: no such file, no detector in it, a damaged one, or another than expected.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file; a finished run leaves a detector.onnx")
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads} must be at least 1")
        content = Path(path).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if expect is not None and sha256 != expect.strip().lower():
            raise ValueError(f"{path}: its SHA-256 is {sha256}, not the one expected")
        try:
            check_content(content)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = min(threads or available_cores(), available_cores())
            session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
            return cls(session, about)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        except Exception as error:  # whatever ONNX Runtime raises for what is no model
            raise ValueError(f"{path}: no detector file ({reason_of(error)[:200]})") from None

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return patch, fold and image sums and the flag of a picture (height, width, 3)."""
        return [each[0] for each in self.session.run(list(OUTPUTS), {"pixels": pixels[None]})]

    def rgb(self, picture: Picture) -> Image.Image:
        """Decode a picture; takes and raises what `score` does."""
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(
                    f"an array of {picture.dtype} and shape {picture.shape}; expected uint8 and "
                    f"(height, width, 3), RGB"
                )
            picture = Image.fromarray(picture)
        if isinstance(picture, Image.Image):
            if 0 in picture.size:
                raise ValueError(f"a picture of {picture.width} x {picture.height} pixels")
            return to_rgb(picture, self.rule.bits)
        return read_rgb(picture, self.rule.bits)

    def pixels(self, picture: Picture) -> np.ndarray:
        """Decode, cut and resize as the study did; uint8, shape (height, width, 3)."""
        return self.rule.pixels(self.rgb(picture))

    def score(self, picture: Picture) -> Verdict:
        """Score one image: a file, a Pillow image, or an array (height, width, 3) of uint8.

        Raises
        ------
        FileNotFoundError, PermissionError, ValueError
            In one line, when it cannot be read.
        """
        started = time.perf_counter()
        image = self.rgb(picture)
        pixels = self.rule.pixels(image)
        taken = pixels if self.camera is None else self._camera_pixels(image)
        patches, folds, largest, flag = self.run(taken)
        patches, folds = patches / self.k, folds / self.k  # one correctly rounded division
        frame = frame_of(self.rule, *image.size)
        return Verdict(
            score=float(largest / self.k),
            flagged=bool(flag),
            p_value=self.p_value(folds),
            patch_scores=patches,
            fold_scores=folds,
            appearance=appearance(pixels),
            milliseconds=1000 * (time.perf_counter() - started),
            sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
            size=image.size,
            regions=regions_of(patches, self.patch_threshold, self.threshold, frame),
        )

    def _camera_pixels(self, image: Image.Image) -> np.ndarray:
        """Return a picture as it is, where the graph resizes it."""
        if image.size != self.camera:
            raise ValueError(
                f"a picture of {image.width} x {image.height} pixels; this detector takes those of "
                f"its camera, {self.camera[0]} x {self.camera[1]}"
            )
        return np.asarray(image)

    @property
    def references(self) -> list[np.ndarray]:
        """Return what drift is measured against: held-out scores, and the normals' appearance."""
        return [*self.held_out, *np.transpose(self.about["appearance"])]

    def p_value(self, fold_scores: np.ndarray) -> float:
        """Return the cross-conformal p-value (Vovk, 2015, eq. 5) of an image's scores, (folds,).

        (1 + normals that score as high against the bank that never saw them) / (1 + normals).
        """
        pairs = zip(self.held_out, fold_scores, strict=True)
        above = sum(int((own >= score).sum()) for own, score in pairs)
        return (1 + above) / (1 + self.n_normals)

    def anomaly_map(self, verdict: Verdict) -> np.ndarray:
        """Bring patch scores to the resized pixels, as the study does; float32, (height, width)."""
        return anomaly_maps(verdict.patch_scores[None], self.rule.shape)[0]

    def overlay(self, picture: Picture, verdict: Verdict) -> Image.Image:
        """Draw the map over the resized picture, from half the threshold on, white at twice.

        Regions have a frame.
        """
        pixels = self.pixels(picture).astype(np.float32)
        heat = np.clip(self.anomaly_map(verdict) / self.threshold / 1.5 - 1 / 3, 0, 1)[..., None]
        colour = 255 * np.clip(np.concatenate([3 * heat, 3 * heat - 1, 3 * heat - 2], axis=2), 0, 1)
        alpha = 0.7 * np.minimum(1, 3 * heat)
        drawn = Image.fromarray((pixels * (1 - alpha) + colour * alpha).astype(np.uint8))
        scale = np.divide(pixels.shape[:2], verdict.patch_scores.shape)
        for region in verdict.regions:
            top, left, bottom, right = (region.cells * np.tile(scale, 2)).round().tolist()
            ImageDraw.Draw(drawn).rectangle((left, top, right - 1, bottom - 1), outline="cyan")
        return drawn


def check_content(content: bytes) -> None:
    """Refuse a file whose digest is not its content's, or whose content lies elsewhere."""
    said = re.search(rb'"digest": "([0-9a-f]{64})"', content)
    if said is None:
        raise ValueError("no detector file of this version (it has no digest); export it anew")
    if file_digest(content, said[1].decode()) != said[1].decode():
        raise ValueError("damaged: its digest is not that of its content; copy it again")
    if OUTSIDE in content:
        raise ValueError("its weights lie in another file, which its digest does not cover")
