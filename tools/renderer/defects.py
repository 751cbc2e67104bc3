"""The four defect classes: each turns a normal scene into an anomalous one and marks where.

Every class has ten variants, from plain to subtle, so that ten pictures cover the range.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from renderer.geometry import round_corners
from renderer.picture import Layers
from renderer.scene import Chip, Lead, Scar, Scene, rotation_matrix, sample_lead

N_VARIANTS = 10


def _bend(lead: Lead, start: int, offsets: list[list[float]]) -> Lead:
    """Replace the points from ``start`` on by the hole's place plus offsets; z is absolute."""
    hole = np.array([lead.points[6][0], lead.points[6][1], 0.0])
    points = np.vstack([lead.points[:start], hole + np.array(offsets)])
    return replace(lead, points=points, tarnish=0.0)


def bent_lead(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Bend one or two leads away from their holes, or kink one on its way."""
    leads = list(scene.leads)
    index = int(rng.choice([0, 2]))
    side = index - 1
    j = rng.normal(0, 0.03, (3, 2))
    flat = 0.10  # a lead that lies on the board
    if variant == 0:  # splayed far out
        leads[index] = _bend(leads[index], 3, [[side * (0.15 + j[0, 0]), -0.62, 0.35],
                                               [side * 0.42, -0.30, 0.15],
                                               [side * 0.80, 0.08 + j[1, 1], flat]])  # fmt: skip
    elif variant == 1:  # the middle one leans on its neighbour
        leads[1] = _bend(leads[1], 3, [[side * 0.42, -0.52 + j[0, 1], 0.45],
                                       [side * 0.62, -0.15, 0.25],
                                       [side * 0.60, 0.42 + j[1, 1], flat]])  # fmt: skip
    elif variant == 2:  # straight on, past the hole row
        leads[index] = _bend(leads[index], 3, [[-side * 0.42, -0.5 + j[0, 1], 0.42],
                                               [-side * (0.40 + j[1, 0]), 0.10, 0.2],
                                               [-side * 0.33, 0.55, flat]])  # fmt: skip
    elif variant == 3:  # inwards, across the middle one
        leads[index] = _bend(leads[index], 3, [[-side * 0.55, -0.62, 0.62],
                                               [-side * (0.95 + j[1, 0]), -0.22, 0.5],
                                               [-side * 1.35, 0.22 + j[2, 1], 0.3]])  # fmt: skip
    elif variant == 4:  # buckled
        p = leads[index].points.copy()
        p[3] += [-side * 0.34, 0.0, 0.12]
        p[4] += [side * 0.30, 0.02, 0.0]
        leads[index] = replace(leads[index], points=p)
    elif variant == 5:  # both outer ones sprung
        for k in (0, 2):
            s, free = k - 1, rng.uniform(0.3, 0.55)
            leads[k] = _bend(leads[k], 3, [[s * 0.02, -0.62, 0.45], [s * 0.16, -0.15, 0.22],
                                           [s * 0.30, free, flat]])  # fmt: skip
    elif variant == 6:  # just beside its hole
        leads[index] = _bend(leads[index], 4, [[side * 0.16, -0.42, 0.3],
                                               [side * (0.31 + j[0, 0]), -0.12, 0.14],
                                               [side * 0.36, 0.14 + j[1, 1], flat]])  # fmt: skip
    elif variant == 7:  # the middle one bowed
        p = leads[1].points.copy()
        p[3, 0] += side * 0.30
        p[2, 0] += side * 0.10
        leads[1] = replace(leads[1], points=p)
    elif variant == 8:  # lifted off the board, ends in the air short of its hole
        leads[index] = _bend(leads[index], 3, [[side * 0.30, -0.66, 0.85],
                                               [side * 0.46, -0.36 + j[0, 1], 1.15],
                                               [side * 0.40, -0.12 + j[1, 1], 1.35]])  # fmt: skip
    else:  # outwards in a knee, still in its hole
        p = leads[index].points.copy()
        p[3, 0] += side * 0.36
        p[3, 1] += 0.05
        leads[index] = replace(leads[index], points=p)
    return replace(scene, leads=tuple(leads))


def cut_lead(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Cut one or two leads off; the far end is gone."""
    side = int(rng.choice([0, 2]))
    plan = [
        {side: 0.16}, {1: 0.42}, {side: 0.38}, {0: 0.30, 2: 0.36}, {side: 0.28},
        {side: 0.68}, {1: 0.34}, {1: 0.18}, {side: 0.03}, {side: 0.22, 1: 0.32},
    ][variant]  # fmt: skip
    leads = list(scene.leads)
    for index, share in plan.items():
        share = share + rng.uniform(-0.03, 0.03)
        path = round_corners(leads[index].points)
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        first = 0.25  # hidden in the case
        last = arc[np.flatnonzero(path[:, 2] > 0.0)[-1]]
        end = first + share * (last - first)
        stub = np.array([np.interp(end, arc, path[:, k]) for k in range(3)])
        points = np.vstack([path[arc < end], stub])
        leads[index] = replace(leads[index], points=points, cut=True)
    return replace(scene, leads=tuple(leads))


def damaged_case(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Break pieces off the case, or wound its surface."""
    case = scene.case
    half, end, top = case.width / 2, case.height / 2, case.wall + case.dome
    side = float(rng.choice([-1, 1]))
    chips: list[Chip] = []
    scars: list[Scar] = []

    def chip(point: list[float], normal: list[float], roughness: float) -> None:
        """Cut through ``point`` (x, y, z of the case's frame)."""
        n = np.array(normal) / np.linalg.norm(normal)
        chips.append(Chip(tuple(n.tolist()), float(n @ np.array(point)), roughness))

    def crater(centre: list[float], radius: float, depth: float, whiteness: float) -> None:
        angle = np.linspace(0, 2 * np.pi, 26)[:-1]
        wave = 1 + 0.22 * np.interp(angle, np.linspace(0, 6.3, 9), rng.normal(0, 1, 9), period=6.3)
        ring = np.stack([np.cos(angle) * rng.uniform(0.8, 1.3), np.sin(angle)], 1)
        points = np.array(centre) + radius * wave.clip(0.5)[:, None] * ring
        scars.append(Scar(points, 0.0, depth, whiteness))

    def crack(start: list[float], stop: list[float], width: float, whiteness: float) -> None:
        t = np.linspace(0, 1, 14)[:, None]
        a, b = np.array(start), np.array(stop)
        zigzag = 0.05 * rng.normal(0, 1, (14, 2)) * np.linalg.norm(b - a)
        scars.append(Scar(a + t * (b - a) + zigzag * np.sin(np.pi * t), width, 0.03, whiteness))

    if variant == 0:  # a large corner is gone
        chip([side * 0.34, -end, top - 0.1], [side * 0.85, -0.8, 0.22], 0.03)
    elif variant == 1:  # the whole upper end is broken
        chip([0, -end + rng.uniform(0.22, 0.30), top], [0.30 * side, -1, 0.40], 0.035)
    elif variant == 2:  # a corner at the leads
        chip([side * 0.46, end, top - 0.12], [side * 0.9, 0.75, 0.30], 0.025)
    elif variant == 3:  # a crater
        crater([side * 0.18, 0.1 + rng.normal(0, 0.1)], 0.22, 0.06, 0.7)
    elif variant == 4:  # a branched crack
        crack([side * 0.55, -end], [-side * 0.12, 0.30], 0.022, 0.65)
        crack([side * 0.2, -0.25], [side * 0.5, 0.25], 0.014, 0.55)
    elif variant == 5:  # a small corner
        chip([side * (half - 0.34), -end, case.wall + 0.55], [side * 0.9, -0.8, 0.35], 0.02)
    elif variant == 6:  # a deep scratch
        crack([-side * 0.45, 0.10 + rng.normal(0, 0.1)], [side * 0.4, -0.55], 0.020, 0.45)
    elif variant == 7:  # a pit
        crater([side * rng.uniform(0.25, 0.5), rng.uniform(-0.6, 0.6)], 0.07, 0.03, 0.5)
    elif variant == 8:  # a gouge in the flank: a dent from two sides
        y = rng.uniform(-0.25, 0.25)
        crater([side * (half - 0.17), y], 0.15, 0.05, 0.6)
        crack([side * (half - 0.20), y - 0.1], [side * 0.35, y - 0.45], 0.016, 0.4)
    else:  # a nick in the edge at the leads
        x = side * rng.uniform(0.1, 0.35)
        crater([x, end - 0.09], 0.13, 0.05, 0.8)
    return replace(scene, case=replace(case, chips=tuple(chips), scars=tuple(scars)))


def _moved(scene: Scene, turn: float, centre: tuple[float, float], shift: list[float]) -> Scene:
    """Turn the part about a board point by ``turn`` rad, then shift it (pitch)."""
    rotation = rotation_matrix(about_z=turn)
    pivot, by = np.array([*centre, 0.0]), np.array([*shift, 0.0])
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


def misplaced(scene: Scene, variant: int, rng: np.random.Generator) -> Scene:
    """Rotate, shift or flip the part, or leave it out."""
    side = float(rng.choice([-1, 1]))
    if variant == 0:  # absent
        return replace(scene, case=None, leads=())
    if variant == 1:  # thrown across the holes, leads up
        turn = side * np.deg2rad(rng.uniform(125, 150))
        return _moved(_out_of_holes(scene), turn, (0, -1.9), [side * 0.1, 0.2])
    if variant == 2:  # a quarter turn, in other holes
        return _moved(scene, side * np.pi / 2, (0, -2), [0, 0])
    if variant == 3:  # half a turn
        return _moved(scene, np.pi, (0, -1.5), [0, 0])
    if variant == 4:  # askew beside its holes
        turn = side * np.deg2rad(rng.uniform(28, 42))
        return _moved(_out_of_holes(scene), turn, (0, -1.9), [side * 0.2, 0.1])
    if variant == 5:  # one column off
        return _moved(scene, 0, (0, 0), [side, 0])
    if variant == 6:  # one row off
        return _moved(scene, 0, (0, 0), [0, -1])
    if variant == 7:  # askew
        turn = side * np.deg2rad(rng.uniform(9, 12))
        return _moved(_out_of_holes(scene), turn, (0, -1.5), [0, -0.06])
    if variant == 8:  # pulled up, leads beside the holes
        return _moved(_out_of_holes(scene), side * 0.03, (0, -1.5), [side * 0.12, -0.42])
    case = scene.case  # flipped onto its round side
    turned = case.rotation @ rotation_matrix(about_y=np.pi)
    place = case.position + np.array([0, 0, case.wall + case.dome])
    case = replace(case, rotation=turned, position=place, upside_down=True)
    return replace(scene, case=case, leads=tuple(sample_lead(rng, case, i) for i in range(3)))


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
    away = np.linalg.norm(b[:, None, :2] - a[None, :, :2], axis=2).min(1) > 0.05
    if not away.any():
        return np.inf
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(b, axis=0), axis=1))])
    return float(arc[np.argmax(away)])
