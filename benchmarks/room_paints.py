"""What covers the things in the room of room.py: textures of many scales, computed where a ray meets them.

A paint gives a share and a shade at a point: the colour there is the mix of two colours by the share, times the shade.
Detail finer than a pixel fades out, so that what is far away does not flicker.

What Numba keeps of a function is not made anew when a function in another file changes, which it calls: after a change
here, remove benchmarks/__pycache__.
"""

import math

from nerf_pl.ops.numba_jit import compiled

PLASTER, WOOD, PLANKS, CLOTH, WALLPAPER, SPECKLE, PICTURE, CHECK, LEAF, BOOK, RUG, WINDOW, LAMP = range(13)


@compiled
def scatter(x, y, z):
    """A number in [0, 1) that looks random, of three integers."""
    h = x * 374761393 + y * 668265263 + z * 1442695041
    h = ((h ^ (h >> 13)) & 0xFFFFFFFF) * 1274126177
    h = ((h ^ (h >> 16)) & 0xFFFFFFFF) * 2246822519
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@compiled
def noise(x, y, z):
    """Smooth noise in [-1, 1] with one random value for each unit cube's corner."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    x, y, z = x - i, y - j, z - k
    x, y, z = x * x * (3 - 2 * x), y * y * (3 - 2 * y), z * z * (3 - 2 * z)
    a = scatter(i, j, k) * (1 - x) + scatter(i + 1, j, k) * x
    b = scatter(i, j + 1, k) * (1 - x) + scatter(i + 1, j + 1, k) * x
    c = scatter(i, j, k + 1) * (1 - x) + scatter(i + 1, j, k + 1) * x
    d = scatter(i, j + 1, k + 1) * (1 - x) + scatter(i + 1, j + 1, k + 1) * x
    return 2 * ((a * (1 - y) + b * y) * (1 - z) + (c * (1 - y) + d * y) * z) - 1


@compiled
def visible(cells, width):
    """How much is left of detail with so many cells a metre, where a pixel is so wide."""
    return min(max(2 - 2 * cells * width, 0.0), 1.0)


@compiled
def layers(x, y, z, cells, count, width):
    """Noise of several scales, each twice as fine and 0.65 as strong as the last. cells: a metre, of the coarsest."""
    total, strength = 0.0, 1.0
    for _ in range(count):
        left = visible(cells, width)
        if left <= 0:
            break
        total += strength * left * noise(x * cells, y * cells, z * cells)
        cells, strength = 2 * cells, 0.65 * strength
    return total


@compiled
def wave(x, cells, width):
    """A sine between 0 and 1; its mean where it is too fine."""
    return 0.5 + 0.5 * visible(2 * cells, width) * math.sin(2 * math.pi * cells * x)


@compiled
def edge(x, width):
    """0 below 0, 1 above, as soft as a pixel is wide."""
    return min(max(x / max(width, 1e-5) + 0.5, 0.0), 1.0)


@compiled
def letters(u, v, height, seed, width):
    """How dark lines of writing of that height are."""
    line = math.floor(v / height)
    along, across = u / (0.6 * height), v / height - line
    mark = math.floor(along)
    if across > 0.62 or scatter(mark // 5, line, seed) > 0.85 or scatter(mark, line, seed + 1) > 0.86:
        return 0.0
    cell = scatter(math.floor(3 * along), math.floor(5 * across), seed + 7 * mark + 131 * line)
    left = visible(3 / height, width)
    return left * (1.0 if cell > 0.4 else 0.0) + (1 - left) * 0.5


@compiled
def wood(x, y, z, seed, width):
    """Rings, and fibres along x."""
    bend = 0.35 * noise(1.3 * x + seed, 5 * y, 5 * z) + 0.05 * noise(9 * x + seed, 30 * y, 30 * z)
    rings = wave(bend + y + 0.6 * z, 14.0, width) ** 2
    fibres = layers(0.03 * x, y, z + seed, 160.0, 3, width)
    return min(max(0.65 * rings + 0.22 * fibres, 0.0), 1.0), 1 + 0.05 * layers(x, y, z, 3.0, 2, width)


@compiled
def planks(u, v, seed, width):
    """A floor of boards, 9 cm wide and 70 cm long."""
    row = math.floor(v / 0.09)
    along = u / 0.7 + 0.37 * row
    board = math.floor(along)
    share, shade = wood(u, v, 0.3 * row + 0.17 * board, seed, width)
    gap = min(abs(v / 0.09 - row - 0.5) * -0.09 + 0.045, (0.5 - abs(along - board - 0.5)) * 0.7)
    dark = 0.4 + 0.6 * edge(gap - 0.001, max(width, 0.0007))
    return share, shade * dark * (0.75 + 0.5 * scatter(row, board, seed))


@compiled
def cloth(u, v, seed, width):
    """Woven threads of 1.6 mm, and some broad bands."""
    threads = 0.5 * wave(u, 310.0, width) + 0.5 * wave(v, 310.0, width)
    bands = edge(0.3 - abs(math.sin(9 * u + seed)), width * 9) * 0.6 + edge(0.2 - abs(math.sin(9 * v)), width * 9) * 0.4
    return bands, (0.75 + 0.4 * threads) * (1 + 0.1 * layers(u, v, 0.1 * seed, 12.0, 5, width))


@compiled
def wallpaper(u, v, seed, width):
    """Stripes, and a flower in each field."""
    i, j = math.floor(u / 0.16), math.floor(v / 0.2)
    x, y = u - 0.16 * (i + 0.5), v - 0.2 * (j + 0.5)
    angle, radius = math.atan2(y, x), math.hypot(x, y)
    flower = edge(0.035 + 0.018 * math.cos(5 * angle + 2 * math.pi * scatter(i, j, seed)) - radius, width)
    stripes = 0.35 * edge(0.012 - abs(abs(x) - 0.065), width)
    return min(0.8 * flower + stripes, 1.0), 1 + 0.05 * layers(u, v, seed, 5.0, 7, width)


@compiled
def speckle(x, y, z, seed, width):
    """Grains of many sizes, as of stone or soil."""
    coarse = layers(x, y, z + seed, 60.0, 2, width)
    fine = layers(x + 9, y, z + seed, 260.0, 3, width)
    return edge(coarse + 0.5 * fine - 0.35, 0.25), 1 + 0.25 * fine


@compiled
def picture(u, v, seed, width):
    """Something abstract: bent bands, brush strokes, and a signature of sorts."""
    a = layers(u, v, 1.7 * seed, 3.0, 3, width)
    b = layers(u + a, v - 0.5 * a, 3.1 * seed, 6.0, 6, width)
    strokes = layers(u + 0.1 * b, 0.12 * v, seed, 90.0, 4, width)
    return wave(0.5 * a + 0.4 * b, 2.5, 0.0), max(0.35 + 0.65 * edge(b + 0.3, 0.5) + 0.22 * strokes, 0.05)


@compiled
def rug(u, v, seed, width):
    """Nested frames with zigzags, tufted."""
    ring = max(abs(u) * 0.8, abs(v))
    turn = ring + 0.02 * abs(((u - v) / 0.08) % 2 - 1)
    frames = edge(math.sin(55 * turn), 55 * width)
    dots = edge(math.sin(70 * u) * math.sin(70 * v) - 0.3, 70 * width) * edge(math.sin(13 * ring), 13 * width)
    tufts = layers(u, v, 0.0, 220.0, 3, width) + 0.6 * layers(u, v, 3.0, 9.0, 3, width)
    return min(0.75 * frames + 0.5 * dots, 1.0), 1 + 0.28 * tufts


@compiled
def check(u, v, width):
    """Squares of 3 cm."""
    a, b = math.sin(math.pi * u / 0.03), math.sin(math.pi * v / 0.03)
    return edge(a * b, 100 * width), 1 + 0.14 * layers(u, v, 0.0, 150.0, 4, width)


@compiled
def leaf(x, y, z, seed, width):
    """A vein along x, and others aslant."""
    vein = edge(0.0009 - abs(y), width) + 0.5 * edge(0.25 - abs(math.sin(900 * (abs(y) - 0.7 * x))), 900 * width)
    return min(0.8 * vein, 1.0), (0.6 + 0.8 * scatter(seed, 3, 5)) * (
        1 + 0.15 * layers(x, y, z + seed, 200.0, 3, width)
    )


@compiled
def book(u, v, seed, width):
    """A spine with bands, and a title written upwards."""
    bands = edge(0.004 - abs(abs(v) - 0.06 - 0.03 * scatter(seed, 1, 1)), width)
    title = letters(v + 0.5, u + 0.5, 0.009 + 0.008 * scatter(seed, 2, 1), seed, width) if abs(v) < 0.055 else 0.0
    return min(bands + 0.9 * title, 1.0), 1 + 0.1 * layers(u, v, seed, 30.0, 5, width)


@compiled
def paint(kind, x, y, z, u, v, seed, width):
    """Share and shade at a point of a thing. x, y, z: in its own frame, in metres. u, v: on its surface. width: of a
    pixel there."""
    if kind == WOOD:
        return wood(x, y, z, seed, width)
    if kind == PLANKS:
        return planks(u, v, seed, width)
    if kind == CLOTH:
        return cloth(u, v, seed, width)
    if kind == WALLPAPER:
        return wallpaper(u, v, seed, width)
    if kind == SPECKLE:
        return speckle(x, y, z, seed, width)
    if kind == PICTURE:
        return picture(u, v, seed, width)
    if kind == CHECK:
        return check(u, v, width)
    if kind == LEAF:
        return leaf(x, y, z, seed, width)
    if kind == BOOK:
        return book(u, v, seed, width)
    if kind == RUG:
        return rug(u, v, seed, width)
    return 0.0, 1 + 0.05 * layers(x, y, z + seed, 2.0, 9, width)  # PLASTER


@compiled
def outside(x, y, z):
    """The light from a direction beyond the windows: sky with clouds, hills, trees."""
    rise = z / max(y, 0.05)
    side = x / max(y, 0.05)
    hills = 0.05 + 0.06 * noise(2 * side, 0.5, 0.5) + 0.02 * noise(9 * side, 1.5, 0.5)
    trees = hills - 0.12 + 0.09 * layers(side, 0.0, 0.0, 6.0, 4, 0.0)
    if rise < trees:
        shade = 0.8 + 0.5 * layers(side, rise, 0.5, 25.0, 4, 0.002)
        return 0.25 * shade, 0.42 * shade, 0.13 * shade
    if rise < hills:
        return 0.55, 0.75, 0.6
    cloud = min(max(0.5 + 0.9 * layers(side, 2 * rise, 7.5, 1.6, 5, 0.002), 0.0), 1.0)
    return 0.7 + 2.1 * cloud, 1.1 + 1.7 * cloud, 2.0 + 0.8 * cloud
