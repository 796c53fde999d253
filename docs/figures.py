"""The figures of the pages: `make figures`. Makes the built-in scene if it is not there."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

IMAGES = Path(__file__).resolve().parent / "images"
SMOOTH = 2  # drawn this much larger, then reduced
INK, GREY = (60, 60, 60), (150, 150, 150)
RED, GREEN, BLUE = (196, 62, 32), (58, 140, 70), (40, 90, 190)
Place = tuple[float, float]
Colour = tuple[int, int, int]


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    captures().save(IMAGES / "captures.png")
    axes().save(IMAGES / "axes.png")
    demo(Path("data/demo")).save(IMAGES / "demo.jpg", quality=92)


def captures() -> Image.Image:
    """Cameras from above: all around at two heights, along one side, and on one spot."""
    from nerf_pl.scenes.prepare.top_view import top_view

    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    points = np.random.default_rng(0).normal(size=(400, 3)) * 0.25
    around = np.stack([np.cos(turn), np.sin(turn)], 1) * np.where(np.arange(24) % 2, 2.0, 2.5)[:, None]
    side = np.stack([np.linspace(-1.5, 1.5, 12), np.full(12, -2.2)], 1)
    kinds = {
        "good: all around, at two heights": (around, -around),
        "enough for views from this side": (side, -side * [0.6, 1]),
        "bad: turning on the spot": (0.05 * around[::2], around[::2]),
    }
    sheet = Image.new("RGB", (3 * 420, 460), "white")
    for i, (title, (places, ahead)) in enumerate(kinds.items()):
        c2w = np.zeros((len(places), 3, 4))
        c2w[:, :2, 3] = places
        c2w[:, :2, 2] = -ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
        sheet.paste(Image.fromarray(top_view(c2w, points, size=400)), (10 + 420 * i, 50))
        ImageDraw.Draw(sheet).text((20 + 420 * i, 14), title, fill=INK, font_size=20)
    return sheet


def axes() -> Image.Image:
    """The axes of cameras, of pixels and of the world; and how a file's coordinates become those of a training."""
    sheet = Image.new("RGB", (SMOOTH * 1080, SMOOTH * 660), "white")
    draw = ImageDraw.Draw(sheet)
    back, ahead = (-0.62, 0.55), (0.62, -0.55)
    cameras = (
        ("camera in nerf_pl, OpenGL", {"x right": (1, 0), "y up": (0, -1), "z back": back}),
        ("camera of COLMAP, OpenCV", {"x right": (1, 0), "y down": (0, 1), "z ahead": ahead}),
        ("camera of poses_bounds.npy, LLFF", {"x down": (0, 1), "y right": (1, 0), "z back": back}),
    )
    for i, (title, arrows) in enumerate(cameras):
        text(draw, (30 + 360 * i, 14), title, size=19)
        tripod(draw, (160 + 360 * i, 175), arrows)
    pixels(draw, (30, 340))
    similarity(draw, (390, 340))
    return sheet.resize((1080, 660), Image.Resampling.LANCZOS)


def pixels(draw: ImageDraw.ImageDraw, corner: Place) -> None:
    """A picture of 6 x 4 pixels with its two axes."""
    text(draw, corner, "pixels", size=19)
    left, top, side = corner[0] + 40, corner[1] + 70, 36
    for i in range(7):
        line(draw, (left + side * i, top), (left + side * i, top + side * 4), GREY, 1)
    for i in range(5):
        line(draw, (left, top + side * i), (left + side * 6, top + side * i), GREY, 1)
    arrow(draw, (left, top), (left + 90, top), RED, "")
    text(draw, (left + 26, top - 24), "u right", size=16, colour=RED)
    arrow(draw, (left, top), (left, top + 90), GREEN, "")
    text(draw, (left - 40, top + 92), "v down", size=16, colour=GREEN)
    dot(draw, (left + side * 0.5, top + side * 0.5), INK)
    text(draw, (left + side * 0.5 + 6, top + side * 0.5 - 2), "(0.5, 0.5)", size=14)
    dot(draw, (left + side * 3, top + side * 2), BLUE)
    text(draw, (left + side * 3 + 6, top + side * 2 - 2), "(cx, cy)", size=14, colour=BLUE)
    text(draw, (left - 10, top + side * 4 + 10), "u from the left border, v from the upper one;", size=14)
    text(draw, (left - 10, top + side * 4 + 28), "a pixel's centre is at halves", size=14)


