"""Where things are in the picture: camera rays, the case's surface, the leads' ribbons."""

from dataclasses import dataclass

import numpy as np

from embedded.renderer.scene import Board, Camera, Case, Lead, rotation_matrix

N_FACETS = 22  # around the case's rounding; normals are smoothed over them


@dataclass(frozen=True)
class View:
    """A camera at a picture size: rays out of it and points into it."""

    camera: Camera
    size: int  # pixels along each side

    def _frame(self) -> tuple[np.ndarray, np.ndarray]:
        cam = self.camera
        turn = rotation_matrix(about_x=cam.tilt[0], about_y=cam.tilt[1], about_z=cam.roll)
        target = np.array([*cam.target, 0.0])
        return turn, target + turn @ np.array([0.0, 0.0, cam.distance])

    @property
    def origin(self) -> np.ndarray:
        """Camera position, shape (3,)."""
        return self._frame()[1]

    def directions(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Ray directions of pixels, shape (..., 3), not of unit length."""
        turn, _ = self._frame()
        scale = self.camera.width / self.camera.distance
        u = ((cols + 0.5) / self.size - 0.5) * scale
        v = ((rows + 0.5) / self.size - 0.5) * scale
        parts = np.broadcast_arrays(*(np.asarray(a) for a in (u, v, -1.0)))
        return np.stack(parts, axis=-1) @ turn.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points of shape (n, 3) to pixel coordinates (column, row), shape (n, 2)."""
        turn, origin = self._frame()
        local = (np.asarray(points) - origin) @ turn
        plane = local[:, :2] / -local[:, 2:]
        return (plane * self.camera.distance / self.camera.width + 0.5) * self.size - 0.5

    def box(self, points: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, 1) and columns (1, m) of the pixels around the projected points."""
        uv = self.project(points)
        low = np.clip(np.floor(uv.min(0)).astype(int) - margin, 0, self.size)
        high = np.clip(np.ceil(uv.max(0)).astype(int) + margin + 1, 0, self.size)
        return np.arange(low[1], high[1])[:, None], np.arange(low[0], high[0])[None, :]


@dataclass(frozen=True)
class BoardHit:
    """The bare board as every pixel sees it; arrays of shape (size, size)."""

    rays: np.ndarray  # (size, size, 3), not of unit length
    x: np.ndarray  # board coordinates, pitch
    y: np.ndarray
    across: np.ndarray  # from the middle of the nearest strip, pitch
    hole: np.ndarray  # distance from the nearest hole's centre, in its radii
    hole_x: np.ndarray  # direction from that centre, unit vector
    hole_y: np.ndarray


def trace_board(view: View, board: Board, rng: np.random.Generator) -> BoardHit:
    """Find board coordinates and holes; ``rng`` draws the holes' drilling errors."""
    rays = view.directions(*np.mgrid[: view.size, : view.size])
    origin = view.origin
    t = -origin[2] / rays[..., 2]
    x, y = origin[0] + t * rays[..., 0], origin[1] + t * rays[..., 1]
    column, row = np.round(x), np.round(y)
    jitter = rng.normal(0, board.hole_jitter, (16, 16, 3))
    near = jitter[row.astype(int) % 16, column.astype(int) % 16]
    dx, dy = x - column - near[..., 0], y - row - near[..., 1]
    distance = np.hypot(dx, dy) + 1e-6
    hole = distance / (board.hole_radius * (1 + 0.5 * near[..., 2]))
    return BoardHit(rays, x, y, x - column, hole, dx / distance, dy / distance)


def case_profile(case: Case) -> np.ndarray:
    """Outline of the cross-section, shape (n, 2): x and z, from right to left over the top."""
    angle = np.linspace(0, np.pi, N_FACETS + 1)
    power = 2 / case.roundness
    x = case.width / 2 * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    z = case.wall + case.dome * np.abs(np.sin(angle)) ** power
    return np.vstack([[case.width / 2, 0], np.stack([x, z], 1), [-case.width / 2, 0]])


def case_planes(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Planes ``normal . p <= offset`` that bound the case in its own frame."""
    outline = case_profile(case)
    edge = np.diff(outline, axis=0)
    edge = np.where(np.abs(edge) < 1e-9, 0, edge)
    keep = np.linalg.norm(edge, axis=1) > 1e-6
    edge, start = edge[keep], outline[:-1][keep]
    normal2 = np.stack([edge[:, 1], -edge[:, 0]], 1)
    normal2 /= np.linalg.norm(normal2, axis=1, keepdims=True)
    normals = np.stack([normal2[:, 0], np.zeros(len(normal2)), normal2[:, 1]], 1)
    offsets = (normal2 * start).sum(1)
    draft = np.array([[0, -1, 0.05], [0, 1, 0.05], [0, 0, -1]])
    normals = np.vstack([normals, draft])
    offsets = np.concatenate([offsets, [case.height / 2, case.height / 2, 0.0]])
    return normals, offsets


def case_corners(case: Case) -> np.ndarray:
    """World positions of the outline at both ends, shape (n, 3)."""
    outline = case_profile(case)
    ends = [
        np.stack([outline[:, 0], np.full(len(outline), y), outline[:, 1]], 1)
        for y in (-case.height / 2, case.height / 2)
    ]
    return np.vstack(ends) @ case.rotation.T + case.position


@dataclass(frozen=True)
class CaseHit:
    """Pixels in which the case is seen, and what of it."""

    rows: np.ndarray  # (n,)
    cols: np.ndarray  # (n,)
    local: np.ndarray  # (n, 3) hit point in the case's frame
    normal: np.ndarray  # (n, 3) smooth unit normal in the case's frame
    height: np.ndarray  # (n,) world z
    chip: np.ndarray  # (n,) index of the chip whose plane was hit, or -1


def trace_case(view: View, case: Case, roughness_fields: list[np.ndarray]) -> CaseHit:
    """Intersect camera rays with the case.

    Parameters
    ----------
    view : View
    case : Case
    roughness_fields : list of arrays of shape (size, size)
        One a chip: how far its broken face is moved, in pitch, at each pixel.

    Returns
    -------
    CaseHit
    """
    rows, cols = view.box(case_corners(case), 3)
    d = view.directions(rows, cols) @ case.rotation
    origin = (view.origin - case.position) @ case.rotation
    near = np.full(d.shape[:2], -np.inf)
    far = np.full(d.shape[:2], np.inf)
    face = np.zeros(d.shape[:2], np.int32)
    normals, offsets = case_planes(case)
    n_body = len(normals)
    planes = [(n, o) for n, o in zip(normals, offsets, strict=True)]
    planes += [(np.asarray(c.normal), c.offset + f[rows, cols])
               for c, f in zip(case.chips, roughness_fields, strict=True)]  # fmt: skip
    for index, (normal, offset) in enumerate(planes):
        slope = d @ normal
        slope = np.where(np.abs(slope) < 1e-7, 1e-7, slope)
        t = (np.asarray(offset) - origin @ normal) / slope
        entering = slope < 0
        closer = entering & (t > near)
        near = np.where(closer, t, near)
        face = np.where(closer, index, face)
        far = np.where(~entering & (t < far), t, far)
    hit = near < far
    r, c = np.nonzero(hit)
    local = origin + near[hit][:, None] * d[hit]
    chip = face[hit] - n_body
    normal = _case_normal(case, local, face[hit], n_body)
    height = (local @ case.rotation.T + case.position)[:, 2]
    return CaseHit(
        r + rows[0, 0], c + cols[0, 0], local, normal, height, np.where(chip >= 0, chip, -1)
    )


def _case_normal(case: Case, local: np.ndarray, face: np.ndarray, n_body: int) -> np.ndarray:
    """Compute normals of the smooth super-ellipse, rounded towards the end faces."""
    x, y, z = (local[:, i] for i in range(3))
    a, b, p = case.width / 2, case.dome, case.roundness
    nx = np.sign(x) * np.abs(x / a) ** (p - 1) / a
    nz = (np.maximum(z - case.wall, 0) / b) ** (p - 1) / b
    body = np.stack([nx, np.zeros_like(nx), nz], 1)
    body /= np.linalg.norm(body, axis=1, keepdims=True) + 1e-9
    inset = np.clip((np.abs(y) + 0.05 * z - (case.height / 2 - 0.05)) / 0.05, 0, 1)
    body[:, 1] = np.sign(y) * 0.9 * inset**2
    end = (face >= n_body - 3) & (face < n_body - 1)
    body[end] = np.stack([0 * y, np.sign(y), 0 * y + 0.05], 1)[end]
    rim_x = np.clip((np.abs(x) - (a - 0.10)) / 0.10, 0, 1) ** 2 * np.sign(x)
    rim_y = np.clip((np.abs(y) - (case.height / 2 - 0.06)) / 0.06, 0, 1) ** 2 * np.sign(y)
    flat = np.stack([0.9 * rim_x + 0.05 * x, 0.7 * rim_y + 0.05 * y, np.full_like(x, -1)], 1)
    body[face == n_body - 1] = flat[face == n_body - 1]
    for index, chip in enumerate(case.chips):
        body[face == n_body + index] = chip.normal
    return body / np.linalg.norm(body, axis=1, keepdims=True)


def round_corners(points: np.ndarray, times: int = 3) -> np.ndarray:
    """Chaikin's corner cutting: shape (n, 3) to a smooth polyline with the same ends."""
    for _ in range(times):
        a, b = points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 3)
        points = np.vstack([points[:1], cut, points[-1:]])
    return points


@dataclass(frozen=True)
class LeadHit:
    """Pixels in which a lead is seen, and what of it."""

    rows: np.ndarray  # (n,)
    cols: np.ndarray  # (n,)
    along: np.ndarray  # (n,) arc length from the control polyline's start, pitch
    across: np.ndarray  # (n,) -1 at one edge, 1 at the other
    normal: np.ndarray  # (n, 3) of the flat face, world
    tangent: np.ndarray  # (n, 3)
    side: np.ndarray  # (n, 3)
    height: np.ndarray  # (n,) world z
    length: float  # arc length of the whole lead


def trace_lead(view: View, lead: Lead) -> LeadHit:
    """Find the pixels of one lead, as a ribbon around its projected centre line."""
    path = round_corners(lead.points)
    step = np.linalg.norm(np.diff(path, axis=0), axis=1)
    arc = np.concatenate([[0], np.cumsum(step)])
    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-12
    sides = _sides(tangents)
    normals = np.cross(sides, tangents)
    normals *= np.where(normals[:, 2:] < -0.2, -1, 1)
    uv = view.project(path)
    depth = np.linalg.norm(path - view.origin, axis=1)
    pixels = view.size * view.camera.distance / view.camera.width / depth  # per pitch
    bump = 1 + lead.collar_size * np.exp(-(((arc - lead.collar) / 0.05) ** 4))
    widths = lead.half_width * bump * pixels
    rows, cols = view.box(path, int(np.ceil(widths.max())) + 2)
    best = np.full((rows.size, cols.size), np.inf)
    where = np.zeros(best.shape)  # index along the path, fractional
    across = np.zeros(best.shape)
    last = len(path) - 2
    for i in range(len(path) - 1):
        a, ab = uv[i], uv[i + 1] - uv[i]
        square = float(ab @ ab)
        if square < 1e-6:
            continue
        reach = widths[i : i + 2].max() + 2
        lo = np.minimum(a, a + ab) - reach
        hi = np.maximum(a, a + ab) + reach
        r0, r1 = np.searchsorted(rows[:, 0], [lo[1], hi[1]])
        c0, c1 = np.searchsorted(cols[0], [lo[0], hi[0]])
        if r0 == r1 or c0 == c1:
            continue
        dx, dy = cols[:, c0:c1] - a[0], rows[r0:r1] - a[1]
        raw = (dx * ab[0] + dy * ab[1]) / square
        t = np.clip(raw, 0, 1)
        width = widths[i] + t * (widths[i + 1] - widths[i])
        px, py = dx - t * ab[0], dy - t * ab[1]
        # signed distance over half-width; beyond the two ends nothing, so cuts are square
        dist = np.hypot(px, py) / width
        dist = np.where((i == last) & (raw > 1), np.inf, dist)
        sign = np.sign(ab[1] * dx - ab[0] * dy)
        view_best = best[r0:r1, c0:c1]
        closer = dist < view_best
        view_best[closer] = dist[closer]
        where[r0:r1, c0:c1][closer] = (i + t)[closer]
        across[r0:r1, c0:c1][closer] = (sign * dist)[closer]
    hit = best <= 1
    r, c = np.nonzero(hit)
    index = where[hit]

    def along_path(values: np.ndarray) -> np.ndarray:
        return np.interp(index, np.arange(len(path)), values)

    def vectors(values: np.ndarray) -> np.ndarray:
        stacked = np.stack([along_path(values[:, k]) for k in range(3)], 1)
        return stacked / (np.linalg.norm(stacked, axis=1, keepdims=True) + 1e-9)

    return LeadHit(
        r + rows[0, 0], c + cols[0, 0], along_path(arc), across[hit], vectors(normals),
        vectors(tangents), vectors(sides), along_path(path[:, 2]), float(arc[-1]),
    )  # fmt: skip


def _sides(tangents: np.ndarray) -> np.ndarray:
    """Horizontal direction across the lead; where it runs straight down, the last one known."""
    sides = np.zeros_like(tangents)
    previous = np.array([1.0, 0.0, 0.0])
    for i, tangent in enumerate(tangents):
        side = np.cross(tangent, [0.0, 0.0, 1.0])
        norm = np.linalg.norm(side)
        if norm > 0.15:
            side = side / norm
            previous = side if side @ previous > -0.5 else -side
        sides[i] = previous
    return sides
