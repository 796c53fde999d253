"""Films: what comes out, that an interrupted one goes on, and which path a scene gets."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CPU, nerf, refused

from nerf_pl import media
from nerf_pl.cameras import Cameras, View
from nerf_pl.checkpoints import models, open_run
from nerf_pl.errors import UserError
from nerf_pl.films import film as films
from nerf_pl.films.film import Film, Take, film, film_cameras, tell, views_of
from nerf_pl.films.options import FilmOptions
from nerf_pl.films.paths import look_at, turntable
from nerf_pl.media import write_films
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.scenes import Scene
from nerf_pl.scenes.normalize import normalize_poses
from nerf_pl.types import Pixels, Rays

K = torch.tensor([[20.0, 0, 8], [0, 20, 6], [0, 0, 1]])


def path_of(n: int) -> Scene:
    cameras = turntable(n, Cameras(torch.eye(3, 4)[None], K[None], 16, 12))
    return Scene(cameras, torch.zeros(0, 12, 16, 3, dtype=torch.uint8), 2.0, 6.0, torch.tensor([[-1.0] * 3, [1.0] * 3]))


class Grey(torch.nn.Module):
    """A model whose n-th view is grey 20 (n + 1), at depth 3. done: the views that it has rendered, known by their
    place on a turn of so many. stop: how many views until Ctrl-C."""

    rays_per_pixel = 1

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))
        self.path: list[View] = []
        self.done: list[int] = []
        self.stop: int | None = None

    def render(self, rays: Rays, background: object) -> Pixels:
        if len(self.done) == self.stop:
            raise KeyboardInterrupt
        centre = rays.origins[0]
        i = min(range(len(self.path)), key=lambda i: float((self.path[i].camera.c2w[0, :, 3] - centre).norm()))
        self.done.append(i)
        n = len(rays)
        return Pixels(torch.full((n, 3), 20 * (i + 1) / 255), self.depth(i, n), torch.ones(n), torch.zeros(0))

    def depth(self, i: int, n: int) -> torch.Tensor:
        return torch.full((n,), 3.0)


@pytest.fixture
def model() -> Grey:
    return Grey()


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(film.streams.video[0])]


def shoot(model: Grey, path: Scene, out: Path, stop: int | None = None, stamp: str = "a", **options) -> list[Film]:
    """Film the cameras of a path. stop: Ctrl-C comes after so many frames."""
    model.path, model.done, model.stop = views_of(path, path.cameras), [], stop
    return film(model, Take(model.path, 30, stamp, **options), out, 1024)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_film_has_its_frames_and_nothing_else_is_left(tmp_path, model):
    written = shoot(model, path_of(5), tmp_path / "a" / "turn")
    assert model.done == [0, 1, 2, 3, 4]
    assert files(tmp_path) == ["a/turn.gif", "a/turn.mp4", "a/turn_depth.mp4"]
    assert [film.file.name for film in written] == ["turn.gif", "turn.mp4", "turn_depth.mp4"]
    frames = decoded(tmp_path / "a" / "turn.mp4")
    assert [frame.shape for frame in frames] == [(12, 16, 3)] * 5
    assert [frame.mean() for frame in frames] == pytest.approx([20, 40, 60, 80, 100], abs=3)
    assert len(decoded(tmp_path / "a" / "turn_depth.mp4")) == 5


def test_views_of_several_sizes_make_one_film(tmp_path):
    sizes = [(12, 16), (32, 12)]
    for i, size in enumerate(sizes):
        media.write_png(tmp_path / f"{i}.png", np.full((*size, 3), 255, np.uint8))
    write_films(tmp_path / "all", [[tmp_path / "0.png", tmp_path / "1.png"]], 10)
    first, second = decoded(tmp_path / "all.mp4")
    assert first.shape == second.shape == (12, 16, 3)
    assert first.mean() > 250
    assert 0.15 * 255 < second.mean() < 0.45 * 255  # 4.5 of 16 columns


def test_depth_beside_the_colours_or_none_at_all(tmp_path, model):
    path = path_of(2)
    side = shoot(model, path, tmp_path / "side", depth="side")
    assert [film.file.name for film in side] == ["side.gif", "side.mp4"]
    frame = decoded(tmp_path / "side.mp4")[1]
    assert frame.shape == (12, 32, 3)
    colour = media.depth_colours(np.full((1, 1), 3.0, np.float32), 2, 6)[0, 0]
    np.testing.assert_allclose(frame[:, 18:].mean((0, 1)), colour, atol=6)
    np.testing.assert_allclose(frame[:, :14].mean(), 40, atol=3)
    none = shoot(model, path, tmp_path / "none", depth="none")
    assert [film.file.name for film in none] == ["none.gif", "none.mp4"]


def test_the_line_about_a_film_has_the_size_of_each_file(tmp_path, model, capsys):
    """As written: side by side is twice as wide, a GIF is smaller, and an MP4 has even sizes."""
    path = replace(path_of(2), cameras=path_of(2).cameras.resized(500, 375))
    take = Take(views_of(path, path.cameras), 30, "a", "side")
    for replaces in ("", "replaces "):
        model.path, model.done = list(take.views), []
        tell(film(model, take, tmp_path / "side", 1 << 20), take, "a turn, ")
        gif, mp4 = (re.escape(f"{replaces}{tmp_path}/side.{kind}") for kind in ("gif", "mp4"))
        told = rf"a turn, 2 frames: {gif} \(480x180, \d+\.\d kB\), {mp4} \(1000x376, \d+\.\d kB\)"
        assert re.fullmatch(told, capsys.readouterr().out.strip())


@pytest.mark.parametrize(("size", "shown"), [(0, "0.0 kB"), (1234, "1.2 kB"), (999_949, "999.9 kB"), (1e6, "1.0 MB")])
def test_a_small_film_is_measured_in_kilobytes(tmp_path, monkeypatch, capsys, size, shown):
    file = tmp_path / "turn.mp4"
    file.write_bytes(bytes(int(size)))
    monkeypatch.setattr(media, "film_size", lambda path: (16, 12))
    tell([Film(file, False)], Take([], 30, "a"))
    assert capsys.readouterr().out == f"0 frames: {file} (16x12, {shown})\n"


@pytest.mark.parametrize("depth", ["separate", "none"])
def test_an_interrupted_film_goes_on(tmp_path, model, capsys, depth):
    out = tmp_path / "turn"
    with pytest.raises(KeyboardInterrupt, match=r"3 of 5 frames are in .*: the same command goes on"):
        shoot(model, path_of(5), out, stop=3, depth=depth)
    assert not out.with_suffix(".mp4").exists()
    assert len(list((out / "frames").glob("0000[0-4].png"))) == 3
    shoot(model, path_of(5), out, depth=depth)
    assert model.done == [3, 4]
    assert "resuming at frame 4 of 5" in capsys.readouterr().out
    assert [frame.mean() for frame in decoded(tmp_path / "turn.mp4")] == pytest.approx([20, 40, 60, 80, 100], abs=3)
    assert not out.exists()


def test_a_frame_without_its_depth_is_rendered_again(tmp_path, model):
    out = tmp_path / "turn"
    with pytest.raises(KeyboardInterrupt):
        shoot(model, path_of(4), out, stop=3)
    (out / "frames" / "00002_depth.png").unlink()
    shoot(model, path_of(4), out)
    assert model.done == [2, 3]


@pytest.mark.parametrize("change", ["size", "cameras", "weights", "depth", "depth_files", "damaged"])
def test_frames_of_another_film_are_not_taken(tmp_path, model, change):
    out, path, options = tmp_path / "turn", path_of(4), {"stamp": "a", "depth": "separate"}
    with pytest.raises(KeyboardInterrupt):
        shoot(model, path, out, stop=2, **options)
    if change == "size":
        path = replace(path, cameras=path.cameras.resized(32, 24))
    elif change == "cameras":
        path = replace(path, cameras=turntable(4, path.cameras, radius=3.9))
    elif change == "damaged":
        manifest = out / "frames" / "film.json"
        manifest.write_text(manifest.read_text()[:30])
    else:
        kept = media.DepthFiles(tmp_path / "depth", False)
        options |= {"weights": {"stamp": "b"}, "depth": {"depth": "none"}, "depth_files": {"depth_files": kept}}[change]
    shoot(model, path, out, **options)
    assert model.done == [0, 1, 2, 3]
    assert decoded(tmp_path / "turn.mp4")[0].shape[1] == path.cameras.width


def test_an_encoder_that_fails_leaves_the_frames(tmp_path, model, monkeypatch):
    out = tmp_path / "turn"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "av", None)
        with pytest.raises(UserError, match="pip install av"):
            shoot(model, path_of(3), out)
    shoot(model, path_of(3), out, keep_frames=True)
    assert model.done == []
    assert len(list((out / "frames").glob("*_depth.png"))) == 3


def test_the_colours_of_depth_are_fixed_for_a_film(tmp_path, monkeypatch):
    """Depth grows from frame to frame; colours that followed it would stay the same. An interrupted film keeps them."""
    model = Grey()
    monkeypatch.setattr(model, "depth", lambda i, n: torch.linspace(1, 3, n) * (i + 1))
    path = replace(path_of(3), near=0.05, far=100.0)
    with pytest.raises(KeyboardInterrupt):
        shoot(model, path, tmp_path / "turn", stop=1)
    shoot(model, path, tmp_path / "turn", keep_frames=True)
    shown = [np.asarray(Image.open(tmp_path / f"turn/frames/0000{i}_depth.png"), float).mean((1, 2)) for i in range(3)]
    assert shown[0][0] - shown[0][-1] > 100  # all colours
    low, high = np.percentile(np.linspace(1, 3, 192), [2, 98])
    expected = media.depth_colours(np.linspace(3, 9, 192, dtype=np.float32).reshape(12, 16), low, high)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "turn/frames/00002_depth.png")), expected)


def scene_of(positions: torch.Tensor, **options) -> Scene:
    c2w = look_at(positions, options.get("target", (0.0, 0.0, 0.0)))
    scene = path_of(1)
    return replace(scene, cameras=Cameras(c2w, K.expand(len(c2w), 3, 3), 16, 12), **options)


def ring(arc: float, n: int = 24) -> torch.Tensor:
    a = torch.arange(n) / n * arc
    return torch.stack([2 * a.cos(), 2 * a.sin(), torch.full((n,), 0.5)], -1)


ASKED = FilmOptions()


def test_the_path_that_a_scene_gets():
    around, aside = scene_of(ring(6.28), unbounded=True), scene_of(ring(1.5), unbounded=True)
    assert film_cameras(ASKED, around)[0] == "360"
    assert film_cameras(ASKED, aside)[0] == "spiral"
    assert film_cameras(ASKED, scene_of(ring(3.14), unbounded=True))[0] == "360"
    walk = look_at(ring(6.28), (0.0, 0.0, 0.0))
    walk[::2, :, [0, 2]] *= -1  # every other one looks back
    assert film_cameras(ASKED, replace(around, cameras=replace(around.cameras, c2w=walk)))[0] == "interpolate"
    assert film_cameras(ASKED, replace(aside, surrounded=True))[0] == "360"
    assert film_cameras(ASKED, replace(around, ndc=(2.0, 2.0)))[0] == "spiral"
    outward = around.cameras.c2w.clone()
    outward[:, :, [0, 2]] *= -1
    assert film_cameras(ASKED, replace(around, cameras=replace(around.cameras, c2w=outward)))[0] == "interpolate"
    with pytest.raises(UserError, match="--path spiral"):
        film_cameras(replace(ASKED, path="spiral"), replace(around, cameras=replace(around.cameras, c2w=outward)))


def test_the_turn_of_photos_follows_them_and_that_of_blender_scenes_is_the_usual_one():
    scene = scene_of(ring(6.28), unbounded=True)
    _, cameras, fps = film_cameras(ASKED, scene)
    assert (len(cameras), fps) == (120, 30)
    torch.testing.assert_close(cameras.c2w[:, :2, 3].norm(dim=-1), torch.full((120,), 2.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.c2w[:, 2, 3], torch.full((120,), 0.5), atol=1e-3, rtol=0)
    _, cameras, _ = film_cameras(replace(ASKED, radius=3.0, elevation=0.0), scene)
    torch.testing.assert_close(cameras.c2w[:, 2, 3], torch.zeros(120), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.c2w[:, :, 3].norm(dim=-1), torch.full((120,), 3.0))
    _, cameras, _ = film_cameras(ASKED, replace(scene, orbit=(4.0, 30.0)))
    assert torch.equal(cameras.c2w, turntable(120, scene.cameras, 4.0, 30.0).c2w)


def test_cameras_that_look_the_same_way_get_a_spiral_too():
    positions = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0, 0.1], [-0.1, 0, 0], [0, 0, -0.1]])
    scene = scene_of(positions, target=(0.0, 1e6, 0.0), unbounded=True)
    name, cameras, _ = film_cameras(ASKED, replace(scene, target=(0.0, 0.0, 0.0)))
    assert name == "spiral"
    assert cameras.c2w[:, 1, 2].max() < -0.8  # still looking along y


@pytest.mark.parametrize("to_and_fro", [True, False])
def test_a_drone_that_looks_straight_down(to_and_fro):
    """Its cameras look at no common point and, flown to and fro, have no common up."""
    across, along = torch.meshgrid(torch.arange(6.0) / 3, torch.arange(5.0) / 3, indexing="ij")
    c2w = torch.eye(3, 4).repeat(30, 1, 1)
    c2w[:, :, 3] = torch.stack([across, along, torch.zeros(6, 5)], -1).view(-1, 3)
    if to_and_fro:
        c2w[1::2, :, :2] *= -1
    scene = scene_of(ring(6.28, 30), unbounded=True)
    scene = replace(scene, cameras=replace(scene.cameras, c2w=normalize_poses(c2w)[0]))
    down = scene.cameras.c2w[0, :, 2]
    for path in ("auto", "360", "spiral"):
        name, cameras, _ = film_cameras(replace(ASKED, path=path), scene)
        assert name == ("spiral" if path == "auto" else path)
        assert (cameras.c2w[:, :, 2] @ down).min() > 0.8
        assert torch.cdist(cameras.c2w[:, :, 3], scene.cameras.c2w[:, :, 3]).amin(1).max() < 0.5


def test_a_walk_that_looks_about_has_no_spiral():
    c2w = look_at(torch.stack([torch.linspace(0, 9, 24), torch.zeros(24), torch.zeros(24)], -1), (4.0, 30.0, 0.0))
    c2w[::3, :, [0, 2]] *= -1  # every third one looks back
    scene = scene_of(ring(6.28), unbounded=True)
    with pytest.raises(UserError, match="--path spiral: the cameras look in all directions"):
        film_cameras(replace(ASKED, path="spiral"), replace(scene, cameras=replace(scene.cameras, c2w=c2w)))


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, "runs/tiny"))


def test_render_with_every_path(run):
    keyframes = [
        {"position": [3, 0, 1], "look_at": [0, 0, 0]},
        {"time": 0.1, "position": [0, 3, 1], "look_at": [0, 0, 0]},
    ]
    Path("pan.json").write_text(json.dumps({"fps": 20, "keyframes": keyframes}))
    few = ("--frames", 2, "--depth", "none")
    nerf("render", run, "--path", "spiral", *few)
    nerf("render", run, "--path", "interpolate", "--loop", "--every", 2, *few)
    nerf("render", run, "--path", "pan.json", "--depth", "side", "--img_wh", 30, 14)
    nerf("render", run, "--path", "test", "--img_wh", 8, 16, "--keep_frames")
    found = {name for name in files(run / "renders") if "/" not in name}
    films_of = {f"{name}.{kind}" for name in ("spiral", "interpolate", "pan", "test") for kind in ("mp4", "gif")}
    cameras = {f"{name}_cameras.json" for name in ("spiral", "interpolate", "pan", "test")}
    assert found == films_of | {"test_depth.mp4"} | cameras
    assert [frame.shape for frame in decoded(run / "renders" / "pan.mp4")] == [(14, 60, 3)] * 3
    assert len(list((run / "renders/test/frames").glob("*.png"))) == 4


def test_a_render_that_was_interrupted_goes_on(run, monkeypatch, capsys):
    words, shown = ("render", run, "--frames", 3, "--img_wh", 6, 6), []

    def render(self, rays, background):
        if len(shown) == 2:
            raise KeyboardInterrupt
        shown.append(1)
        return whole(self, rays, background)

    whole = NeRF.render
    with monkeypatch.context() as patch:
        patch.setattr(NeRF, "render", render)
        message = refused(capsys, *words, code=130)
    assert message.endswith("2 of 3 frames are in runs/tiny/renders/360/frames: the same command goes on")
    nerf(*words, "--fps", 10)  # which is no matter of the frames
    out = capsys.readouterr().out
    assert "resuming at frame 3 of 3" in out
    assert "3 frames: runs/tiny/renders/360.gif (6x6, " in out
    assert not (run / "renders/360").exists()


def test_a_bad_path_file_is_one_line(run, capsys):
    Path("bad.json").write_text('{"keyframes": [{"c2w": 3}]}')
    assert "bad.json: keyframes 0 has no 4x4 c2w" in refused(capsys, "render", run, "--path", "bad.json")
    assert "--every 9: the scene has 4 views" in refused(capsys, "render", run, "--path", "interpolate", "--every", 9)
    assert "--path spyral cannot work: give auto, 360" in refused(capsys, "render", run, "--path", "spyral")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--path test --frames 5", "--frames 5 cannot work: --path test has a frame for each test view; leave it out"),
        (
            "--path spiral --radius 2",
            "--radius 2.0 cannot work: it is for --path 360, and this film has the path spiral",
        ),
        ("--path interpolate --elevation 0", "--elevation 0.0 cannot work: it is for --path 360"),
        ("--path pan.json --every 2", "--every 2 cannot work: it is for --path interpolate"),
        ("--loop", "--loop cannot work: it is for --path interpolate, and this film has the path 360"),
    ],
)
def test_an_option_that_the_path_would_ignore_is_refused(run, capsys, words, told):
    Path("pan.json").write_text('{"keyframes": [{"position": [3, 0, 1], "look_at": [0, 0, 0]}]}')
    assert f"nerf: {told}" in refused(capsys, "render", run, *words.split())
    assert not (run / "renders").exists()


def test_the_classic_eval_films_llff(run, scene_dir, monkeypatch):
    """What it does of such a scene with the views of another one, which is turned to have no test views."""
    checkpoint = run / "checkpoints" / "last.ckpt"
    forward = replace(open_run(run, CPU).scene("train"), ndc=(2.0, 2.0))
    monkeypatch.setattr(models, "load_split", lambda config, root, split, pictures: {"train": forward}[split])
    monkeypatch.setattr(films, "FRAMES", 2)
    words = ("--root_dir", scene_dir, "--dataset_name", "llff", "--scene_name", "toys", "--ckpt_path", checkpoint)
    nerf(*words, "--img_wh", 16, 16, "--num_gpus", 0, program="eval.py")
    assert not list(Path("results").rglob("*.pfm"))
    nerf(*words, "--img_wh", 16, 16, "--save_depth", "--num_gpus", 0, program="eval.py")
    found = files(Path("results/llff/toys"))
    assert {"toys.mp4", "toys.gif", "toys_depth.mp4", "depth_000.pfm", "depth_001.pfm"} <= set(found)
    assert "metrics.json" not in found


def test_the_classic_eval_scores_the_training_views(run, scene_dir):
    words = ("--root_dir", scene_dir, "--img_wh", 16, 16, "--ckpt_path", run / "checkpoints" / "last.ckpt")
    nerf(*words, "--split", "test_train", "--num_gpus", 0, program="eval.py")
    assert len(json.loads(Path("results/blender/test/metrics.json").read_text())["views"]) == 4


@pytest.mark.parametrize("n", [1, 6])
def test_cameras_in_one_spot(n):
    """As of a panorama, or of one photo alone: by default the film passes them, and no path ends in a traceback."""
    scene = path_of(n)
    c2w = torch.cat([scene.cameras.c2w[:, :, :3], torch.zeros(n, 3, 1)], -1)
    scene = replace(scene, cameras=replace(scene.cameras, c2w=c2w), unbounded=True)
    name, cameras, _ = film_cameras(FilmOptions(frames=4), scene)
    assert (name, len(cameras)) == ("interpolate", 4)
    assert not cameras.c2w[:, :, 3].any()
    with pytest.raises(UserError, match="all in one spot; give interpolate"):
        film_cameras(FilmOptions("spiral"), scene)
    with pytest.raises(UserError, match="give --radius, or interpolate"):
        film_cameras(FilmOptions("360"), scene)
    assert len(film_cameras(FilmOptions("360", frames=3, radius=2.0), scene)[1]) == 3
