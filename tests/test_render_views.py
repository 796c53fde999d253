"""Several devices render the views of a film or a split; a GPU renders several views together."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import CPU, NGP_FLAGS, nerf, refused

import nerf_pl.checkpoints
from nerf_pl import media
from nerf_pl.cameras import Cameras, Crop, View
from nerf_pl.checkpoints import open_run
from nerf_pl.cli.trained import Trained
from nerf_pl.rendering import TOGETHER, groups_of, render_view, render_views
from nerf_pl.types import Pixels


class Wall:
    """White to the right of 0.1, black to its left, at the distance 1 of cameras in the plane z = 0."""

    step, training, rays_per_pixel = torch.zeros(1, dtype=torch.int64), False, 4

    def __init__(self):
        self.asked: list[int] = []

    def train(self, mode=True):
        pass

    def render(self, rays, background):
        self.asked.append(len(rays))
        x = rays.origins[:, 0] + rays.directions[:, 0] / -rays.directions[:, 2]
        white = (x > 0.1).float()
        return Pixels(white[:, None].expand(-1, 3), 2 * white, white, torch.ones(0))


def front() -> View:
    """Along -z, with pixels of a width of 1/4."""
    K = torch.tensor([[[4.0, 0, 4], [0, 4, 4], [0, 0, 1]]])
    return View(Cameras(torch.eye(3, 4)[None], K, 8, 8), 0.1, 9.0)


def moved(x: float) -> torch.Tensor:
    c2w = torch.eye(3, 4)[None]
    c2w[0, 0, 3] = x
    return c2w


@pytest.fixture
def models(trained_ngp):
    return [open_run(trained_ngp, CPU).model for _ in range(3)]


@pytest.fixture
def views(trained_ngp):
    scene = open_run(trained_ngp, CPU).scene("train", pictures=False)
    return [scene.view(i % len(scene)) for i in range(8)]


def test_pictures_come_in_order_and_are_those_of_one_device(models, views):
    alone = [render_view(models[0], view) for view in views]
    shared = list(render_views(models, iter(views)))
    assert len(shared) == 8
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.rgb, other.rgb)
        assert torch.equal(one.depth, other.depth)


def test_each_device_renders_its_share_and_little_in_advance(models, views, monkeypatch):
    turns = {id(model): [] for model in models}
    views = [replace(view, near=view.near + 1e-3 * i) for i, view in enumerate(10 * views)]
    numbers = {view.near: i for i, view in enumerate(views)}

    def render(model, group, chunk):
        turns[id(model)] += [numbers[view.near] for view in group]
        return [render_view(model, view, chunk) for view in group]

    monkeypatch.setattr("nerf_pl.rendering._render_there", render)
    pictures = render_views(models, views)
    next(pictures)
    pictures.close()
    for k, model in enumerate(models):
        assert turns[id(model)]
        assert turns[id(model)] == list(range(k, 7, 3))[: len(turns[id(model)])]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_an_error_in_a_view_is_that_of_the_whole(models, views, monkeypatch):
    def fail(rays, background):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(models[1], "render", fail)
    with pytest.raises(torch.OutOfMemoryError, match="lower --chunk"):
        list(render_views(models, views))


def on_cpus(monkeypatch) -> list[list[torch.device]]:
    """Let commands take the CPU for each GPU. Returns the further devices that each command asks for."""
    used = []

    def opened(folder, device, which="last", others=()):
        used.append(others)
        return open_run(folder, CPU, which, [CPU for _ in others])

    monkeypatch.setattr(nerf_pl.checkpoints, "open_run", opened)
    monkeypatch.setattr(Trained, "_require_gpus", lambda *_: None)
    return used


def test_commands_share_the_work(trained_ngp, tmp_path, monkeypatch):
    run = shutil.copytree(trained_ngp, tmp_path / "run")
    nerf("eval", run)
    alone = (run / "metrics.json").read_text()
    (run / "metrics.json").unlink()
    used = on_cpus(monkeypatch)
    nerf("eval", run, "--num_gpus", 2)
    assert (run / "metrics.json").read_text() == alone
    nerf("render", run, "--num_gpus", 2, "--frames", 3, "--img_wh", 8, 8)
    assert used == 2 * [[torch.device("cuda", 1)]]


@pytest.fixture
def ensemble(scene_dir, tmp_path, monkeypatch) -> Path:
    """The folder of a run of two fields."""
    monkeypatch.chdir(tmp_path)
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 12, "--num_gpus", 0, "--ensemble", 2, "--exp_name", "two")
    return tmp_path / "runs" / "two"


@pytest.mark.parametrize("given", [[], ["--single"], ["--rays_per_pixel", 3]])
def test_films_and_scores_of_several_fields_are_those_of_one_device(ensemble, monkeypatch, given):
    """Whatever a command asks for counts on all devices, also of a portable scene."""
    nerf("export", ensemble, "--scene", "two.nerf", "--num_gpus", 0)
    film = ["--frames", 5, "--img_wh", 12, 10, "--keep_frames"]
    found = []
    for devices in (1, 2, 3):
        on_cpus(monkeypatch)
        for run in (ensemble, "two.nerf"):
            folder = Path("two") if run == "two.nerf" else ensemble
            nerf("eval", run, "--num_gpus", devices, *given)
            nerf("render", run, "--num_gpus", devices, *given, *film)
            files = [*folder.glob("metrics*.json"), *folder.glob("renders/**/*.png")]
            found.append({file.relative_to(folder): file.read_bytes() for file in sorted(files)})
            shutil.rmtree(folder / "renders")
    assert len(found[0]) >= 2 + 2 * 5
    for k in (0, 1):
        assert found[k] == found[k + 2] == found[k + 4]


def test_a_film_that_several_devices_begin_one_goes_on_with(trained_ngp, tmp_path, monkeypatch):
    run = shutil.copytree(trained_ngp, tmp_path / "run")
    on_cpus(monkeypatch)
    words = ["render", run, "--frames", 7, "--img_wh", 12, 10, "--keep_frames"]
    nerf(*words, "--num_gpus", 0)
    folder = run / "renders" / "360" / "frames"
    whole = {file.name: file.read_bytes() for file in folder.glob("*.png")}
    shutil.rmtree(folder)
    written = media.write_png

    def stop(path, image):
        if path.name == "00004.png":
            raise KeyboardInterrupt
        written(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(media, "write_png", stop)
        with pytest.raises(SystemExit):
            nerf(*words, "--num_gpus", 3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    assert len(list(folder.glob("?????.png"))) == 4
    nerf(*words, "--num_gpus", 2)
    assert {file.name: file.read_bytes() for file in folder.glob("*.png")} == whole


def test_more_gpus_than_there_are(trained_ngp, capsys):
    there = torch.cuda.device_count()
    told = refused(capsys, "eval", trained_ngp, "--num_gpus", there + 2)
    assert f"--num_gpus {there + 2}, but this machine has {there}: give fewer" in told
    told = refused(capsys, "mesh", trained_ngp, "--num_gpus", 2)
    assert "--num_gpus 2: this command uses one GPU; give 1, or 0 for the CPU" in told
    assert "give 0 to 64" in refused(capsys, "render", trained_ngp, "--num_gpus", 65)


def test_files_that_several_threads_write_are_the_same(trained_ngp, tmp_path, monkeypatch):
    found, where, write = [], [], media.write_png

    def noted(path: Path, image: media.Picture) -> None:
        where.append(threading.current_thread())
        write(path, image)

    monkeypatch.setattr(media, "write_png", noted)
    for threads in (0, 3):
        where.clear()
        run = shutil.copytree(trained_ngp, tmp_path / f"run{threads}")
        for module in ("evaluation.views", "films.frames"):
            monkeypatch.setattr(f"nerf_pl.{module}.writing_threads", lambda *_, threads=threads: threads)
        nerf("eval", run, "--save_depth")
        nerf("render", run, "--frames", 5, "--img_wh", 8, 8, "--keep_frames")
        written = {file.relative_to(run): file.read_bytes() for file in run.rglob("*.p?[mg]")}
        assert len(written) > 15
        assert (threading.main_thread() in where) == (threads == 0)
        found.append(written | {Path("metrics.json"): (run / "metrics.json").read_bytes()})
    assert found[0] == found[1]


def test_a_gpu_renders_views_of_one_size_together():
    """As many as the chunk has room for; their pictures are those of each alone."""
    views = [replace(front(), camera=replace(front().camera, c2w=moved(x))) for x in (0.0, 0.3, 9.0, -0.1, 0.2)]
    views[4] = replace(views[4], camera=replace(views[4].camera, height=6))
    behind = [None, (0.2, 0.4, 1.0), None, (1.0, 1.0, 1.0), None]
    views = [replace(view, background=colour) for view, colour in zip(views, behind, strict=True)]
    model = Wall()
    alone, of_each, model.asked = [render_view(model, view) for view in views], sum(model.asked), []
    model.step = SimpleNamespace(is_cuda=True, device=torch.device("cpu"))
    together = list(render_views([model], views, chunk=3 * 64))
    # three views, the one that is left, and the one of another size; then the further rays of their edges
    assert {3 * 64, 64, 48} <= set(model.asked)
    assert len(model.asked) <= 6
    assert sum(model.asked) == of_each
    for one, other in zip(alone, together, strict=True):
        for name in vars(one):
            assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-6), name


class Bounded(Wall):
    """Its depth tells the bounds of each ray."""

    def render(self, rays, background):
        return replace(super().render(rays, background), depth=rays.near + 2 * rays.far)


class Mean(Wall):
    """Of two walls, each with its own rays in a pixel."""

    def __init__(self):
        super().__init__()
        self.shown = [Bounded(), Bounded()]


@pytest.mark.parametrize("chunk", [10, 64, 2**21])
@pytest.mark.parametrize("kind", ["plain", "bounds", "crop", "ndc", "panorama", "one ray", "no edges"])
def test_views_that_are_rendered_together_keep_what_is_their_own(kind, chunk):
    """The first of these has no edges, nor has the last."""
    places = (9.0, 0.0, 0.3, -0.2, 8.0) if kind != "no edges" else (9.0, 8.0, 7.0)
    views = [replace(front(), camera=replace(front().camera, c2w=moved(x))) for x in places]
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    for i, view in enumerate(views):
        if kind == "bounds":
            views[i] = replace(view, near=0.1 * (i + 1), far=5.0 + i)
        elif kind == "crop" and i % 2:
            views[i] = replace(view, crop=Crop(box * (1 + 0.2 * i), torch.eye(4)))
        elif kind == "ndc":
            views[i] = replace(view, ndc=(1.0 + 0.1 * i, 1.0))
        elif kind == "panorama" and i % 2:
            views[i] = replace(view, camera=replace(view.camera, panorama=True))
    model = Mean()
    model.rays_per_pixel = 1 if kind == "one ray" else 4
    alone = [render_view(model, view, chunk) for view in views]
    model.step = SimpleNamespace(is_cuda=True, device=torch.device("cpu"))
    together = list(render_views([model], iter(views), chunk))
    for one, other in zip(alone, together, strict=True):
        for name in vars(one):
            assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-6, equal_nan=True), name


def test_small_views_come_before_all_are_rendered():
    """Some millions of their pixels would have room together, and a film of them would all be lost by an interrupt."""
    model, asked = Wall(), []
    views = (asked.append(i) or front() for i in range(5 * TOGETHER + 3))
    model.step = SimpleNamespace(is_cuda=True, device=torch.device("cpu"))
    groups = groups_of(model, views, 2**21)
    assert len(next(groups)) == TOGETHER
    assert len(asked) == TOGETHER + 1
    assert [len(group) for group in groups] == [TOGETHER] * 4 + [3]
    assert [len(group) for group in groups_of(model, [front()] * 3, 10)] == [1, 1, 1]
