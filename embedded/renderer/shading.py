"""Colours: board, case and leads under the scene's lights, all in linear RGB."""

from dataclasses import dataclass

import cv2
import numpy as np

from embedded.renderer.geometry import BoardHit, CaseHit, LeadHit, View, case_corners, round_corners
from embedded.renderer.scene import Case, Lead, Light, Scar, Scene

TIN = np.array([0.80, 0.79, 0.77])
BARE_LEAD = np.array([0.60, 0.36, 0.25])
EPOXY_BREAK = np.array([0.165, 0.160, 0.155])
DECAL_SIZE = 512  # texels over -1..1 pitch of the case's frame


def smooth_noise(rng: np.random.Generator, size: int, cell: tuple[float, float]) -> np.ndarray:
    """Gaussian value noise of shape (size, size), unit variance at its nodes.

    ``cell`` is the distance of the nodes along rows and columns, in pixels; one beyond twice
    ``size`` leaves the noise constant that way.
    """
    nodes = [round(size / c) + 1 for c in cell]
    coarse = rng.standard_normal(nodes)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def fractal_noise(rng: np.random.Generator, size: int, cell: float, octaves: int) -> np.ndarray:
    """Sum of value noises whose cells and weights halve, shape (size, size)."""
    total = np.zeros((size, size))
    for k in range(octaves):
        total += smooth_noise(rng, size, (cell / 2**k, cell / 2**k)) / 2**k
    return total