def similarity(draw: ImageDraw.ImageDraw, corner: Place) -> None:
    """The frame of a scene's own file, the world of a training, and what leads from one to the other."""
    left, top = corner
    text(draw, corner, "from the scene's own file to the world of a training, and back", size=19)
    tripod(draw, (left + 70, top + 190), {"x": (0.9, 0.25), "y": (0.35, -0.9), "z": (-0.7, -0.5)}, length=50)
    text(draw, (left, top + 250), "the file: any axes,", size=14)
    text(draw, (left, top + 268), "any unit, any origin", size=14)
    arrow(draw, (left + 150, top + 130), (left + 400, top + 130), INK, "")
    text(draw, (left + 160, top + 84), "turned, moved, scaled", size=14)
    text(draw, (left + 160, top + 102), "file_to_world, as nerf info says", size=14)
    arrow(draw, (left + 400, top + 200), (left + 150, top + 200), INK, "")
    text(draw, (left + 160, top + 212), "back: meshes, points, cameras", size=14)
    text(draw, (left + 160, top + 230), "of films, nerf export --cameras", size=14)
    tripod(draw, (left + 510, top + 180), {"x": (0.85, 0.35), "y": (0.75, -0.45), "z up": (0, -1)}, length=75)
    draw.ellipse([SMOOTH * n for n in (left + 440, top + 150, left + 580, top + 210)], outline=GREY, width=SMOOTH)
    for k in range(8):  # cameras that look at the origin
        turn = np.pi * k / 4
        dot(draw, (left + 510 + 70 * np.cos(turn), top + 180 + 30 * np.sin(turn)), GREY)
    text(draw, (left + 430, top + 250), "the world: the middle of what the", size=14)
    text(draw, (left + 430, top + 268), "cameras look at is the origin; they", size=14)
    text(draw, (left + 430, top + 286), "are about 1 away (4 in a box)", size=14)


def tripod(draw: ImageDraw.ImageDraw, middle: Place, arrows: Mapping[str, Place], length: float = 90) -> None:
    """Three axes, x red, y green, z blue."""
    for (name, way), colour in zip(arrows.items(), (RED, GREEN, BLUE), strict=True):
        arrow(draw, middle, (middle[0] + way[0] * length, middle[1] + way[1] * length), colour, name)


def arrow(draw: ImageDraw.ImageDraw, start: Place, end: Place, colour: Colour, name: str) -> None:
    """A line with a head, and its name beyond that."""
    way = np.subtract(end, start) / np.linalg.norm(np.subtract(end, start))
    aside = np.array([-way[1], way[0]])
    line(draw, start, tuple(end - 8 * way), colour, 3)
    corners = (np.array(end), end - 13 * way + 6 * aside, end - 13 * way - 6 * aside)
    draw.polygon([tuple(SMOOTH * corner) for corner in corners], fill=colour)
    if name:
        beyond = -24 if way[0] < 0 else 2
        text(draw, (end[0] + 10 * way[0] + beyond, end[1] + 16 * way[1] - 9), name, 16, colour)


def line(draw: ImageDraw.ImageDraw, start: Place, end: Place, colour: Colour, width: int) -> None:
    draw.line([SMOOTH * n for n in (*start, *end)], fill=colour, width=width * SMOOTH)


def dot(draw: ImageDraw.ImageDraw, place: Place, colour: Colour) -> None:
    x, y = place
    draw.ellipse([SMOOTH * n for n in (x - 4, y - 4, x + 4, y + 4)], fill=colour)


def text(draw: ImageDraw.ImageDraw, place: Place, told: str, size: int, colour: Colour = INK) -> None:
    draw.text((SMOOTH * place[0], SMOOTH * place[1]), told, fill=colour, font_size=size * SMOOTH)


def demo(root: Path) -> Image.Image:
    """Four test views of the built-in scene."""
    from nerf_pl.scenes import Request, load_scene
    from nerf_pl.scenes.demo import make_demo

    scene = load_scene(make_demo(root), Request("test"))
    chosen = np.linspace(0, len(scene) - 1, 4).round().astype(int)
    views = [(scene.image(int(i)).numpy() * 255).round().astype(np.uint8) for i in chosen]
    row = Image.fromarray(np.concatenate(views, 1))
    return row.resize((1000, round(1000 * row.height / row.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
