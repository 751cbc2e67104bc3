"""Load a detector file and score images, with NumPy, Pillow and ONNX Runtime alone."""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from ad.images import read_rgb, to_rgb
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
        How often a normal image scores as high; see `Detector.p_values`.
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
        Or what has its ``run``, ``get_inputs`` and ``get_outputs``.
    about : mapping
        The file's metadata.

    Raises
    ------
    ValueError
        When the metadata contradict the graph, or the engine's numbers are not exact.
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
        self.threshold = about["threshold"]
        marked = about["patch_threshold"]
        self.patch_threshold = self.threshold if marked is None else marked
        self.camera = about["camera"] and tuple(about["camera"])  # width and height
        if contradiction := self._contradiction():
            raise ValueError(f"metadata and graph contradict each other: {contradiction}")
        probe = probe_picture(*(self.camera or self.rule.shape[::-1])[::-1])[None]
        sums = self._run(probe)
        if sums_digest(*(each[0] for each in sums[:3])) != about["self_test"]:
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
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path}: no detector file ({reason})") from None

    def _contradiction(self) -> str:
        """Say where the metadata cannot be the graph's; empty where they can."""
        found = {
            each.name: tuple(each.shape[1:])
            for each in (*self.session.get_inputs(), *self.session.get_outputs())
        }
        pixels = (*(self.camera[::-1] if self.camera else self.rule.shape), 3)
        folds = (len(self.about["held_out"]),)
        for name, shape in {"pixels": pixels, "fold_sums": folds, "image_sums": ()}.items():
            if found.get(name) != shape:
                return f"{name} of shape {found.get(name)} and {shape}"
        scores = np.concatenate(self.about["held_out"])
        if type(self.k) is not int or self.k < 1:
            return f"k={self.k}"
        if (np.rint(scores * self.k) / self.k != scores).any():
            return f"held-out scores are no sums over k={self.k}"
        if not (0 <= self.threshold < np.inf and 0 <= self.patch_threshold < np.inf):
            return f"threshold={self.threshold}, patch_threshold={self.patch_threshold}"
        return ""

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return patch, fold and image sums and flags of pictures (n, height, width, 3)."""
        *sums, flags = self.session.run(list(OUTPUTS), {"pixels": pixels})
        if (flags != (sums[-1] / self.k > self.threshold)).any():
            raise ValueError(
                f"metadata and graph contradict each other: k={self.k} and "
                f"threshold={self.threshold} do not give the flag"
            )
        return [*sums, flags]

    def rgb(self, picture: Picture) -> Image.Image:
        """Decode a picture: a file, a Pillow image, or an array (height, width, 3) of uint8.

        Raises
        ------
        FileNotFoundError, PermissionError, ValueError
            In one line, when it cannot be read.
        """
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
        """Decode, cut and resize as the study did.

        Returns
        -------
        array of uint8, shape (height, width, 3)
        """
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
        (patches,), (folds,), (largest,), (flag,) = self._run(taken[None])
        patches, folds = patches / self.k, folds / self.k  # one correctly rounded division
        frame = frame_of(self.rule, *image.size)
        return Verdict(
            score=float(largest / self.k),
            flagged=bool(flag),
            p_value=float(self.p_values(folds[None])[0]),
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

    @cached_property
    def held_out(self) -> list[np.ndarray]:
        """Return each fold's scores of its held-out normal images, sorted."""
        return [np.sort(scores) for scores in self.about["held_out"]]

    @property
    def references(self) -> list[np.ndarray]:
        """Return what drift is measured against: held-out scores, and the normals' appearance."""
        if not self.about["appearance"]:
            raise ValueError("this detector keeps no normals' appearance, so --drift cannot watch")
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

    def anomaly_map(self, verdict: Verdict) -> np.ndarray:
        """Bring patch scores to the resized pixels, as the study does; float32, (height, width)."""
        return anomaly_maps(verdict.patch_scores[None], self.rule.shape)[0]

    def overlay(
        self, picture: Picture, verdict: Verdict, regions: Sequence[Region] | None = None
    ) -> Image.Image:
        """Draw the map over the resized picture, from half the threshold on, white at twice.

        Regions (by default all of the verdict's) have a frame.
        """
        pixels = self.pixels(picture).astype(np.float32)
        heat = np.clip(self.anomaly_map(verdict) / self.threshold / 1.5 - 1 / 3, 0, 1)[..., None]
        colour = 255 * np.clip(np.concatenate([3 * heat, 3 * heat - 1, 3 * heat - 2], axis=2), 0, 1)
        alpha = 0.7 * np.minimum(1, 3 * heat)
        drawn = Image.fromarray((pixels * (1 - alpha) + colour * alpha).astype(np.uint8))
        scale = np.divide(pixels.shape[:2], verdict.patch_scores.shape)
        for region in verdict.regions if regions is None else regions:
            top, left, bottom, right = (region.cells * np.tile(scale, 2)).round().tolist()
            ImageDraw.Draw(drawn).rectangle((left, top, right - 1, bottom - 1), outline="cyan")
        return drawn


def check_content(content: bytes) -> None:
    """Refuse a file whose digest is not its content's, or whose content lies elsewhere.

    Raises
    ------
    ValueError
    """
    said = re.search(rb'"digest": "([0-9a-f]{64})"', content)
    if said is None:
        raise ValueError("no detector file of this version (it has no digest); export it anew")
    if file_digest(content, said[1].decode()) != said[1].decode():
        raise ValueError("damaged: its digest is not that of its content; copy it again")
    if OUTSIDE in content:
        raise ValueError("its weights lie in another file, which its digest does not cover")
