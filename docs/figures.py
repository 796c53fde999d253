"""The figures of the pages: `make figures`. Makes the built-in scene if it is not there."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

IMAGES = Path(__file__).resolve().parent / "images"
SMOOTH = 2  # drawn this much larger, then reduced
INK, GREY = (60, 60, 60), (150, 150, 150)
RED, GREEN, BLUE = (196, 62, 32), (58, 140, 70), (40, 90, 190)


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
    """The axes of a camera of nerf_pl, of one of COLMAP, and of the world."""
    sheet = Image.new("RGB", (SMOOTH * 1080, SMOOTH * 320), "white")
    draw = ImageDraw.Draw(sheet)
    drawn = (
        ("camera in nerf_pl, OpenGL", {"x right": (1, 0), "y up": (0, -1), "z back": (-0.6, 0.55)}),
        ("camera of COLMAP, OpenCV", {"x right": (1, 0), "y down": (0, 1), "z ahead": (0.6, -0.55)}),
        ("world", {"x": (0.85, 0.35), "y": (0.75, -0.45), "z up": (0, -1)}),
    )
    for i, (title, arrows) in enumerate(drawn):
        middle = np.array([180 + 360 * i, 185]) * SMOOTH
        draw.text((SMOOTH * (50 + 360 * i), SMOOTH * 14), title, fill=INK, font_size=20 * SMOOTH)
        for (name, way), colour in zip(arrows.items(), (RED, GREEN, BLUE), strict=True):
            end = middle + np.array(way) * 95 * SMOOTH
            draw.line([*middle, *end], fill=colour, width=4 * SMOOTH)
            draw.ellipse([*(end - 6 * SMOOTH), *(end + 6 * SMOOTH)], fill=colour)
            draw.text((*(end + np.array([8, -24]) * SMOOTH),), name, fill=colour, font_size=17 * SMOOTH)
    return sheet.resize((1080, 320), Image.Resampling.LANCZOS)


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
