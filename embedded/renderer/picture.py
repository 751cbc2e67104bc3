"""From a scene to a camera picture and to the pixels of its parts."""

from dataclasses import dataclass

import cv2
import numpy as np

from embedded.renderer import shading
from embedded.renderer.geometry import (
    BoardHit,
    CaseHit,
    LeadHit,
    View,
    trace_board,
    trace_case,
    trace_lead,
)
from embedded.renderer.scene import Camera, Scene
from embedded.renderer.shading import fractal_noise


@dataclass(frozen=True)
class Layers:
    """Which pixels of the supersampled picture show what, each of shape (n, n)."""

    case: np.ndarray  # bool
    chip: np.ndarray  # bool, broken faces
    scar: np.ndarray  # bool, wounds in the surface
    leads: tuple[np.ndarray, ...]  # arc length along the lead, -1 where not seen

    @property
    def part(self) -> np.ndarray:
        """Pixels of the case or any lead."""
        return np.any([self.case, *(lead >= 0 for lead in self.leads)], axis=0)


@dataclass(frozen=True)
class _Traced:
    """Hits of every object, and which of their pixels are not hidden by others."""

    board: BoardHit
    leads: tuple[tuple[LeadHit, np.ndarray], ...]
    case: tuple[CaseHit, np.ndarray] | None
    layers: Layers


def _trace(view: View, scene: Scene) -> _Traced:
    board = trace_board(view, scene.board, np.random.default_rng([scene.texture_seed, 1]))
    shape = board.hole.shape
    top = np.where(board.hole < 1, -np.inf, 0)  # height of what is seen
    owner = np.full(shape, -1, np.int8)  # -1 board, 0 case, 1.. leads
    hits = [trace_lead(view, lead) for lead in scene.leads]
    arcs = [np.full(shape, -1.0) for _ in hits]
    chip, scar = np.zeros(shape, bool), np.zeros(shape, bool)
    for k, hit in enumerate(hits):
        front = hit.height > top[hit.rows, hit.cols]
        at = (hit.rows[front], hit.cols[front])
        top[at], owner[at], arcs[k][at] = hit.height[front], k + 1, hit.along[front]
    case = None
    if scene.case is not None:
        rng = np.random.default_rng([scene.case.seed, 1])
        cell = 0.35 * view.size / scene.camera.width
        fields = [c.roughness * fractal_noise(rng, view.size, cell, 5) for c in scene.case.chips]
        case_hit = trace_case(view, scene.case, fields)
        front = case_hit.height > top[case_hit.rows, case_hit.cols]
        at = (case_hit.rows[front], case_hit.cols[front])
        owner[at] = 0
        chip[at] = case_hit.chip[front] >= 0
        scar[at] = shading.scarred(scene.case, case_hit)[front]
        case = (case_hit, front)
    seen = tuple((hit, owner[hit.rows, hit.cols] == k + 1) for k, hit in enumerate(hits))
    arcs = tuple(np.where(owner == k + 1, arc, -1) for k, arc in enumerate(arcs))
    return _Traced(board, seen, case, Layers(owner == 0, chip, scar, arcs))


def trace_layers(scene: Scene, *, size: int, supersample: int) -> Layers:
    """Find which pixels show what, without painting; see `render`."""
    return _trace(View(scene.camera, size * supersample), scene).layers


def render(scene: Scene, *, size: int, supersample: int) -> tuple[np.ndarray, Layers]:
    """Render a scene.

    Parameters
    ----------
    scene : Scene
    size : int
        Side of the picture in pixels.
    supersample : int
        Samples per pixel along each side.

    Returns
    -------
    picture : array of shape (size, size, 3), uint8
        sRGB-like colours.
    layers : Layers
        At ``size * supersample``.
    """
    view = View(scene.camera, size * supersample)
    traced = _trace(view, scene)
    rng = np.random.default_rng([scene.texture_seed, 0])
    shadows = shading.cast_shadows(view, scene)
    image = shading.paint_board(view, scene, traced.board, shadows, rng)
    for lead, (hit, seen) in zip(scene.leads, traced.leads, strict=True):
        image[hit.rows[seen], hit.cols[seen]] = shading.paint_lead(view, scene, lead, hit)[seen]
    if traced.case is not None:
        hit, seen = traced.case
        case_rng = np.random.default_rng([scene.case.seed, 0])
        image[hit.rows[seen], hit.cols[seen]] = shading.paint_case(
            view, scene, scene.case, hit, case_rng
        )[seen]
    return expose(image, scene.camera, size=size, rng=rng), traced.layers


def expose(image: np.ndarray, camera: Camera, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """Lens and sensor: linear radiance to 8-bit sRGB.

    Parameters
    ----------
    image : array of shape (n, n, 3)
    camera : Camera
    size : int
        Side of the picture; n is a multiple of it.
    rng : numpy.random.Generator
        Draws the noise.

    Returns
    -------
    array of shape (size, size, 3), uint8
    """
    scale = image.shape[0] // size
    blurred = cv2.GaussianBlur(image, (0, 0), camera.defocus * scale)
    small = cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA)
    small = 0.97 * small + 0.03 * cv2.GaussianBlur(small, (0, 0), 6.0)  # veiling glare
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    falloff = 1 - camera.vignette * (axis[:, None] ** 2 + axis[None, :] ** 2) / 2
    gain = camera.exposure * np.asarray(camera.white_balance)
    linear = np.clip(small * falloff[..., None] * gain, 0, None)
    shoulder = 1 - np.exp(-1.25 * linear)
    encoded = np.where(
        shoulder <= 0.0031308,
        12.92 * shoulder,
        1.055 * np.maximum(shoulder, 1e-6) ** (1 / 2.4) - 0.055,
    )
    # noise after demosaicing: mostly common to the three channels, a little of it coloured
    common = rng.standard_normal((size, size, 1))
    colour = cv2.GaussianBlur(rng.standard_normal((size, size, 3)), (0, 0), 0.8)
    level = camera.noise * (0.7 + 0.6 * np.sqrt(encoded))
    noisy = 255 * encoded + level * (0.85 * common + 0.7 * colour)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)
