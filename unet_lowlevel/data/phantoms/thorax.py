"""The anatomy behind the phantoms: a random thorax, cut at a height, and what a CT scanner makes of it.

Every structure is a signed distance field (negative inside, in units of half the image width) that is
painted in Hounsfield units with an edge one pixel wide; the lung mask is where the lung field is negative.
"""

from types import SimpleNamespace

import numpy as np
from scipy import ndimage

AIR, FOAM, FAT, MUSCLE, LIVER, MARROW, CORTEX = -1000.0, -870.0, -100.0, 50.0, 60.0, 220.0, 650.0  # Hounsfield units


GREAT_VESSELS = (  # center x, y, radius, and the heights (0 top, 1 bottom) between which they run
    (0.07, -0.02, 0.03, -0.3, 0.22),  # three branches of the arch of the aorta
    (-0.06, -0.08, 0.035, -0.3, 0.22),
    (0.0, -0.1, 0.03, -0.3, 0.24),
    (0.08, 0.08, 0.06, 0.2, 0.32),  # the arch
    (0.03, -0.03, 0.06, 0.2, 0.32),
    (-0.03, -0.14, 0.07, 0.22, 0.56),  # ascending aorta
    (-0.12, -0.08, 0.045, 0.1, 0.6),  # superior vena cava
    (0.08, -0.16, 0.065, 0.36, 0.56),  # pulmonary trunk and its right branch
    (-0.06, -0.02, 0.05, 0.38, 0.5),
)


def make_anatomy(rng: np.random.Generator) -> SimpleNamespace:
    """One patient: lengths in half image widths, angles in radians, densities in Hounsfield units."""
    u = rng.uniform
    a = SimpleNamespace()
    a.tilt, a.scale, a.shift = u(-0.12, 0.12), u(0.96, 1.08), (u(-0.04, 0.04), u(-0.12, -0.06))
    a.body, a.fat = (u(0.84, 0.9), u(0.6, 0.69)), u(0.015, 0.06)
    a.body_waves = [(k, u(-0.012, 0.012), u(0, 6.3)) for k in (2, 3, 5)]
    a.lung_waves = [(k, u(-0.022, 0.022), u(0, 6.3)) for k in (2, 3, 5, 7)]
    a.wall, a.left_inset, a.rib_phase, a.ribs = u(0.1, 0.13), u(0.01, 0.04), u(0, 6.3), int(rng.integers(8, 11))
    a.mediastinum, a.apex = u(0.18, 0.23), u(0.45, 0.55)
    a.heart, a.heart_angle, a.heart_top = (u(0.3, 0.38), u(0.22, 0.28)), u(0.4, 0.75), u(0.4, 0.48)
    a.liver_top, a.stomach_top, a.carina = u(0.62, 0.72), u(0.7, 0.8), u(0.34, 0.42)
    a.gas, a.colon, a.gullet = u(0.11, 0.19), (u(0.06, 0.16), u(-0.4, 0.4)), u(0, 0.025)
    a.blood, a.lung_density = u(45, 260), u(-870, -740)
    a.gravity = u(300, 800) if u() < 0.35 else u(40, 170)  # the back of congested lungs fills up
    a.table, a.shoulders = (u(-0.04, 0.02), u(0.1, 0.3), u(0.07, 0.12)), u(10, 60)
    # Lesions: a place on the pleura (angle, height), radii, density. The first ones are consolidations.
    a.lesions = [
        (u(-0.9, 4.0), u(0.2, 0.95), u(0.15, 0.45), u(0.09, 0.2), u(-150, 60)) for _ in range(rng.integers(1, 5))
    ]
    a.lesions += [(u(0, 6.3), u(0.1, 0.95), *[u(0.025, 0.07)] * 2, 40.0) for _ in range(rng.integers(2, 7))]
    soft_window = u() < 0.2  # made for the soft tissues: the lungs are nearly as black as the room
    low = u(-850, -700) if soft_window else u(-1150, -960)
    a.window, a.gamma, a.offset = (low, low + u(1000, 1900)), u(0.8, 1.2), u(-10, 25)
    a.noise, a.grain, a.streaks, a.blur = u(12, 45), u(20, 60), u(10, 50), max(0.0, u(-1.0, 1.1))
    a.circle = u(0.98, 1.1) if u() < 0.4 else 9.0  # radius of the field of view; 9: beyond the corners
    a.vessels = make_vessels(rng)
    return a


