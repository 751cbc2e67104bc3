"""What one picture shows: plain parameters, and how those of a normal picture are drawn.

Units: one hole pitch (2.54 mm). x points right, y down the picture, z from the board to the
camera. Holes lie on whole numbers of (x, y); the three leads belong into row y = 0.
"""

from dataclasses import dataclass

import numpy as np

LEAD_HOLES = ((-1.0, 0.0), (0.0, 0.0), (1.0, 0.0))


@dataclass(frozen=True)
class Camera:
    """Pinhole camera that looks down on the board."""

    target: tuple[float, float]  # board point in the middle of the picture, pitch
    width: float  # board width in the picture, pitch
    distance: float  # from the target, pitch
    roll: float  # rad
    tilt: tuple[float, float]  # about x and y, rad
    defocus: float  # standard deviation of the blur, output pixels
    exposure: float
    white_balance: tuple[float, float, float]
    noise: float  # standard deviation at mid grey, 8-bit steps
    vignette: float


@dataclass(frozen=True)
class Light:
    """One soft key light, one weaker fill light and a dome."""

    key: tuple[float, float, float]  # unit vector to the light
    key_strength: float
    key_size: float  # width of its lobe, larger is softer
    fill: tuple[float, float, float]
    fill_strength: float
    ambient: float


@dataclass(frozen=True)
class Board:
    """Copper strips with drilled holes on brown laminate."""

    copper: tuple[float, float, float]  # linear RGB reflectance
    laminate: tuple[float, float, float]
    gap: float  # half the width of the gap between strips, pitch
    gap_wobble: float
    hole_radius: float
    hole_jitter: float
    stain: float
    streak: float
    grain: float
    sheen: float
    n_specks: int
    n_rings: int
    n_scratches: int
    shadow_softness: float


@dataclass(frozen=True)
class Lead:
    """One lead: a flat wire along a rounded polyline."""

    points: np.ndarray  # (n, 3) control points in world units
    half_width: float
    collar: float  # arc length of the dam-bar remnant, pitch
    collar_size: float
    dents: float
    tarnish: float  # 0 tinned to the end, 1 bare copper near the board
    seed: int
    cut: bool = False  # ends in the air with a bright cut face


@dataclass(frozen=True)
class Chip:
    """A piece broken off the case: everything beyond a rough plane is gone."""

    normal: tuple[float, float, float]  # case coordinates
    offset: float
    roughness: float


@dataclass(frozen=True)
class Scar:
    """A wound in the case's surface: polygon (crater) or open line (crack, scratch)."""

    points: np.ndarray  # (n, 2) in case coordinates
    line_width: float  # 0 for a filled polygon
    depth: float
    whiteness: float


@dataclass(frozen=True)
class Case:
    """Half-round moulded case; its own frame has z = 0 at the flat side and y to the leads."""

    width: float
    height: float
    wall: float  # height of the straight side walls
    dome: float  # height of the rounding above them
    roundness: float  # exponent of the super-ellipse
    rotation: np.ndarray  # (3, 3) case to world
    position: np.ndarray  # (3,) world position of the case's origin
    gloss: float
    tone: float
    pin_mark: tuple[float, float, float]  # x, y, depth of the ejector mark
    print_text: tuple[str, str]
    print_strength: float
    print_offset: tuple[float, float]
    dust: int
    fibres: int
    seed: int
    chips: tuple[Chip, ...] = ()
    scars: tuple[Scar, ...] = ()
    upside_down: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything that one picture shows; ``case`` is None and ``leads`` empty without a part."""

    camera: Camera
    light: Light
    board: Board
    case: Case | None
    leads: tuple[Lead, ...]
    texture_seed: int


def rotation_matrix(*, about_x: float = 0.0, about_y: float = 0.0, about_z: float = 0.0):
    """Rotation matrix Rz @ Ry @ Rx, angles in rad.

    Returns
    -------
    array of shape (3, 3), float64
    """
    (cx, cy, cz), (sx, sy, sz) = (
        f(np.array([about_x, about_y, about_z])) for f in (np.cos, np.sin)
    )
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a normal scene: every parameter within what an inspector would accept."""
    camera = _sample_camera(rng)
    light = _sample_light(rng)
    board = _sample_board(rng)
    case = _sample_case(rng)
    leads = tuple(sample_lead(rng, case, i) for i in range(3))
    return Scene(camera, light, board, case, leads, int(rng.integers(2**31)))


def _clipped(rng: np.random.Generator, scale: float) -> float:
    """One normal variate, cut at two standard deviations: tolerances end somewhere."""
    return float(np.clip(rng.normal(0.0, scale), -2 * scale, 2 * scale))


def _sample_camera(rng: np.random.Generator) -> Camera:
    warm = _clipped(rng, 0.035)
    return Camera(
        target=(_clipped(rng, 0.12), -1.62 + _clipped(rng, 0.10)),
        width=4.6 * (1 + _clipped(rng, 0.018)),
        distance=rng.uniform(13, 17),
        roll=_clipped(rng, np.deg2rad(1.1)),
        tilt=(_clipped(rng, np.deg2rad(2.0)), _clipped(rng, np.deg2rad(2.0))),
        defocus=rng.uniform(0.45, 0.95),
        exposure=float(np.exp(_clipped(rng, 0.13))),
        white_balance=(1 + warm, 1.0, 1 - warm + _clipped(rng, 0.02)),
        noise=rng.uniform(0.3, 0.9),
        vignette=rng.uniform(0.02, 0.14),
    )


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    return (
        float(np.cos(elevation) * np.cos(azimuth)),
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
    )