def lookup(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of ``texture`` at texel coordinates, shape (n,), clamped at its rim."""
    x = np.clip(x, 0, texture.shape[1] - 1.001)
    y = np.clip(y, 0, texture.shape[0] - 1.001)
    i, j = y.astype(np.int32), x.astype(np.int32)
    v, u = y - i, x - j
    upper = texture[i, j] * (1 - u) + texture[i, j + 1] * u
    lower = texture[i + 1, j] * (1 - u) + texture[i + 1, j + 1] * u
    return upper * (1 - v) + lower * v


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Cubic step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def environment(light: Light, r: np.ndarray, ground: np.ndarray, blur: float) -> np.ndarray:
    """Radiance from directions ``r`` of shape (n, 3); a rough surface asks for more ``blur``."""
    sky = 0.05 + 0.16 * np.clip(r[:, 2], 0, 1) ** 2
    sky *= 1 - 0.6 * np.exp((r[:, 2] - 1) / (0.02 + blur))  # the camera itself is dark
    size = light.key_size
    key = 5.0 * light.key_strength * size / (size + blur)
    sky += key * np.exp((r @ np.asarray(light.key) - 1) / (size + blur))
    sky += 3.0 * light.fill_strength * np.exp((r @ np.asarray(light.fill) - 1) / (0.05 + blur))
    up = smoothstep(-0.12, 0.12, r[:, 2])[:, None]
    return up * sky[:, None] + (1 - up) * 0.42 * ground


@dataclass(frozen=True)
class Shadows:
    """Share of the key light, and of the dome, that reaches each board pixel."""

    key: np.ndarray
    dome: np.ndarray


def cast_shadows(view: View, scene: Scene) -> Shadows:
    """Drop the silhouettes of the case and leads on the board and blur them by their height.

    They are soft, so a third of the picture's resolution is enough.
    """
    small = View(scene.camera, view.size // 3)
    per_pitch = small.size / scene.camera.width
    soft = scene.board.shadow_softness
    direction = np.asarray(scene.light.key)

    def dropped(points: np.ndarray, *, slanted: bool) -> np.ndarray:
        ground = points.copy()
        if slanted:
            ground[:, :2] -= direction[:2] / direction[2] * points[:, 2:]
        ground[:, 2] = 0
        return np.round(small.project(ground) * 8).astype(np.int32)

    def shadow(case_blur: float, lead_blur: float, *, slanted: bool) -> np.ndarray:
        """Share of the light that is kept off each pixel."""
        of_case, of_leads = np.zeros((2, small.size, small.size))
        if scene.case is not None:
            hull = cv2.convexHull(dropped(case_corners(scene.case), slanted=slanted))
            cv2.fillPoly(of_case, [hull], 1.0, shift=3)
        for lead in scene.leads:
            path = round_corners(lead.points)
            line = dropped(path[path[:, 2] > 0.0], slanted=slanted)
            width = max(1, round(2 * lead.half_width * per_pitch))
            cv2.polylines(of_leads, [line], False, 1.0, width, shift=3)
        both = np.maximum(
            cv2.GaussianBlur(of_case, (0, 0), case_blur * per_pitch),
            cv2.GaussianBlur(of_leads, (0, 0), lead_blur * per_pitch),
        )
        return cv2.resize(both, (view.size, view.size), interpolation=cv2.INTER_LINEAR)

    key = shadow(0.9 * soft, 0.35 * soft, slanted=True)
    dome = shadow(0.22, 0.10, slanted=False)
    return Shadows(1 - 0.92 * key, 1 - 0.62 * dome)


def paint_board(
    view: View, scene: Scene, hit: BoardHit, shadows: Shadows, rng: np.random.Generator
) -> np.ndarray:
    """Colour of the bare board, shape (size, size, 3)."""
    board, light, size = scene.board, scene.light, view.size
    per_pitch = size / scene.camera.width
    key = np.asarray(light.key)
    flat = key[:2] / np.hypot(*key[:2])

    stain = fractal_noise(rng, size, 0.9 * per_pitch, 4)
    hue = fractal_noise(rng, size, 1.4 * per_pitch, 3)
    streak = smooth_noise(rng, size, (2.5 * per_pitch, 0.025 * per_pitch))
    streak += smooth_noise(rng, size, (0.8 * per_pitch, 0.05 * per_pitch))
    grain = smooth_noise(rng, size, (4, 4)) + 0.6 * smooth_noise(rng, size, (9, 9))
    tone = 1 + board.stain * stain + board.streak * streak + board.grain * grain
    copper = np.asarray(board.copper) * np.clip(tone, 0.2, None)[..., None]
    copper *= 1 + (0.5 * board.stain * hue)[..., None] * np.array([0.1, 0.6, 1.0])

    # strips: distance from the middle of the gap to the right or left of this strip
    wobble = board.gap_wobble * smooth_noise(rng, size, (0.10 * per_pitch, 0.35 * per_pitch))
    wobble += 0.5 * board.gap_wobble * smooth_noise(rng, size, (0.03 * per_pitch, 0.3 * per_pitch))
    inside = 0.5 - np.abs(hit.across) - board.gap + wobble  # > 0 on copper
    edge_side = np.sign(hit.across)
    edge = np.exp(-((inside / 0.022) ** 2)) * (inside > -0.01)
    copper *= (1 + 0.30 * edge * edge_side * flat[0])[..., None]
    laminate = (
        np.asarray(board.laminate)
        * (
            1 + 0.20 * smooth_noise(rng, size, (0.04 * per_pitch, 0.12 * per_pitch)) + 0.08 * grain
        ).clip(0.2)[..., None]
    )
    laminate *= (0.75 + 0.25 * smoothstep(0.0, 0.05, -inside))[..., None]

    _mark_copper(view, scene, copper, rng)

    d, away = hit.hole, hit.hole_x * flat[0] + hit.hole_y * flat[1]  # 1 towards the light
    burr = np.exp(-(((d - 1.06) / 0.055) ** 2))
    copper *= (1 + burr * (0.45 * -away + 0.1))[..., None]

    colour = np.where((inside > 0)[..., None], copper, laminate)
    # light: diffuse key and dome, and a broad sheen that makes the strips brighter on one side
    mirrored = hit.rays @ (key * np.array([1, 1, -1]))
    mirrored /= np.sqrt((hit.rays**2).sum(-1))
    sheen = np.exp((mirrored - 1) / 0.22) * board.sheen * 5
    sheen = sheen * (inside > 0) * np.clip(1 + 0.25 * grain + 0.35 * streak, 0, None)
    lit = light.key_strength * (key[2] + sheen) * shadows.key + light.ambient * shadows.dome
    fill = light.fill_strength * light.fill[2] * shadows.dome
    colour = colour * (lit + fill)[..., None]

    wall = smoothstep(0.55, 1.0, d) * np.clip(-away, 0, 1) * shadows.key
    deep = np.array([0.030, 0.023, 0.022]) * (0.75 + 0.3 * light.ambient)
    depth = deep * (1 + 0.35 * stain.clip(-1.5, 1.5))[..., None]
    depth = depth + wall[..., None] * np.array([0.075, 0.050, 0.036])
    depth = depth * (0.55 + 0.45 * shadows.dome)[..., None]
    return np.where((d < 1)[..., None], depth, colour)


def _mark_copper(view: View, scene: Scene, copper: np.ndarray, rng: np.random.Generator) -> None:
    """Specks, flux rings and scratches that every used board has, painted into ``copper``."""
    board, size = scene.board, view.size
    per_pitch = size / scene.camera.width
    dark = np.zeros((size, size))
    bright = np.zeros((size, size))

    def place() -> np.ndarray:
        return rng.uniform(0, size, 2)

    def curve(points: np.ndarray, width: float, value: float, layer: np.ndarray) -> None:
        fixed = np.round(points * 8).astype(np.int32)
        thick = max(1, round(width * per_pitch))
        cv2.polylines(layer, [fixed], False, value, thick, cv2.LINE_AA, shift=3)

    for _ in range(board.n_specks):
        axes = np.maximum(1, per_pitch * rng.uniform(0.008, 0.032, 2)).round().astype(int)
        centre = place().round().astype(int).tolist()
        layer = dark if rng.random() < 0.75 else bright
        strength = rng.uniform(0.2, 0.65)
        cv2.ellipse(layer, centre, axes.tolist(), rng.uniform(0, 180), 0, 360, strength, -1)
    for _ in range(board.n_rings):
        angle = np.linspace(0, rng.uniform(4.2, 6.4), 40)
        radius = rng.uniform(0.05, 0.13) * (1 + 0.25 * np.sin(3 * angle + rng.uniform(0, 6))
                                            + 0.15 * np.sin(5 * angle))  # fmt: skip
        ring = place() + per_pitch * np.stack(
            [radius * np.cos(angle), 1.3 * radius * np.sin(angle)], 1
        )
        curve(ring, 0.014, rng.uniform(0.25, 0.55), dark)
    for _ in range(board.n_scratches):
        start, angle = place(), rng.uniform(0, np.pi)
        length = rng.uniform(0.2, 1.3) * per_pitch
        t = np.linspace(0, 1, 12)[:, None]
        bow = rng.normal(0, 0.03) * length * np.sin(np.pi * t) * [-np.sin(angle), np.cos(angle)]
        line = start + length * t * [np.cos(angle), np.sin(angle)] + bow
        layer = bright if rng.random() < 0.6 else dark
        curve(line, 0.010, rng.uniform(0.15, 0.45), layer)
    dark, bright = (cv2.GaussianBlur(layer, (0, 0), 0.9) for layer in (dark, bright))
    copper *= (1 - dark)[..., None]
    copper += (0.30 * bright)[..., None] * (copper + 0.25)


@dataclass(frozen=True)
class Decals:
    """Textures over the case's frame: height for relief, ink, whiteness of fresh wounds."""

    height: np.ndarray
    ink: np.ndarray
    whiteness: np.ndarray


def _scar_shape(scar: Scar) -> np.ndarray:
    """Share of each texel that a scar covers."""
    layer = np.zeros((DECAL_SIZE, DECAL_SIZE), np.uint8)
    fixed = np.round((scar.points + 1) * DECAL_SIZE / 2 * 8).astype(np.int32)
    if scar.line_width > 0:
        width = max(1, round(scar.line_width * DECAL_SIZE / 2))
        cv2.polylines(layer, [fixed], False, 255, width, cv2.LINE_AA, shift=3)
    else:
        cv2.fillPoly(layer, [fixed], 255, cv2.LINE_AA, shift=3)
    return layer / 255


def _texels(hit: CaseHit) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates x and y of the case's pixels."""
    texel = DECAL_SIZE / 2
    return (hit.local[:, 0] + 1) * texel - 0.5, (hit.local[:, 1] + 1) * texel - 0.5


def scarred(case: Case, hit: CaseHit) -> np.ndarray:
    """Tell which of the case's pixels lie in a scar, shape (n,), bool."""
    wound = np.zeros(len(hit.rows), bool)
    for scar in case.scars:
        wound |= lookup(_scar_shape(scar), *_texels(hit)) > 0.4
    return wound & (hit.normal[:, 2] > 0.15) & (hit.chip < 0)


def draw_decals(case: Case, rng: np.random.Generator) -> Decals:
    """Draw ejector mark, print and scars; every layer has shape (DECAL_SIZE, DECAL_SIZE)."""
    n, scale = DECAL_SIZE, DECAL_SIZE / 2
    axis = (np.arange(n) + 0.5) / scale - 1
    x, y = np.meshgrid(axis, axis)
    px, py, depth = case.pin_mark
    radial = np.hypot(x - px, y - py)
    height = -0.012 * depth * np.exp(-(((radial - 0.29) / 0.016) ** 2))
    height -= 0.006 * depth * smoothstep(0.30, 0.27, radial)
    letters = np.zeros((n, n), np.uint8)
    for text, top in zip(case.print_text, (0.36, 0.64), strict=True):
        origin = np.array([-0.31, top]) + case.print_offset
        at = np.round((origin + 1) * scale).astype(int).tolist()
        cv2.putText(letters, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.75, 255, 5, cv2.LINE_AA)
    ink = letters / 255
    ink *= np.clip(0.8 + 0.35 * smooth_noise(rng, n, (5, 5)), 0, 1.2)
    for _ in range(case.dust):
        at = rng.uniform(0.05 * n, 0.95 * n, 2).round().astype(int).tolist()
        cv2.circle(ink, at, int(rng.integers(1, 4)), rng.uniform(0.3, 0.9), -1, cv2.LINE_AA)
    for _ in range(case.fibres):
        turn, t = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.25, 24).cumsum(), rng.uniform(9, 18)
        line = rng.uniform(0.2 * n, 0.8 * n, 2) + t * np.cumsum(
            np.stack([np.cos(turn), np.sin(turn)], 1), axis=0
        )
        cv2.polylines(
            ink, [np.round(line).astype(np.int32)], False, rng.uniform(0.25, 0.7), 2, cv2.LINE_AA
        )
    whiteness = np.zeros((n, n))
    for scar in case.scars:
        layer = _scar_shape(scar)
        rough = fractal_noise(rng, n, 40, 4)
        bowl = cv2.GaussianBlur(layer, (0, 0), 1.5 if scar.line_width > 0 else 5.0)
        height += -scar.depth * bowl * (1 + 0.45 * rough)
        whiteness = np.maximum(
            whiteness, layer * scar.whiteness * np.clip(0.7 + 0.4 * rough, 0, 1.3)
        )
    return Decals(height, ink, whiteness)