def make_vessels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trees of straight pieces from the two lung roots: starts [n, 3] and ends [n, 3] in (x, y, z), radii [n]."""
    side = np.repeat((-1.0, 1.0), 26)
    start = np.stack((0.17 * side, 0.03 * rng.standard_normal(52), 0.48 + 0.05 * rng.standard_normal(52)), axis=1)
    direction = rng.standard_normal((52, 3)) * (0.6, 0.9, 1.0) + side[:, None] * (0.75, 0, 0)
    length, radius, pieces = 0.14, 0.021, []
    for branches in (2, 1, 2, 1, 2):
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        # The whole height, z in 0..1, is about 1.6 units long.
        end = start + direction * (1, 1, 0.65) * length * rng.uniform(0.6, 1.3, (len(start), 1))
        pieces.append((start, end, np.full(len(start), radius) * rng.uniform(0.7, 1.1, len(start))))
        start, direction = np.repeat(end, branches, axis=0), np.repeat(direction, branches, axis=0)
        direction = direction + 0.45 * rng.standard_normal(direction.shape)
        length, radius = 0.9 * length, 0.76 * radius
    return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))


def draw_thorax(a, z: float, columns, rows, pixel: float, rng: np.random.Generator):
    """Density in Hounsfield units [H, W] and signed distance to the lungs [H, W] at height z: 0 top, 1 bottom."""
    hounsfield = np.full((rows.size, columns.size), AIR, np.float32)

    def paint(distance, density):
        hounsfield[...] += np.clip(0.5 - distance / edge, 0, 1) * (density - hounsfield)

    def circle(center_x, center_y, radius):
        return ellipse(x, y, center_x, center_y, radius, radius)

    edge = pixel
    body_a, body_b = a.body[0] * (1 - 0.06 * z), a.body[1] * (1 - 0.14 * max(0.0, 0.4 - z))
    paint_table(paint, a, columns, rows)
    # From here on in the patient's own coordinates: x to the patient's left, y to the back.
    turn, stretch = (np.cos(a.tilt) / a.scale).astype(np.float32), (np.sin(a.tilt) / a.scale).astype(np.float32)
    x = (columns - a.shift[0]) * turn + (rows - a.shift[1]) * stretch
    y = (rows - a.shift[1]) * turn - (columns - a.shift[0]) * stretch
    edge = pixel / a.scale
    theta = np.arctan2(y / body_b, x / body_a)

    # Chest wall: skin, fat, muscle, and the cage that ribs and lungs follow.
    squareness = -0.025 * np.cos(4 * theta)
    body = ellipse(x, y, 0, 0, body_a, body_b) - body_b * (waves(theta, a.body_waves) + squareness)
    open_top = min(1.0, a.apex + 1.1 * z**0.5)
    cage_a, cage_b = (body_a - a.wall - 0.03) * open_top, (body_b - a.wall + 0.01) * (0.25 + 0.75 * open_top)
    cage_y = 0.03 + 0.07 * (1 - open_top)
    cage = ellipse(x, y, 0, cage_y, cage_a, cage_b) - cage_b * (waves(theta, a.lung_waves) + squareness)
    paint(body, MUSCLE)
    paint(body + 0.012, FAT)
    paint(body + 0.012 + a.fat * (1 + 0.5 * np.sin(3 * theta + a.rib_phase)), MUSCLE)
    paint(np.abs(cage - 0.085 - 0.02 * np.cos(5 * theta)) - 0.008 * (1 + np.cos(3 * theta)), FAT)
    paint(cage - 0.012, FAT)
    paint(cage - 0.004, MUSCLE)
    rib_side = np.cos(a.ribs * theta + a.rib_phase + 9 * z * np.sign(x) + 1.5 * np.sin(2 * theta)) * 0.11 - 0.035
    rib = smooth_max(np.abs(cage - 0.042) - 0.021, -rib_side, 0.02)
    paint(rib, CORTEX)
    paint(rib + 0.011, MARROW)

    # What separates the lungs: mediastinum, heart, spine, and from below the two domes of the diaphragm.
    spine_y = cage_y + 0.66 * cage_b
    growth = np.clip((z - a.heart_top) / 0.2, 0, 1) ** 0.5
    heart = ellipse(x, y, 0.15 * growth, -0.14, a.heart[0] * growth, a.heart[1] * growth, a.heart_angle)
    aorta = circle(0.1, spine_y - 0.11, 0.055 * hat(z, 0.2, 2))
    middle = smooth_min(ellipse(x, y, 0.01, 0.03, a.mediastinum, 0.4 * open_top), np.abs(x - 0.01) - 0.02, 0.1)
    middle = smooth_min(smooth_min(middle, heart, 0.06), np.minimum(aorta, ellipse(x, y, 0, spine_y, 0.13, 0.2)), 0.06)
    domes = [np.clip((z - top) / (1.05 - top), 0, 1) ** 0.5 for top in (a.liver_top, a.stomach_top)]
    liver = ellipse(x, y, -0.28, -0.08, 0.37 * domes[0], 0.43 * domes[0], 0.3)
    stomach = ellipse(x, y, 0.3, -0.08, 0.35 * domes[1], 0.38 * domes[1])
    lung = smooth_max(cage + a.left_inset * (x > 0), -smooth_min(middle, np.minimum(liver, stomach), 0.04), 0.06)

    # The windpipe splits at the carina; its branches end at the lung roots.
    below = z - a.carina
    airway = circle(0.01, 0.2 * z, 0.055 if below <= 0 else 0)
    for side in (-1, 1):
        branch = circle(side * (0.03 + 1.3 * below), 0.08, 0.045 - 0.12 * below if 0 < below < 0.15 else 0)
        airway = np.minimum(airway, branch)
    lung = np.maximum(lung, 0.012 - airway)

    paint(cage, MUSCLE)
    paint(np.maximum(middle, cage), FAT)
    paint(heart + 0.02, MUSCLE)
    for center_x, center_y, share in ((0.08, -0.2, 0.6), (0.2, -0.1, 0.55), (-0.02, -0.08, 0.45)):  # its chambers
        paint(circle(center_x * growth, center_y, share * a.heart[1] * growth), a.blood)
    for center_x, center_y, radius, top, bottom in GREAT_VESSELS:
        paint(circle(center_x, center_y, radius * hat(z, top, bottom)), a.blood)
    paint(aorta, a.blood)
    paint(liver + 0.008, LIVER + 0.15 * a.blood)
    paint(stomach + 0.008, FAT)
    paint(np.maximum(stomach + 0.012, ellipse(x, y, 0.28, -0.16, 0.26, 0.2)), MUSCLE)  # stomach and what is in it
    paint(np.maximum(stomach + 0.012, ellipse(x, y, 0.46, 0.2, 0.16, 0.18, 0.8)), LIVER + 0.3 * a.blood)  # spleen
    # The patient lies on the back, so gas rises to the front, above a level.
    gas = smooth_max(ellipse(x, y, 0.28, -0.16, 1.5 * a.gas, a.gas), y + 0.16 - 0.3 * a.gas, 0.02)
    colon = ellipse(x, y, a.colon[1], -0.3, a.colon[0], 0.6 * a.colon[0]) + 0.2 * (1 - hat(z, 0.8, 1.2))
    paint(np.maximum(np.minimum(gas, colon), np.minimum(liver, stomach) + 0.03), AIR)
    paint(circle(0.03, spine_y - 0.16, 0.035), MUSCLE)  # gullet, with gas here and there
    paint(circle(0.03, spine_y - 0.16, a.gullet * np.sin(20 * z)), AIR)
    paint_skeleton(paint, x, y, z, spine_y, cage_a, cage_b, cage_y)

    texture = ndimage.gaussian_filter(rng.standard_normal(x.shape, dtype=np.float32), 0.03 / edge, truncate=2.5)
    texture /= texture.std()
    air_cells = a.lung_density + a.gravity * np.clip(y + 0.2, -0.1, 1) + a.grain * texture
    paint(lung, np.maximum(air_cells, -940))
    paint(np.maximum(vessel_distance(a, z, columns, rows, pixel), lung), 0.4 * a.blood)
    for angle, height, along, across, density in a.lesions:
        size = hat(z, height - 0.65 * along, height + 0.65 * along)
        if size > 0:
            place = cage_a * np.cos(angle) * 0.98, cage_y + cage_b * np.sin(angle) * 0.98
            lesion = ellipse(x, y, *place, along * size, across * size, angle + np.pi / 2) + 0.15 * across * texture
            paint(np.maximum(lesion, lung), density + 30 * texture)
    paint(airway - 0.012, MUSCLE)
    paint(airway, AIR)
    return hounsfield, lung


def paint_skeleton(paint, x, y, z, spine_y, cage_a, cage_b, cage_y):
    """Breastbone, vertebra with its arch and canal, and the shoulder blades in the upper half."""
    for bone in (ellipse(x, y, 0, cage_y - cage_b - 0.035, 0.1, 0.03), ellipse(x, y, 0, spine_y, 0.12, 0.095)):
        paint(bone, CORTEX)
        paint(bone + 0.014, MARROW)
    arch = ellipse(x, y, 0, spine_y + 0.125, 0.085, 0.07)
    for side in (-1, 1):
        arch = np.minimum(arch, capsule(x, y, (0.05 * side, spine_y + 0.12), (0.17 * side, spine_y + 0.15), 0.02))
        thickness = 0.016 * hat(z, -0.4, 0.45)
        if thickness > 0:
            ends = (side * (cage_a + 0.08), 0.1), (side * (0.6 * cage_a + 0.06), cage_y + 0.85 * cage_b + 0.04)
            paint(capsule(x, y, *ends, thickness), CORTEX)
    paint(np.minimum(arch, capsule(x, y, (0, spine_y + 0.15), (0, spine_y + 0.22), 0.018)), CORTEX)
    paint(ellipse(x, y, 0, spine_y + 0.12, 0.052, 0.042), MUSCLE)


def paint_table(paint, a, columns, rows):
    """A shell filled with foam, curved up at its sides so that it may enclose air under the back."""
    gap, curvature, thickness = a.table
    below = rows - (a.shift[1] + a.scale * a.body[1] + gap) + curvature * columns**2
    shell = np.maximum(-below, below - thickness * (1 - (columns / 0.8) ** 2))
    paint(shell, 0.0)
    paint(shell + 0.016, FOAM)


def vessel_distance(a, z: float, columns, rows, pixel: float):
    """Distance [H, W] to the vessels in a slab around z: correct within three pixels of a vessel, 1 / scale beyond."""
    distance = np.ones((rows.size, columns.size), np.float32)
    start, end, radius = a.vessels
    rise = end[:, 2] - start[:, 2]
    rise = np.where(np.abs(rise) < 1e-6, 1e-6, rise)
    bounds = np.sort(((z - 0.014 - start[:, 2]) / rise, (z + 0.014 - start[:, 2]) / rise), axis=0).clip(0, 1)
    cut = np.flatnonzero(bounds[1] > bounds[0])
    cosine, sine = a.scale * np.cos(a.tilt), a.scale * np.sin(a.tilt)
    turn = np.array(((cosine, sine), (-sine, cosine)))  # from the patient's to the image's coordinates
    ends = [(start + t[:, None] * (end - start))[cut, :2] @ turn + a.shift for t in bounds]
    for p, q, r in zip(ends[0].tolist(), ends[1].tolist(), (a.scale * radius[cut]).tolist(), strict=True):
        # Only a box around each piece, because there are dozens.
        margin = r + 3 * pixel
        left, right = np.searchsorted(columns[0], (min(p[0], q[0]) - margin, max(p[0], q[0]) + margin))
        top, bottom = np.searchsorted(rows[:, 0], (min(p[1], q[1]) - margin, max(p[1], q[1]) + margin))
        box = distance[top:bottom, left:right]
        np.minimum(box, capsule(columns[:, left:right], rows[top:bottom], p, q, r), out=box)
    return distance / a.scale


def scan(a, z: float, hounsfield, columns, rows, rng: np.random.Generator) -> np.ndarray:
    """The densities as a scanner (blur, noise, streaks) and a window of gray values show them: uint8 [H, W]."""
    image = ndimage.gaussian_filter(hounsfield, a.blur) if a.blur > 0.2 else hounsfield
    white = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + a.noise * (0.6 * white + 2.0 * ndimage.gaussian_filter(white, 0.9, truncate=2.5))
    # Streaks: rays away from the spine, and rows darkened and brightened by the shoulders.
    angle = np.arctan2(rows - 0.3, columns)
    rays = np.interp(angle, np.linspace(-np.pi, np.pi, 181), np.append(rng.standard_normal(180), 0)).astype(np.float32)
    image += a.streaks * rays / (1 + 6 * (columns**2 + (rows - 0.3) ** 2))
    stripes = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0.7, 0.1 * columns.size))
    image += a.shoulders * hat(z, -0.6, 0.4) * stripes / stripes.std() * np.exp(-4 * rows**2)
    image[columns**2 + rows**2 > a.circle**2] = -3000
    low, high = a.window
    return (255 * np.clip((image - low) / (high - low), 0, 1) ** a.gamma + a.offset).clip(0, 255).astype(np.uint8)


def ellipse(x, y, center_x, center_y, a, b, angle: float = 0.0):
    """Distance to an ellipse with half axes a, b, to first order: (r - 1) / |grad r| with r = |(u / a, v / b)|."""
    if min(a, b) <= 0:
        return np.ones_like(x)  # no ellipse: everything is outside
    # Python floats: NumPy's would turn the images into float64, at half the speed.
    u, v = x - float(center_x), y - float(center_y)
    if angle:
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        u, v = cosine * u + sine * v, cosine * v - sine * u
    u, v = u * float(1 / a), v * float(1 / b)
    r = np.sqrt(u * u + v * v) + 1e-6  # avoids 0 / 0 at the center, gives -1 there
    return (r - 1) * r / (np.sqrt((u * float(1 / a)) ** 2 + (v * float(1 / b)) ** 2) + 1e-6)


def capsule(x, y, start, end, radius: float):
    """Distance to a straight piece from start to end with round ends."""
    dx, dy = float(end[0] - start[0]), float(end[1] - start[1])
    u, v = x - float(start[0]), y - float(start[1])
    t = np.clip((u * dx + v * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.sqrt((u - t * dx) ** 2 + (v - t * dy) ** 2) - radius


def waves(theta, terms):
    """sum of amplitude * cos(k * theta + phase), which turns ellipses into outlines."""
    return sum(amplitude * np.cos(k * theta + phase) for k, amplitude, phase in terms)


def smooth_max(p, q, width: float):
    """max(p, q) with its crease rounded where |p - q| < width."""
    h = np.maximum(width - np.abs(p - q), 0)
    return np.maximum(p, q) + h * h / (4 * width)


def smooth_min(p, q, width: float):
    return -smooth_max(-p, -q, width)


def hat(z: float, top: float, bottom: float) -> float:
    """0 outside of top..bottom; inside, half an ellipse with 1 in the middle."""
    t = (z - top) / (bottom - top)
    return 2 * max(0.0, t * (1 - t)) ** 0.5
