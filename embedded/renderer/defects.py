"""The four defect classes: each turns a normal scene into an anomalous one and marks where.

Every class has ten variants that take turns among its forms and fall in severity, from plain to
barely visible: variant 0 is the plainest, variant 9 the subtlest.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from embedded.renderer.geometry import round_corners
from embedded.renderer.picture import Layers
from embedded.renderer.scene import Chip, Lead, Scar, Scene, rotation_matrix, sample_lead

N_VARIANTS = 10


def _grade(variant: int, subtlest: float, plainest: float) -> float:
    """Give a variant's size: equal ratios from ``plainest`` at 0 down to ``subtlest`` at 9."""
    return plainest * (subtlest / plainest) ** (variant / (N_VARIANTS - 1))


def _bend(lead: Lead, offsets: list[list[float]]) -> Lead:
    """Replace the points from the third on by the hole's place plus offsets; z is absolute."""
    hole = np.array([lead.points[6][0], lead.points[6][1], 0.0])
    return replace(lead, points=np.vstack([lead.points[:3], hole + np.array(offsets)]), tarnish=0.0)


def bent_lead(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Bend a lead: beside its hole, bowed on its way into it, or lifted off the board."""
    leads = list(scene.leads)
    index = int(rng.integers(3))
    way = float(rng.choice([-1, 1])) if index == 1 else index - 1.0
    lead, j = leads[index], rng.normal(0, 0.03, 2)
    if variant % 3 == 0:
        d = way * _grade(variant, 0.37, 0.90)
        offsets = [[0.3 * d, -0.55, 0.35], [0.8 * d, -0.25 + j[0], 0.2], [d, 0.08 + j[1], 0.10]]
        leads[index] = _bend(lead, offsets)
    elif variant % 3 == 1:
        d = way * _grade(variant, 0.21, 0.50)
        points = lead.points.copy()
        points[3:5, 0] += [d, rng.choice([-0.7, 0.2]) * d]
        leads[index] = replace(lead, points=points)
    else:
        d = _grade(variant, 0.50, 1.6)
        x = 0.25 * way * d
        leads[index] = _bend(lead, [[0.6 * x, -0.66, 0.4 + 0.3 * d],
                                    [x, -0.40 + j[0], 0.3 + 0.6 * d],
                                    [x, -0.17 + j[1], 0.1 + 0.8 * d]])  # fmt: skip
    return replace(scene, leads=tuple(leads))


def cut_lead(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Cut an outer lead, the middle one, or both outer ones off; the far end is gone."""
    chosen = [[int(rng.choice([0, 2]))], [1], [0, 2]][variant % 3]
    leads = list(scene.leads)
    for index in chosen:
        missing = _grade(variant, 0.38, 0.90) * rng.uniform(0.93, 1.07)
        path = round_corners(leads[index].points)
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        first = 0.25  # hidden in the case
        last = arc[np.flatnonzero(path[:, 2] > 0.0)[-1]]
        end = last - missing * (last - first)
        stub = np.array([np.interp(end, arc, path[:, k]) for k in range(3)])
        points = np.vstack([path[arc < end], stub])
        leads[index] = replace(leads[index], points=points, cut=True)
    return replace(scene, leads=tuple(leads))


def damaged_case(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Break a corner off the case, or wound its surface with a crater or a crack."""
    case = scene.case
    half, end = case.width / 2, case.height / 2
    side, far = rng.choice([-1.0, 1.0], 2)
    whiteness = _grade(variant, 0.45, 0.80)
    if variant % 3 == 0:
        normal = np.array([0.85 * side, 0.8 * far, 0.28])
        normal /= np.linalg.norm(normal)
        corner = [side * half, far * end, case.wall]
        depth, roughness = _grade(variant, 0.12, 0.55), _grade(variant, 0.015, 0.03)
        chip = Chip(tuple(normal.tolist()), float(normal @ corner) - depth, roughness)
        return replace(scene, case=replace(case, chips=(chip,)))
    x, y = rng.uniform(-0.55, 0.55, 2)
    if variant % 3 == 1:
        angle = np.linspace(0, 2 * np.pi, 26)[:-1]
        wave = 1 + 0.22 * np.interp(angle, np.linspace(0, 6.3, 9), rng.normal(0, 1, 9), period=6.3)
        ring = np.stack([np.cos(angle) * rng.uniform(0.8, 1.3), np.sin(angle)], 1)
        radius = _grade(variant, 0.07, 0.24)
        points = [x, y] + radius * wave.clip(0.5)[:, None] * ring
        scar = Scar(points, 0.0, 0.28 * radius, whiteness)
    else:
        length, turn = _grade(variant, 0.5, 1.7), rng.uniform(0, np.pi)
        along = length * np.array([np.cos(turn), np.sin(turn)])
        t = np.linspace(-0.5, 0.5, 14)[:, None]
        zigzag = 0.05 * length * rng.normal(0, 1, (14, 2)) * np.cos(np.pi * t)
        line = (0.4 * np.array([x, y]) + t * along + zigzag).clip(-0.85, 0.85)
        scar = Scar(line, _grade(variant, 0.015, 0.026), 0.03, whiteness)
    return replace(scene, case=replace(case, scars=(scar,)))


def _moved(scene: Scene, turn: float, shift: list[float]) -> Scene:
    """Turn the part about a point under its case by ``turn`` rad, then shift it (pitch)."""
    rotation = rotation_matrix(about_z=turn)
    pivot, by = np.array([0.0, -2.0, 0.0]), np.array([*shift, 0.0])
    case = scene.case
    place = rotation @ (case.position - pivot) + pivot + by
    moved = replace(case, rotation=rotation @ case.rotation, position=place)
    leads = tuple(
        replace(lead, points=(lead.points - pivot) @ rotation.T + pivot + by)
        for lead in scene.leads
    )
    return replace(scene, case=moved, leads=leads)


def _out_of_holes(scene: Scene) -> Scene:
    """Let the leads' ends lie on the board instead of going down."""
    leads = []
    for lead in scene.leads:
        points = lead.points[:-2].copy()
        points[-1] += [0, 0.22, 0]
        points[:, 2] = np.maximum(points[:, 2], 0.12)
        leads.append(replace(lead, points=points, tarnish=0.0))
    return replace(scene, leads=tuple(leads))


def _into_holes(scene: Scene, rng: np.random.Generator) -> Scene:
    """Draw the leads anew, from the case as it now lies to their own holes."""
    return replace(scene, leads=tuple(sample_lead(rng, scene.case, i) for i in range(3)))


def misplaced(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Leave the part out, turn it over, or turn or shift it, less and less."""
    side = float(rng.choice([-1, 1]))
    if variant == 0:
        return replace(scene, case=None, leads=())
    if variant == 1:  # in other holes, or thrown across them
        turn = side * np.pi / 2 if rng.random() < 0.5 else np.pi
        return _moved(scene, turn, [0, 0])
    if variant == 2:  # flipped onto its round side
        case = scene.case
        turned = case.rotation @ rotation_matrix(about_y=np.pi)
        place = case.position + np.array([0, 0, case.wall + case.dome])
        case = replace(case, rotation=turned, position=place, upside_down=True)
        return _into_holes(replace(scene, case=case), rng)
    turn, shift = 0.0, [0.0, 0.0]
    if variant % 3 == 0:
        turn = side * np.deg2rad(_grade(variant, 8.5, 50))
    elif variant % 3 == 1:
        shift = [side * _grade(variant, 0.30, 1.2), 0.0]
    else:
        shift = [0.0, -_grade(variant, 0.40, 1.0)]
    if variant < 6:
        return _moved(_out_of_holes(scene), turn, shift)
    return _into_holes(_moved(scene, turn, shift), rng)


DEFECTS: dict[str, Callable[[Scene, int, np.random.Generator], Scene]] = {
    "bent_lead": bent_lead,
    "cut_lead": cut_lead,
    "damaged_case": damaged_case,
    "misplaced": misplaced,
}


def defect_mask(
    kind: str, scenes: tuple[Scene, Scene], layers: tuple[Layers, Layers], size: int
) -> np.ndarray:
    """Mark the defect's pixels.

    Parameters
    ----------
    kind : str
        A key of ``DEFECTS``.
    scenes, layers : pairs
        Of the same picture without and with the defect.
    size : int
        Side of the mask in pixels.

    Returns
    -------
    array of shape (size, size), uint8
        255 on the defect, else 0. Bent leads: the lead from where it leaves its normal way.
        Cut leads: the missing piece. Damaged cases: the wound and what is missing. Misplaced
        parts: where the part should be and where it is.
    """
    normal, defect = layers
    if kind == "misplaced":
        region = normal.part | defect.part
    elif kind == "damaged_case":
        region = defect.chip | defect.scar | (normal.case & ~defect.case)
    elif kind == "cut_lead":
        region = np.zeros_like(normal.case)
        for before, after in zip(normal.leads, defect.leads, strict=True):
            region |= (before >= 0) & (after < 0)
    elif kind == "bent_lead":
        region = np.zeros_like(normal.case)
        for k, (before, after) in enumerate(zip(scenes[0].leads, scenes[1].leads, strict=True)):
            region |= defect.leads[k] >= _departure(before, after)
    else:
        raise ValueError(f"kind={kind!r} is not one of {sorted(DEFECTS)}")
    share = cv2.resize(region.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.where(share >= 0.5, 255, 0).astype(np.uint8)


def _departure(before: Lead, after: Lead) -> float:
    """Arc length on ``after`` at which it is 0.05 pitch from ``before``; inf if it never is."""
    a, b = round_corners(before.points), round_corners(after.points)
    away = np.linalg.norm(b[:, None] - a[None], axis=2).min(1) > 0.05
    if not away.any():
        return np.inf
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(b, axis=0), axis=1))])
    return float(arc[np.argmax(away)])