def paint_case(
    view: View, scene: Scene, case: Case, hit: CaseHit, rng: np.random.Generator
) -> np.ndarray:
    """Colour (n, 3) of the case's pixels."""
    light, size = scene.light, view.size
    decals = draw_decals(case, rng)
    texel = DECAL_SIZE / 2
    texels = _texels(hit)

    def sample(texture: np.ndarray) -> np.ndarray:
        return lookup(texture, *texels)

    slope_y, slope_x = np.gradient(decals.height * texel)
    whole = hit.chip < 0
    upper = (hit.normal[:, 2] > 0.15) & whole
    relief = (np.abs(hit.normal[:, 2]) > 0.15) & whole  # the flat side has an ejector mark too
    ink = sample(decals.ink) * upper
    white = sample(decals.whiteness) * upper

    grain = smooth_noise(rng, size, (3.5, 3.5))[hit.rows, hit.cols]
    flow = smooth_noise(rng, size, (0.9 * size / 4.5, 0.05 * size / 4.5))[hit.rows, hit.cols]
    broken = hit.chip >= 0
    rough = fractal_noise(rng, size, 22, 4)
    rough_y, rough_x = np.gradient(rough)
    at = (hit.rows, hit.cols)

    normal = hit.normal.copy()
    normal[:, 0] -= sample(slope_x) * relief + 0.010 * grain + 0.012 * flow
    normal[:, 1] -= sample(slope_y) * relief + 0.010 * np.roll(grain, 1)
    normal[:, 0] -= broken * 1.6 * rough_x[at]
    normal[:, 1] -= broken * 1.6 * rough_y[at]
    normal = normal @ case.rotation.T
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    ray = view.directions(hit.rows, hit.cols)
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    cosine = np.clip(-(ray * normal).sum(1), 0, 1)
    mirrored = ray + 2 * cosine[:, None] * normal

    fresh = np.maximum(broken, np.clip(white, 0, 1))
    fresnel = 0.04 + 0.96 * (1 - cosine) ** 5
    shine = (fresnel * case.gloss * (1 - 0.75 * fresh))[:, None]
    ground = np.asarray(scene.board.copper)
    gloss = shine * environment(light, mirrored, ground, 0.035)
    diffuse = (
        light.key_strength * np.clip(normal @ np.asarray(light.key), 0, None)
        + light.ambient * (0.35 + 0.65 * np.clip(normal[:, 2], 0, 1))
        + light.fill_strength * np.clip(normal @ np.asarray(light.fill), 0, None)
    )
    low = 0.35 + 0.65 * smoothstep(0.0, 0.7, hit.height)  # little light reaches under the case
    albedo = case.tone * (1 + 0.10 * grain)[:, None] * np.array([1.0, 0.98, 1.0])
    albedo = albedo + (0.075 * case.print_strength * ink)[:, None]
    shade = 0.55 + 0.5 * np.clip(0.6 + 0.35 * rough[at], 0, 1.4)
    albedo = albedo * (1 - fresh)[:, None] + EPOXY_BREAK * (fresh * shade)[:, None]
    colour = (albedo * diffuse[:, None] + gloss) * low[:, None]
    return colour


