"""The pictures of the gallery: a training on the built-in scene, and all that can be made of it.

`python docs/gallery.py` trains for `STEPS`, if runs/gallery is not there, and writes to docs/images/gallery. With
names it makes these pictures alone. Needs the extra mesh; the page is photographed if there is a Chromium.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nerf_pl.cli import main as nerf

IMAGES = Path(__file__).resolve().parent / "images" / "gallery"
SCENE, RUN = Path("data/demo"), Path("runs/gallery")
STEPS = 8000
SIZE, FRAMES, FPS = 200, 24, 10
FILMS = {  # what `nerf render` is asked for, by the name of the picture
    "360": ["--path", "360"],
    "elevation": ["--path", "360", "--elevation", "65", "--radius", "3.2"],
    "interpolate": ["--path", "interpolate", "--every", "12", "--loop"],
    "test": ["--path", "test"],
    "keyframes": ["--path", "keyframes.json"],
    "crop": ["--path", "360", "--crop", "-1.5", "-1.5", "-1.5", "1.5", "1.5", "0.05"],
}
KEYFRAMES = {
    "loop": True,
    "keyframes": [
        {"time": 0, "position": [3.6, 0, 1.2], "look_at": [0, 0, 0], "fov": 40},
        {"time": 1, "position": [1.0, -2.9, 0.9], "look_at": [0.3, -0.2, -0.2], "fov": 40},
        {"time": 2, "position": [-1.6, -1.6, 3], "look_at": [0, 0, 0], "fov": 40},
    ],
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 4_000_000  # of all pictures of the pages


def main(names: Sequence[str]) -> None:
    """Make the pictures of these names."""
    if not (RUN / "checkpoints" / "last.ckpt").is_file():
        from nerf_pl.scenes.demo import make_demo

        nerf(["train", str(make_demo(SCENE)), "--exp_name", RUN.name, "--max_steps", str(STEPS)])
    IMAGES.mkdir(parents=True, exist_ok=True)
    films([name for name in FILMS if name in names])
    for name, make in (("mesh", mesh), ("page", page)):
        if name in names:
            make()
    size = sum(file.stat().st_size for file in IMAGES.parent.rglob("*") if file.is_file())
    assert size < MOST_BYTES, f"{IMAGES.parent} has {size} bytes"


def films(names: Sequence[str]) -> None:
    """A moving picture for each path but the spiral, which is for photos that look one way; the first has depth."""
    Path("keyframes.json").write_text(json.dumps(KEYFRAMES))
    try:
        for name in names:
            words = FILMS[name]
            depth = "side" if name == "360" else "none"
            picture_of_film(name, [*words, "--img_wh", str(SIZE), str(SIZE), "--depth", depth])
    finally:
        Path("keyframes.json").unlink()


def picture_of_film(name: str, words: Sequence[str]) -> None:
    """Film the run, and keep the film as an animated picture."""
    import av

    frames = [] if "test" in words else ["--frames", str(FRAMES)]
    shutil.rmtree(RUN / "renders", ignore_errors=True)
    nerf(["render", str(RUN), *words, *frames, "--fps", str(FPS)])
    (film,) = [file for file in RUN.glob("renders/**/*.mp4") if not file.stem.endswith("_depth")]
    with av.open(str(film)) as opened:
        pictures = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    write_moving(IMAGES / f"{name}.webp", pictures)


def write_moving(path: Path, pictures: Iterable[np.ndarray], fps: float = FPS) -> None:
    """An animated WebP that repeats for ever."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    how = {"duration": round(1000 / fps), "loop": 0, "quality": 55, "method": 6}
    first.save(path, save_all=True, append_images=others, **how)


def mesh() -> None:
    """The mesh from all around, drawn without the model."""
    from nerf_pl.report.turn import turn_of

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mesh.ply"
        nerf(["mesh", str(RUN), "--resolution", "192", "--out", str(file)])
        turn = turn_of(file, np.array([0.0, 0.0, 1.0]))
    assert turn is not None
    write_moving(IMAGES / "mesh.webp", turn.pictures, fps=4)


def page() -> None:
    """The page of `nerf export --web`, as a browser shows it."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print("no Chromium here: the picture of the page stays as it is")
        return
    with tempfile.TemporaryDirectory() as folder:
        file, shot = Path(folder) / "page.html", Path(folder) / "page.png"
        nerf(["export", str(RUN), "--web", str(file), "--resolution", "256"])
        words = ["--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        words += [f"--user-data-dir={folder}/profile", "--window-size=640,480", "--virtual-time-budget=20000"]
        command = [browser, *words, f"--screenshot={shot}", file.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        with Image.open(shot) as picture:
            picture.convert("RGB").save(IMAGES / "page.webp", quality=80)


if __name__ == "__main__":
    main(sys.argv[1:] or [*FILMS, "mesh", "page"])