def _sample_light(rng: np.random.Generator) -> Light:
    azimuth = np.deg2rad(-125 + _clipped(rng, 22))  # from the upper left
    return Light(
        key=_direction(azimuth, np.deg2rad(rng.uniform(44, 68))),
        key_strength=rng.uniform(0.8, 1.2),
        key_size=rng.uniform(0.03, 0.09),
        fill=_direction(azimuth + np.pi + rng.uniform(-0.7, 0.7), np.deg2rad(rng.uniform(35, 60))),
        fill_strength=rng.uniform(0.12, 0.4),
        ambient=rng.uniform(0.28, 0.5),
    )


def _sample_board(rng: np.random.Generator) -> Board:
    hue, value = _clipped(rng, 0.045), np.exp(_clipped(rng, 0.10))
    copper = np.array([0.42, 0.165 * (1 + hue), 0.108 * (1 - 0.6 * hue)]) * value
    laminate = np.array([0.060, 0.042, 0.030]) * np.exp(rng.normal(0, 0.15))
    return Board(
        copper=tuple(float(c) for c in copper),
        laminate=tuple(float(c) for c in laminate),
        gap=0.1 + _clipped(rng, 0.008),
        gap_wobble=rng.uniform(0.0015, 0.006),
        hole_radius=0.2 * (1 + _clipped(rng, 0.02)),
        hole_jitter=rng.uniform(0.004, 0.016),
        stain=rng.uniform(0.02, 0.10),
        streak=rng.uniform(0.002, 0.024),
        grain=rng.uniform(0.003, 0.010),
        sheen=rng.uniform(0.04, 0.16),
        n_specks=int(rng.poisson(7)),
        n_rings=int(rng.poisson(1.0)),
        n_scratches=int(rng.poisson(1.6)),
        shadow_softness=rng.uniform(0.05, 0.12),
    )


def _sample_case(rng: np.random.Generator) -> Case:
    height = 1.82 + _clipped(rng, 0.012)
    top = -3.36 + _clipped(rng, 0.09)  # y of the end away from the leads
    turn = rotation_matrix(
        about_x=_clipped(rng, np.deg2rad(1.2)),
        about_y=_clipped(rng, np.deg2rad(1.8)),
        about_z=_clipped(rng, np.deg2rad(1.3)),
    )
    lot = f"{rng.integers(10, 40)}{rng.choice(list('ABCDEFGH'))}{rng.integers(1, 10)}"
    return Case(
        width=1.84 + _clipped(rng, 0.012),
        height=height,
        wall=rng.uniform(0.30, 0.36),
        dome=rng.uniform(0.92, 1.02),
        roundness=rng.uniform(2.15, 2.5),
        rotation=turn,
        position=np.array([_clipped(rng, 0.045), top + height / 2, rng.uniform(0.10, 0.25)]),
        gloss=rng.uniform(0.5, 1.6),
        tone=rng.uniform(0.005, 0.013),
        pin_mark=(_clipped(rng, 0.03), -0.30 + _clipped(rng, 0.03), rng.uniform(0.3, 1.0)),
        print_text=("AD92", lot),
        print_strength=rng.uniform(0.2, 1.0),
        print_offset=(_clipped(rng, 0.04), _clipped(rng, 0.04)),
        dust=int(rng.poisson(6)),
        fibres=int(rng.poisson(0.5)),
        seed=int(rng.integers(2**31)),
    )


def sample_lead(rng: np.random.Generator, case: Case, index: int) -> Lead:
    """Draw a lead that leaves the case, spreads to its hole and goes down into it."""
    side = index - 1
    hole_x, hole_y = LEAD_HOLES[index]
    across = -side if case.upside_down else side
    exit_local = np.array([across * 0.49 + _clipped(rng, 0.012), case.height / 2, 0.5])
    start = case.rotation @ exit_local + case.position
    inside = case.rotation @ (exit_local - [0, 0.25, 0]) + case.position
    end = np.array([hole_x + _clipped(rng, 0.03), hole_y + _clipped(rng, 0.035), 0.0])
    reach = end[1] - start[1]
    z = start[2]
    first = 0.24 + _clipped(rng, 0.035)  # where the lead bends out, share of the reach
    second = 0.60 + _clipped(rng, 0.045)  # where it bends back
    lift = _clipped(rng, 0.06)
    sway = _clipped(rng, 0.030)
    points = np.array(
        [
            inside,
            start,
            [start[0] + 0.3 * sway, start[1] + first * reach, z + lift],
            [end[0] + side * abs(sway) + sway, start[1] + second * reach, 0.8 * z + lift],
            [end[0] + 0.5 * sway, end[1] - 0.16 * reach, 0.50 * z + 0.5 * lift],
            [end[0], end[1] - 0.02, 0.14],
            end - [0, 0, 0.1],
            end - [0, 0, 0.6],
        ]
    )
    return Lead(
        points=points,
        half_width=0.082 * (1 + _clipped(rng, 0.05)),
        collar=0.25 + (0.36 if side == 0 else 0.48) * reach * (1 + _clipped(rng, 0.12)),
        collar_size=rng.uniform(0.0, 0.28),
        dents=rng.uniform(0.4, 1.2),
        tarnish=float(np.clip(rng.normal(0.65, 0.3), 0, 1)),
        seed=int(rng.integers(2**31)),
    )
