"""Draw generic images from a seed: the only training images of the embedded backbone.

Nothing is loaded: every pixel comes from a random generator. The images are meant to be varied
rather than pretty, so that a network which copies another on them also copies it on photographs.

Three layers, each usable alone:

* a *field* is a scalar texture, ``(h, w)`` float32 in [0, 1];
* a *shape* is a mask that is filled with a coloured field and shaded;
* a *scene* puts fields and shapes together, then a simulated camera adds light, blur and noise.
"""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


# --- fields: (h, w) float32 in [0, 1] -------------------------------------------------------


def _stretch(field: np.ndarray) -> np.ndarray:
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def _coordinates(rng: Rng, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in pixels in a randomly rotated frame with a random origin."""
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else rng.integers(4) * np.pi / 2
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = np.arange(w, dtype=np.float32)[None] - np.float32(rng.uniform(0, w))
    y = np.arange(h, dtype=np.float32)[:, None] - np.float32(rng.uniform(0, h))
    return c * x + s * y, c * y - s * x


def fractal_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Pink noise: octaves of smoothed white noise, amplitude a power of the scale."""
    persistence = rng.uniform(0.35, 1.0)
    stretch = 2.0 ** rng.uniform(-2, 2) if rng.random() < 0.3 else 1.0
    cells = rng.uniform(1.5, 6.0)
    field = np.zeros((h, w), np.float32)
    amplitude = 1.0
    while cells < 2 * max(h, w):
        rows = int(np.clip(cells * stretch, 1, h)) + 1
        columns = int(np.clip(cells / stretch, 1, w)) + 1
        noise = rng.random((rows, columns), dtype=np.float32)
        field += amplitude * cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
        amplitude *= persistence
        cells *= 2.2
    return _stretch(field)


def stripe_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Parallel or concentric waves: sine, square or saw, straight or warped."""
    u, v = _coordinates(rng, h, w)
    if rng.random() < 0.25:
        u = np.sqrt(u * u + v * v)
    if rng.random() < 0.4:
        u = u + rng.uniform(2, 30) * fractal_field(rng, h, w)
    phase = u * np.float32(1 / np.exp(rng.uniform(np.log(3), np.log(60))))
    kind = rng.integers(4)
    if kind == 0:
        return 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    if kind == 1:
        return phase - np.floor(phase)
    duty = rng.uniform(0.15, 0.85)
    saw = np.abs(phase - np.floor(phase) - 0.5) * 2
    sharpness = rng.uniform(2, 20)
    return np.clip((saw - duty) * sharpness + 0.5, 0, 1)


def lattice_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Grids of dots, rings or squares, checkerboards and meshes."""
    u, v = _coordinates(rng, h, w)
    pitch = float(np.exp(rng.uniform(np.log(5), np.log(50))))
    u, v = u / pitch, v / (pitch * (1.0 if rng.random() < 0.6 else rng.uniform(0.5, 2)))
    if rng.random() < 0.3:
        u = u + 0.5 * (np.floor(v) % 2)  # brick or hexagonal offset
    kind = rng.integers(5)
    if kind == 0:
        return ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    du, dv = np.abs(u - np.floor(u) - 0.5), np.abs(v - np.floor(v) - 0.5)
    if kind == 1:
        distance = np.maximum(du, dv)
    elif kind == 2:
        distance = np.minimum(du, dv)
    else:
        distance = np.sqrt(du * du + dv * dv)
    field = np.clip((distance - rng.uniform(0.1, 0.45)) * rng.uniform(3, 25) + 0.5, 0, 1)
    if kind == 4:
        field = field * np.clip((rng.uniform(0.2, 0.5) - distance) * 15 + 0.5, 0, 1)
    return field


def cell_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Voronoi cells: flat, domed, or their borders only."""
    n = int(np.exp(rng.uniform(np.log(6), np.log(300))))
    seeds = np.full((h, w), 255, np.uint8)
    rows, columns = rng.integers(0, h, n), rng.integers(0, w, n)
    seeds[rows, columns] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
    kind = rng.integers(3)
    if kind == 0:
        return rng.random(int(labels.max()) + 1, dtype=np.float32)[labels]
    if kind == 1:
        return _stretch(distance)
    levels = rng.random(int(labels.max()) + 1, dtype=np.float32)[labels]
    return np.clip(levels - 0.04 * distance, 0, 1)


def marble_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Sine or threshold of pink noise: veins, contour lines, patches."""
    field = fractal_field(rng, h, w)
    if rng.random() < 0.5:
        return 0.5 + 0.5 * np.sin(rng.uniform(6, 50) * field)
    return np.clip((field - rng.uniform(0.3, 0.7)) * rng.uniform(3, 40) + 0.5, 0, 1)


def brushed_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Fine grain: white noise, smoothed along one direction as on brushed metal or wood."""
    field = rng.random((h, w), dtype=np.float32)
    length = int(rng.integers(1, 40))
    width = int(rng.integers(1, 4))
    kernel = (length, width) if rng.random() < 0.5 else (width, length)
    field = cv2.blur(field, kernel)
    if rng.random() < 0.3:
        field = _stretch(field) ** rng.uniform(1, 8)  # speckle: few bright grains
    return _stretch(field)


def gradient_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """Linear, radial or cylindrical shading; the last two as on balls and rods."""
    u, v = _coordinates(rng, h, w)
    kind = rng.integers(3)
    if kind == 0:
        return _stretch(u)
    if kind == 1:
        return np.exp(-(u * u + v * v) / np.float32(rng.uniform(0.2, 1.5) * max(h, w)) ** 2)
    return np.exp(-(u * u) / np.float32(rng.uniform(0.05, 0.5) * max(h, w)) ** 2)


FIELDS = (
    fractal_field,
    stripe_field,
    lattice_field,
    cell_field,
    marble_field,
    brushed_field,
    gradient_field,
)
_FIELD_ODDS = np.array([0.26, 0.15, 0.13, 0.08, 0.12, 0.12, 0.14])


def random_field(rng: Rng, h: int, w: int) -> np.ndarray:
    """One field, or two blended by a third; (h, w) float32 in [0, 1]."""
    index = rng.choice(len(FIELDS), p=_FIELD_ODDS)
    field = FIELDS[index](rng, h, w)
    if rng.random() < 0.3:
        other = FIELDS[rng.choice(len(FIELDS), p=_FIELD_ODDS)](rng, h, w)
        mask = marble_field(rng, h, w) if rng.random() < 0.4 else np.float32(rng.uniform(0.2, 0.8))
        field = field + (other - field) * mask
    return np.clip(field, 0, 1).astype(np.float32, copy=False)


# --- colour ---------------------------------------------------------------------------------


def random_colour(rng: Rng) -> np.ndarray:
    """One colour, (3,) float32 in [0, 1]: greys and dull colours more often than pure ones."""
    value = rng.uniform(0.02, 1.0)
    saturation = rng.uniform(0, 1) ** rng.choice([1.0, 3.0])
    tint = rng.random(3)
    tint = (tint - tint.min()) / max(float(np.ptp(tint)), 1e-6)
    return (value * (1 - saturation * (1 - tint))).astype(np.float32)


def colourise(rng: Rng, field: np.ndarray, *, contrast: float | None = None) -> np.ndarray:
    """Map a field through a random palette of 2 to 4 colours; (h, w, 3) float32 in [0, 1]."""
    n = int(rng.integers(2, 5))
    palette = np.stack([random_colour(rng) for _ in range(n)])
    if contrast is None:
        contrast = rng.uniform(0.15, 1.0)
    palette = palette[0] + np.float32(contrast) * (palette - palette[0])
    stops = np.linspace(0, 255, n)
    table = np.stack([np.interp(np.arange(256), stops, palette[:, c]) for c in range(3)], axis=1)
    index = (field * 255).astype(np.uint8)
    return table.astype(np.float32)[index]


def random_texture(rng: Rng, h: int, w: int) -> np.ndarray:
    """Draw a coloured field; (h, w, 3) float32 in [0, 1]."""
    return colourise(rng, random_field(rng, h, w))


# --- shapes ---------------------------------------------------------------------------------


def shape_mask(rng: Rng, h: int, w: int) -> np.ndarray:
    """One anti-aliased filled shape in an (h, w) box; uint8, 255 inside."""
    mask = np.zeros((h, w), np.uint8)
    kind = rng.integers(7)
    centre, axes = (w // 2, h // 2), (max(w // 2 - 2, 1), max(h // 2 - 2, 1))
    turned = 0.0 if rng.random() < 0.5 else rng.uniform(0, 180)
    if kind == 0:
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    elif kind == 1:
        reach = 1.0 if turned == 0 else 0.75
        box = (centre, (2 * reach * axes[0], 2 * reach * axes[1]), turned)
        cv2.fillPoly(mask, [cv2.boxPoints(box).astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 2:  # polygon, possibly a star
        n = int(rng.integers(3, 12))
        angle = np.sort(rng.uniform(0, 2 * np.pi, n))
        radius = rng.uniform(0.35, 1.0, n)
        points = np.stack(
            [
                centre[0] + axes[0] * radius * np.cos(angle),
                centre[1] + axes[1] * radius * np.sin(angle),
            ],
            axis=1,
        )
        cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 3:  # ring or arc
        thickness = max(1, int(min(h, w) * rng.uniform(0.05, 0.25)))
        inner = (max(axes[0] - thickness // 2, 1), max(axes[1] - thickness // 2, 1))
        end = 360 if rng.random() < 0.6 else rng.uniform(60, 330)
        cv2.ellipse(mask, centre, inner, turned, 0, end, 255, thickness, cv2.LINE_AA)
    elif kind == 4:  # rounded rectangle
        radius = max(1, int(min(axes) * rng.uniform(0.1, 0.9)))
        cv2.rectangle(mask, (radius + 2, radius + 2), (w - radius - 3, h - radius - 3), 255, -1)
        mask = cv2.dilate(
            mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        )
    elif kind == 5:  # blob: thresholded smooth noise, faded to the box's edge
        n = int(rng.integers(3, 7))
        noise = np.zeros((n + 2, n + 2), np.float32)
        noise[1:-1, 1:-1] = rng.random((n, n), dtype=np.float32) + 0.3
        noise = cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
        mask = (np.clip((noise - 0.55) * 12 + 0.5, 0, 1) * 255).astype(np.uint8)
    else:  # half disc, as a moulded body seen from its end
        cv2.ellipse(mask, centre, axes, 0, rng.uniform(0, 40), rng.uniform(180, 320), 255, -1)
    return mask


def _bevel(rng: Rng, mask: np.ndarray) -> np.ndarray:
    """Light on a domed shape: brightness gain (h, w), 1 where flat."""
    depth = cv2.distanceTransform((mask > 127).view(np.uint8) * 255, cv2.DIST_L2, 3)
    radius = max(2.0, float(depth.max()) * rng.uniform(0.1, 1.0))
    dome = np.sqrt(1 - (1 - np.minimum(depth / radius, 1)) ** 2) * radius
    dome = cv2.GaussianBlur(dome, (0, 0), 1.0 + 0.05 * radius)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * cv2.Sobel(dome, cv2.CV_32F, 1, 0, scale=0.125)
    slope += np.sin(angle) * cv2.Sobel(dome, cv2.CV_32F, 0, 1, scale=0.125)
    slope = np.tanh(slope)
    gain = 1 + rng.uniform(0.2, 0.9) * slope
    if rng.random() < 0.4:  # gloss
        gain += rng.uniform(0.5, 2.0) * np.clip(slope - rng.uniform(0.2, 0.7), 0, 1)
    return gain


def paint(canvas: np.ndarray, mask: np.ndarray, fill: np.ndarray, top: int, left: int) -> None:
    """Blend ``fill`` into ``canvas`` where ``mask`` is set; parts outside are cut off.

    Parameters
    ----------
    canvas : array of shape (H, W, 3), float32
        Changed in place.
    mask : array of shape (h, w), float32 in [0, 1]
    fill : array of shape (h, w, 3) or (3,), float32
    top, left : int
        Position of the mask's corner on the canvas; may be negative.
    """
    h, w = mask.shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + h, canvas.shape[0]), min(left + w, canvas.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    cut = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    if fill.ndim == 3:
        fill = fill[cut]
    region = canvas[y0:y1, x0:x1]
    region += mask[cut][..., None] * (fill - region)


def draw_object(rng: Rng, canvas: np.ndarray, extent: float) -> None:
    """Put one filled, shaded shape of about ``extent`` pixels at a random place."""
    size = canvas.shape[0]
    ratio = np.exp(rng.uniform(-1, 1))
    h = int(np.clip(extent * np.sqrt(ratio), 6, 2 * size))
    w = int(np.clip(extent / np.sqrt(ratio), 6, 2 * size))
    top, left = int(rng.uniform(-h / 2, size - h / 2)), int(rng.uniform(-w / 2, size - w / 2))
    hard = shape_mask(rng, h, w)
    mask = hard.astype(np.float32) * np.float32(1 / 255)
    style = rng.random()
    if style < 0.35:
        fill = random_colour(rng)
    elif style < 0.6:
        fill = colourise(rng, gradient_field(rng, h, w))
    else:
        fill = random_texture(rng, h, w)
    if extent > 14 and rng.random() < 0.4:
        fill = fill * _bevel(rng, hard)[..., None]
    if extent > 14 and rng.random() < 0.3:  # cast shadow
        sigma = rng.uniform(0.5, 0.08 * extent + 1)
        shift = rng.normal(0, 0.08 * extent, 2).astype(int)
        shadow = cv2.GaussianBlur(mask, (0, 0), sigma) * np.float32(rng.uniform(0.3, 0.9))
        paint(canvas, shadow, np.zeros(3, np.float32), top + shift[0], left + shift[1])
    if rng.random() < 0.15:
        mask = mask * np.float32(rng.uniform(0.3, 0.9))
    elif rng.random() < 0.1:
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 0.05 * extent + 1))
    paint(canvas, mask, fill, top, left)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_tube(rng: Rng, canvas: np.ndarray, points: np.ndarray, width: float) -> None:
    """Draw a rod or wire along ``points`` (n, 2; x, y): strokes from dark rim to bright ridge."""
    colour = random_colour(rng)
    light = np.clip(colour * rng.uniform(1.3, 3.0) + rng.uniform(0, 0.3), 0, 1)
    dark = colour * rng.uniform(0.1, 0.7)
    offset = rng.normal(0, 0.12 * width, 2)
    strokes = int(np.clip(width, 1, 8))
    drawn = _to_uint8(canvas)  # OpenCV smooths lines on 8-bit images only
    line = np.round(points * 16).astype(np.int32)  # 4 fractional bits
    for k in range(strokes):
        t = k / max(strokes - 1, 1)
        shade = dark + (light - dark) * t ** rng.uniform(0.8, 1.2)
        moved = line + np.round(offset * t * 16).astype(np.int32)
        thickness = max(1, round(width * (1 - 0.9 * t)))
        cv2.polylines(drawn, [moved], False, (255 * shade).tolist(), thickness, cv2.LINE_AA, 4)
    canvas[:] = drawn * np.float32(1 / 255)


def random_curve(rng: Rng, size: int) -> np.ndarray:
    """Draw a cubic Bezier curve across the canvas as (24, 2) points."""
    control = rng.uniform(-0.2 * size, 1.2 * size, (4, 2))
    t = np.linspace(0, 1, 24)[:, None]
    return (
        (1 - t) ** 3 * control[0]
        + 3 * (1 - t) ** 2 * t * control[1]
        + 3 * (1 - t) * t**2 * control[2]
        + t**3 * control[3]
    )


def draw_text(rng: Rng, canvas: np.ndarray, *, x: int, y: int, scale: float) -> None:
    """Write a few random characters."""
    characters = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789-/+.acegkmnorsxz"
    text = "".join(characters[i] for i in rng.integers(0, len(characters), rng.integers(1, 8)))
    font = int(rng.integers(0, 5))
    thickness = int(np.clip(round(scale * rng.uniform(0.8, 3)), 1, 8))
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.putText(mask, text, (x, y), font, scale, 255, thickness, cv2.LINE_AA)
    paint(canvas, mask * np.float32(1 / 255), random_colour(rng), 0, 0)


# --- scenes: (size, size, 3) float32 --------------------------------------------------------


def texture_scene(rng: Rng, size: int) -> np.ndarray:
    """Texture alone, or two textures side by side or through each other."""
    canvas = random_texture(rng, size, size)
    if rng.random() < 0.5:
        choose = marble_field if rng.random() < 0.5 else lattice_field
        paint(canvas, choose(rng, size, size), random_texture(rng, size, size), 0, 0)
    return canvas


def leaves_scene(rng: Rng, size: int) -> np.ndarray:
    """Dead leaves: many overlapping shapes whose sizes follow a power law."""
    canvas = random_texture(rng, size, size)
    smallest, largest = rng.uniform(6, 24), rng.uniform(0.3, 1.0) * size
    exponent = rng.uniform(1.0, 2.2)
    for _ in range(int(np.exp(rng.uniform(np.log(12), np.log(100))))):
        u = rng.random()
        extent = (largest**-exponent + u * (smallest**-exponent - largest**-exponent)) ** (
            -1 / exponent
        )
        draw_object(rng, canvas, extent)
    return canvas


def objects_scene(rng: Rng, size: int) -> np.ndarray:
    """Draw a few large things, curves and writing on a background."""
    canvas = random_texture(rng, size, size)
    for _ in range(int(rng.integers(1, 7))):
        kind = rng.random()
        if kind < 0.6:
            draw_object(rng, canvas, size * rng.uniform(0.15, 0.9))
        elif kind < 0.85:
            draw_tube(rng, canvas, random_curve(rng, size), np.exp(rng.uniform(0, 3.4)))
        else:
            x, y = (int(v) for v in rng.uniform(0, 0.8 * size, 2))
            draw_text(rng, canvas, x=x, y=y, scale=np.exp(rng.uniform(-1, 1.2)))
    return canvas


def repeat_scene(rng: Rng, size: int) -> np.ndarray:
    """Lay one small drawn tile out in a grid, with small differences of brightness."""
    tile = int(rng.integers(24, 97))
    patch = random_texture(rng, tile, tile)
    for _ in range(int(rng.integers(1, 4))):
        draw_object(rng, patch, tile * rng.uniform(0.3, 1.0))
    n = size // tile + 2
    canvas = np.tile(patch, (n, n, 1))
    top, left = rng.integers(0, tile, 2)
    canvas = np.ascontiguousarray(canvas[top : top + size, left : left + size])
    if rng.random() < 0.5:
        canvas *= (rng.uniform(0.6, 1.0) + 0.4 * random_field(rng, size, size))[..., None]
    if rng.random() < 0.4:
        draw_object(rng, canvas, size * rng.uniform(0.2, 0.7))
    return canvas


def _board(rng: Rng, size: int) -> np.ndarray:
    """Perforated board: strips, pads and holes on a lattice."""
    u, v = _coordinates(rng, size, size)
    pitch = np.float32(rng.uniform(10, 60))
    u, v = u / pitch, v / pitch
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    distance = np.sqrt(du * du + dv * dv) * pitch  # pixels
    canvas = colourise(rng, random_field(rng, size, size), contrast=rng.uniform(0, 0.4))
    edge = np.float32(rng.uniform(0.6, 2.0))
    if rng.random() < 0.7:
        half = rng.uniform(0.25, 0.47) * pitch
        strip = np.clip((half - np.abs(dv) * pitch) / edge, 0, 1)
        grain = random_field(rng, size, size)
        paint(canvas, strip, colourise(rng, grain, contrast=rng.uniform(0, 0.5)), 0, 0)
    if rng.random() < 0.6:
        pad = np.clip((rng.uniform(0.25, 0.45) * pitch - distance) / edge, 0, 1)
        paint(canvas, pad, random_colour(rng), 0, 0)
    radius = rng.uniform(0.1, 0.3) * pitch
    shift = rng.normal(0, 0.15, 2).astype(np.float32)
    inner = np.sqrt((du - shift[0]) ** 2 + (dv - shift[1]) ** 2) * pitch
    hole = np.clip((radius - distance) / edge, 0, 1)
    paint(canvas, hole, random_colour(rng) * np.float32(0.5), 0, 0)
    deep = hole * np.clip((radius - inner) / edge, 0, 1)
    paint(canvas, deep, random_colour(rng) * np.float32(rng.uniform(0, 1)), 0, 0)
    return canvas


def part_scene(rng: Rng, size: int) -> np.ndarray:
    """Draw generic moulded parts with metal legs, over a perforated board or a texture."""
    canvas = _board(rng, size) if rng.random() < 0.7 else random_texture(rng, size, size)
    for _ in range(int(rng.integers(0, 3))):
        h, w = (int(v) for v in size * rng.uniform(0.12, 0.5, 2))
        top, left = int(rng.uniform(-h / 3, size - h / 2)), int(rng.uniform(-w / 3, size - w / 2))
        legs = int(rng.integers(1, 6))
        width = rng.uniform(2, max(3.0, 0.8 * w / legs))
        reach = rng.uniform(0.2, 1.5) * h * rng.choice([-1, 1])
        bend = rng.normal(0, 0.15 * w)
        for k in range(legs):
            x = left + w * (k + 0.5) / legs
            start = [x, top + h / 2]
            knee = [x + bend * (k - legs / 2) * 0.5, top + h / 2 + reach]
            tip = [knee[0] + rng.normal(0, 3), knee[1] + reach * rng.uniform(0, 0.5)]
            draw_tube(rng, canvas, np.array([start, knee, tip]), width)
        hard = np.zeros((h, w), np.uint8)
        radius = max(1, int(min(h, w) * rng.uniform(0.02, 0.3)))
        cv2.rectangle(hard, (radius, radius), (w - radius - 1, h - radius - 1), 255, -1)
        hard = cv2.dilate(
            hard, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        )
        mask = hard.astype(np.float32) / 255
        shadow = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 6)) * np.float32(0.6)
        paint(canvas, shadow, np.zeros(3, np.float32), top + int(rng.integers(-6, 7)), left + 3)
        fill = colourise(rng, random_field(rng, h, w), contrast=rng.uniform(0, 0.4))
        fill = fill * np.float32(rng.uniform(0.2, 1)) * _bevel(rng, hard)[..., None]
        paint(canvas, mask, fill, top, left)
        if rng.random() < 0.5:
            scale = rng.uniform(0.25, 1.0)
            draw_text(rng, canvas, x=left + w // 6, y=top + h // 2, scale=scale)
    for _ in range(int(rng.integers(0, 4))):
        draw_tube(rng, canvas, random_curve(rng, size), rng.uniform(1, 12))
    return canvas


SCENES = (texture_scene, leaves_scene, objects_scene, repeat_scene, part_scene)
_SCENE_ODDS = np.array([0.16, 0.27, 0.25, 0.10, 0.22])


# --- camera ---------------------------------------------------------------------------------


def _warp(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Bend the image smoothly, as a lens or a curved surface does."""
    size = image.shape[0]
    n = int(rng.integers(3, 9))
    shift = rng.normal(0, rng.uniform(1, 0.35 * size / n), (n, n, 2)).astype(np.float32)
    shift = cv2.resize(shift, (size, size), interpolation=cv2.INTER_CUBIC)
    grid = np.arange(size, dtype=np.float32)
    return cv2.remap(
        image,
        shift[..., 0] + grid[None],
        shift[..., 1] + grid[:, None],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )


def photograph(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Simulate light, lens and sensor; (h, w, 3) float32 to uint8."""
    h, w = image.shape[:2]
    if rng.random() < 0.2:
        image = _warp(rng, image)
    if rng.random() < 0.5:
        light = gradient_field(rng, h, w) if rng.random() < 0.7 else fractal_field(rng, h, w)
        low = rng.uniform(0.2, 0.9)
        image = image * (low + (rng.uniform(0.9, 1.4) - low) * light)[..., None].astype(np.float32)
    blur = rng.random()
    if blur < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), np.exp(rng.uniform(-1, 1.0)))
    elif blur < 0.36:
        length = int(rng.integers(2, 12))
        image = cv2.blur(image, (length, 1) if rng.random() < 0.5 else (1, length))
    if rng.random() < 0.12:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.3)))
    gain = rng.uniform(0.7, 1.15) * np.exp(rng.normal(0, 0.07, 3))
    image = image * gain.astype(np.float32) + np.float32(rng.uniform(-0.05, 0.1))
    if rng.random() < 0.5:
        sigma = np.float32(np.exp(rng.uniform(np.log(0.003), np.log(0.06))))
        image = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    image = _to_uint8(image)
    if rng.random() < 0.15:
        quality = int(rng.integers(25, 95))
        code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return image


def draw_image(index: int, *, seed: int, size: int = 256) -> np.ndarray:
    """Draw image number ``index`` of the endless sequence that ``seed`` names.

    Parameters
    ----------
    index : int
        Non-negative number of the image.
    seed : int
        Non-negative; another seed gives another sequence.
    size : int
        Side in pixels.

    Returns
    -------
    array of shape (size, size, 3), uint8
        Depends on the three arguments alone.
    """
    if index < 0 or seed < 0 or size < 32:
        raise ValueError(f"index={index}, seed={seed} should be >= 0 and size={size} >= 32")
    rng = np.random.default_rng([seed, index])
    scene = SCENES[rng.choice(len(SCENES), p=_SCENE_ODDS)]
    canvas = np.ascontiguousarray(scene(rng, size), dtype=np.float32)
    return photograph(rng, canvas)
