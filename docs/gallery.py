"""The pictures of the gallery: a training on the built-in scene, and all that can be made of it.

`python docs/gallery.py` trains for `STEPS`, if runs/gallery is not there, and writes to docs/images/gallery. With
names it makes these pictures alone. Needs the extras mesh and viewer, and Chromium for those of a browser. `fruit` and
`horns` are films of runs of these names, which a GPU trained: they are made where there are such runs.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nerf_pl.cli import main as nerf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # for the browser
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
STRIPS = {  # frames side by side, of runs of these names
    "fruit": ["--path", "360", "--img_wh", "150", "200"],
    "horns": ["--path", "spiral", "--img_wh", "160", "120"],
    "can": ["--path", "360", "--img_wh", "135", "240"],
    "fern": ["--path", "spiral", "--img_wh", "160", "120"],
    "roof": ["--path", "interpolate", "--img_wh", "160", "90"],
}
KEYFRAMES = {
    "loop": True,
    "keyframes": [
        {"time": 0, "position": [3.6, 0, 1.2], "look_at": [0, 0, 0], "fov": 40},
        {"time": 1, "position": [1.0, -2.9, 0.9], "look_at": [0.3, -0.2, -0.2], "fov": 40},
        {"time": 2, "position": [-1.6, -1.6, 3], "look_at": [0, 0, 0], "fov": 40},
    ],
}
CLOSE = "document.querySelector('.mantine-Notification-closeButton')?.click()"  # what says that there is no GPU
MOST_BYTES = 4_000_000  # of all pictures of the pages


def main(names: Sequence[str]) -> None:
    """Make the pictures of these names."""
    if not (RUN / "checkpoints" / "last.ckpt").is_file():
        from nerf_pl.scenes.demo import make_demo

        nerf(["train", str(make_demo(SCENE)), "--exp_name", RUN.name, "--max_steps", str(STEPS)])
    IMAGES.mkdir(parents=True, exist_ok=True)
    films([name for name in FILMS if name in names])
    for name, make in OTHERS.items():
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
        write_moving(IMAGES / f"{name}.webp", [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])


def write_moving(path: Path, pictures: Iterable[np.ndarray], fps: float = FPS) -> None:
    """An animated WebP that repeats for ever."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    how = {"duration": round(1000 / fps), "loop": 0, "quality": 55, "method": 6}
    first.save(path, save_all=True, append_images=others, **how)


def strip(name: str) -> None:
    """Twenty frames of a film of the run of that name, in two rows, if there is such a run."""
    run = Path("runs") / name
    if not run.is_dir():
        print(f"no {run} here: docs/images/film_{name}.jpg stays as it is")
        return
    nerf(["render", str(run), *STRIPS[name], "--frames", "20", "--depth", "none", "--keep_frames"])
    (folder,) = run.glob("renders/*/frames")
    files = sorted(file for file in folder.glob("*.png") if "depth" not in file.stem)
    sheet(list(map(np.asarray, map(Image.open, files)))).save(IMAGES.parent / f"film_{name}.jpg", quality=85)


def sheet(pictures: Sequence[np.ndarray], columns: int = 10) -> Image.Image:
    """Pictures of one size side by side, in rows."""
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    return Image.fromarray(np.concatenate(rows, 0))


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
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        nerf(["export", str(RUN), "--web", str(file), "--resolution", "256"])
        photographed(file, (720, 640), 40).save(IMAGES / "page.webp", quality=85)


def result() -> None:
    """Two test views: rendered, ray-traced, depth."""
    nerf(["eval", str(RUN)])
    folder = RUN / "renders" / "test"
    names = [f"{view}{kind}" for view in ("000", "013") for kind in ("", "_target", "_depth")]
    row = [np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in names]
    Image.fromarray(np.concatenate(row, 1)).save(IMAGES.parent / "demo_result.png")


def report() -> None:
    """The beginning of the report, after `result`."""
    photographed(RUN / "report.html", (1100, 1060), 2).save(IMAGES.parent / "report.jpg", quality=80)


def viewer() -> None:
    """The page of `nerf view`, when its picture is sharp."""
    with socket.create_server(("127.0.0.1", 0)) as some:
        port = some.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "nerf_pl", "view", str(RUN), "--port", str(port)])
    try:
        time.sleep(30)
        page = photographed(f"http://127.0.0.1:{port}", (1240, 640), 60, CLOSE)
        page.save(IMAGES.parent / "viewer.jpg", quality=80)
    finally:
        server.terminate()
        server.wait()


def photographed(page: Path | str, size: tuple[int, int], seconds: float, code: str = "") -> Image.Image:
    """What a browser shows of a page so long after it was opened, a second after some code was run in it."""
    from browser import opened

    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with folder as name, opened(page, Path(name), size=size) as tab:
        time.sleep(seconds)
        tab.evaluate(f"{code}; 0")
        time.sleep(1)
        return Image.fromarray(tab.screenshot())


OTHERS = {"mesh": mesh, "page": page, "result": result, "report": report, "viewer": viewer}
OTHERS |= {name: partial(strip, name) for name in STRIPS}

if __name__ == "__main__":
    main(sys.argv[1:] or [*FILMS, *OTHERS])