def paint_lead(view: View, scene: Scene, lead: Lead, hit: LeadHit) -> np.ndarray:
    """Colour (n, 3) of one lead's pixels."""
    rng = np.random.default_rng(lead.seed)
    light = scene.light
    texture = [smooth_noise(rng, 256, cell) for cell in ((7, 999), (16, 999), (3, 120), (10, 80))]
    texel_x, texel_y = (hit.across + 1) * 100 + 25, hit.along / 3.5 * 256
    fine, coarse, tooling, patch = (lookup(t, texel_x, texel_y) for t in texture)
    edge = smoothstep(0.58, 0.86, np.abs(hit.across)) * 0.80 * np.sign(hit.across)
    lean = lead.dents * (0.13 * fine + 0.22 * coarse + 0.06 * tooling)
    lean = lean - 0.5 * lead.collar_size * (
        np.exp(-(((hit.along - lead.collar - 0.05) / 0.02) ** 2))
        - np.exp(-(((hit.along - lead.collar + 0.05) / 0.02) ** 2))
    )
    tip = hit.normal + hit.tangent * lean[:, None]
    normal = tip * np.sqrt(1 - edge**2)[:, None] + hit.side * (edge + 0.05 * patch)[:, None]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    ray = view.directions(hit.rows, hit.cols)
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    cosine = np.clip(-(ray * normal).sum(1), 0.02, 1)
    mirrored = ray + 2 * cosine[:, None] * normal
    ground = np.asarray(scene.board.copper)
    shine = environment(light, mirrored, ground, 0.06)
    diffuse = 0.30 * light.key_strength * np.clip(normal @ np.asarray(light.key), 0, None)
    bare = lead.tarnish * smoothstep(0.48, 0.16, hit.height + 0.06 * patch)
    bare = np.where(hit.along > 0.6 * hit.length, bare, 0) if not lead.cut else 0 * bare
    metal = TIN + bare[:, None] * (BARE_LEAD - TIN)
    stain = np.clip(0.95 + 0.10 * patch - 0.05 * np.abs(tooling), 0.4, 1.3)
    colour = metal * (1.15 * shine + diffuse[:, None]) * stain[:, None]
    if lead.cut:
        face = smoothstep(0.06, 0.02, hit.length - hit.along)
        colour = (
            colour * (1 - face)[:, None]
            + face[:, None] * TIN * (0.25 + 0.5 * light.key_strength * (hit.across < 0.2))[:, None]
        )
    dark = np.exp(np.minimum(hit.height, 0) / 0.22)  # fades inside the hole
    near_case = smoothstep(0.22, 0.50, hit.along)
    return colour * (dark * (0.30 + 0.70 * near_case))[:, None]
