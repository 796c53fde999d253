"""The hash-grid method, from what is typed to what it leaves behind."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_unhappy import interrupted
from tiny import FLAGS, NGP_FLAGS, config, content, equal, nerf, refused, start

from nerf_pl import callbacks
from nerf_pl.checkpoint import load_model, load_weights
from nerf_pl.data import PixelBatches
from nerf_pl.metrics import psnr
from nerf_pl.models import NGP, NeRF, make_model
from nerf_pl.rendering import render_view
from nerf_pl.steps import fit
from nerf_pl.training import RunFolders, load_split, train
from nerf_pl.types import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_train_eval_and_render(scene_dir, capsys):
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 20, "--num_gpus", 0)
    out, err = capsys.readouterr()
    assert not err
    first, second, third, fourth = out.splitlines()
    assert first.endswith("4 views of 16 x 16 to train on, 1 for validation")
    assert second == "CPU, plain PyTorch, fp32"
    assert re.fullmatch(r"100%  step 20  \S+ step/s  \S+ rays/s  train \d+\.\d\d val \d+\.\d\d dB  0:00 left", third)
    assert fourth.endswith("next: nerf eval runs/toys-ngp, nerf render runs/toys-ngp")
    run = Path("runs/toys-ngp")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    nerf("eval", run)
    assert json.loads((run / "metrics.json").read_text())["method"] == "ngp"
    assert (run / "renders" / "test" / "index.html").is_file()
    nerf("eval", run, "--split", "val", "--checkpoint", "best")
    nerf("render", run, "--frames", 2, "--img_wh", 8, 8)
    assert (run / "renders" / "360.mp4").is_file()


def test_best_is_the_best(scene_dir):
    train(config("ngp"), scene_dir, RunFolders.modern(Path("run")))
    model, options, _ = load_model(Path("run/checkpoints/best.ckpt"), CPU)
    scene = load_split(options, scene_dir, "val")
    found = psnr(render_view(model, scene, 0, 1024, CPU)["rgb"], scene.image(0))
    assert float(found) == pytest.approx(content(Path("run"))["best_psnr"], abs=1e-4)


def test_resuming_is_exact(scene_dir, monkeypatch):
    """Forty steps in one go, and the same ended by a crash after twenty, between two updates of the occupancy grid."""
    options, whole, parts = config("ngp", max_steps=40, val_every=10), Path("whole"), Path("parts")
    train(options, scene_dir, RunFolders.modern(whole))

    class CrashError(Exception):
        pass

    def crash(self, trainer, system):
        if system.step > 20:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ImageLog, "on_validation_start", crash, raising=False)
        with pytest.raises(CrashError):
            train(options, scene_dir, RunFolders.modern(parts))
    assert content(parts)["global_step"] == 20
    train(options, scene_dir, RunFolders.modern(parts), resume=True)
    first, second = content(whole), content(parts)
    names = {f"model.occupancy.{name}" for name in ("density", "bits", "seen", "visible", "aabb", "possible")}
    assert names | {"model.active", "model.kept", "model.least"} <= first["state_dict"].keys()
    for part in ("state_dict", "optimizer_states", "global_step", "config", "best_psnr"):
        assert equal(first[part], second[part]), part
    (state,) = first["optimizer_states"]
    steps = [entry["step"] for entry in state["state"].values()]
    assert steps == [40, 40]  # of networks and table


def test_ctrl_c_leaves_a_checkpoint_to_resume(scene_dir, tmp_path):
    words = [scene_dir, *NGP_FLAGS, "--num_gpus", 0, "--max_steps", 100_000]
    assert "last.ckpt is saved" in interrupted(tmp_path, *words)
    run = tmp_path / "runs" / "long"
    step = content(run)["global_step"]
    nerf("train", scene_dir, "--resume", "--exp_name", "long", "--max_steps", step + 2)
    assert content(run)["global_step"] == step + 2


def test_seconds_are_kept(scene_dir):
    train(config("ngp", max_steps=None, seconds=2.0), scene_dir, RunFolders.modern(Path("run")))
    last = content(Path("run"))
    assert last["train_seconds"] == pytest.approx(2.0, abs=0.5)
    assert last["global_step"] > 10


def test_two_processes_train_with_the_mean_gradient(scene_dir, tmp_path):
    """One step of the command in two processes, and by hand."""
    words = ["train", scene_dir, *NGP_FLAGS, "--max_steps", 1, "--exp_name", "two", "--grad_share", 1]
    process = start(tmp_path, *words, "--num_gpus", 2, "--accelerator", "cpu")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not err
    assert "2 x CPU" in out
    ours = content(tmp_path / "runs" / "two")

    options = config("ngp", max_steps=1)
    options = replace(options, model=replace(options.model, grad_share=1.0))
    scene = load_split(options, scene_dir, "train")
    gradients, grids = [], []
    for rank in (0, 1):
        model = make_model(options, CPU, rank).train()
        fit(model, scene, CPU)
        model.before_step(0)
        model.loss(*PixelBatches(scene, 256, model.seed, 0, True, model.active)(model.step))[0].backward()
        gradients.append([model.field.params.grad, model.field.table.grad])
        grids.append(model.occupancy)
    assert torch.equal(grids[0].bits, grids[1].bits)
    assert torch.equal(grids[0].bits, ours["state_dict"]["model.occupancy.bits"])
    for i, pair in enumerate(zip(*gradients, strict=True)):
        mean = (pair[0] + pair[1]) / 2
        assert (pair[0] - mean).norm() > 0.1 * mean.norm()
        moment = ours["optimizer_states"][0]["state"][i]["m"]  # a tenth of the first gradient
        assert torch.allclose(10 * moment, mean, atol=1e-6 * float(mean.abs().max()) + 1e-9)


# ---- weights to start from -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory, scene_dir) -> Path:
    """The folder of a run of twenty steps. Not to be changed: copy it first."""
    run = tmp_path_factory.mktemp("ngp") / "run"
    train(config("ngp", max_steps=20), scene_dir, RunFolders.modern(run))
    return run


def test_starting_from_weights(learned, scene_dir):
    """Weights stay in the box that they were trained in, and the cells that can hold something are found anew."""
    source, path = content(learned), Path("source.ckpt")
    source["state_dict"]["model.occupancy.aabb"] *= 0.9  # no box that the masks of the scene would give
    source["state_dict"]["model.occupancy.possible"].zero_()
    torch.save(source, path)
    options = config("ngp", ckpt_path=str(path), max_steps=1, prefixes_to_ignore=("field.params", "occupancy"))
    options = replace(options, optim=replace(options.optim, lr=1e-12))
    train(options, scene_dir, RunFolders.modern(Path("run")))
    theirs, ours, fresh = source["state_dict"], content(Path("run"))["state_dict"], make_model(options, CPU)
    assert torch.allclose(ours["model.field.table"], theirs["model.field.table"], atol=1e-9)
    assert torch.allclose(ours["model.field.params"], fresh.field.params, atol=1e-9)
    assert torch.equal(ours["model.occupancy.aabb"], theirs["model.occupancy.aabb"])
    fresh.occupancy.aabb.copy_(theirs["model.occupancy.aabb"])
    fit(fresh, load_split(options, scene_dir, "train"), CPU, keep_box=True)
    assert torch.equal(ours["model.occupancy.possible"], fresh.occupancy.possible)
    assert fresh.occupancy.possible.any()


def test_marks_of_another_run_do_not_count(learned):
    """They are numbers of its steps."""
    model = make_model(config("ngp"), CPU)
    path = learned / "checkpoints" / "last.ckpt"
    assert content(learned)["state_dict"]["model.occupancy.seen"].max() == 19
    load_weights(model, config("ngp"), path, ())
    assert model.occupancy.seen.max() == 0
    assert torch.equal(model.occupancy.density, content(learned)["state_dict"]["model.occupancy.density"])


def test_weights_of_another_method(learned, trained, scene_dir, capsys):
    theirs, ours = trained / "checkpoints" / "last.ckpt", learned / "checkpoints" / "last.ckpt"
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--ckpt_path", theirs)
    assert "is of the method nerf, and this training of ngp" in told
    assert "--method nerf" in told
    told = refused(capsys, "train", scene_dir, *FLAGS, "--ckpt_path", ours)
    assert "--method ngp" in told
    classic = ["--root_dir", scene_dir, "--img_wh", 16, 16, "--num_gpus", 0]
    assert "--method ngp" in refused(capsys, *classic, "--ckpt_path", ours, program="train.py")
    assert "use nerf eval" in refused(capsys, *classic, "--ckpt_path", ours, program="eval.py")
    told = refused(capsys, "import", ours)
    assert "was trained with the method ngp" in told


def test_weights_of_other_sizes(learned, scene_dir, capsys):
    words = [*NGP_FLAGS, "--levels", 3, "--cells", 64]
    told = refused(capsys, "train", scene_dir, *words, "--ckpt_path", learned / "checkpoints" / "last.ckpt")
    assert "--levels 3, --cells 64: --ckpt_path" in told
    assert told.endswith("give --levels 4 --cells 32")
    shutil.copytree(learned, "runs/run")
    told = refused(capsys, "train", scene_dir, "--exp_name", "run", "--resume", "--hidden", 64, "--max_steps", 30)
    assert "--hidden 64: runs/run/checkpoints/last.ckpt" in told
    told = refused(capsys, "train", scene_dir, "--exp_name", "run", "--resume", "--method", "nerf", "--max_steps", 30)
    assert "--method nerf" in told


def test_incomplete_checkpoints(learned, capsys):
    run = Path(shutil.copytree(learned, "run"))
    last = content(run)
    del last["state_dict"]["model.occupancy.bits"]
    torch.save(last, run / "checkpoints" / "last.ckpt")
    assert "has no occupancy.bits" in refused(capsys, "eval", run)


# ---- what can go wrong -----------------------------------------------------------------------------------------------


def test_its_optimizer_is_its_own(scene_dir, capsys):
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--optimizer", "sgd")
    assert told.startswith("nerf: --optimizer sgd cannot work")


def test_pictures_of_nothing(scene_dir, capsys):
    scene = Path(shutil.copytree(scene_dir, "scene"))
    for picture in (scene / "train").glob("*.png"):
        Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save(picture)
    told = refused(capsys, "train", scene, *NGP_FLAGS, "--num_gpus", 0)
    assert "the views' masks leave nothing inside the scene's box, (-1.5, -1.5, -1.5) to (1.5, 1.5, 1.5)" in told


def test_cameras_that_look_away(scene_dir, capsys):
    scene = Path(shutil.copytree(scene_dir, "scene"))
    path = scene / "transforms_train.json"
    values = json.loads(path.read_text())
    for frame in values["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, (0, 2)] *= -1  # half a turn about the vertical
        frame["transform_matrix"] = pose.tolist()
    path.write_text(json.dumps(values))
    assert "no camera looks inside the scene's box" in refused(capsys, "train", scene, *NGP_FLAGS, "--num_gpus", 0)


@pytest.mark.parametrize(
    ("words", "model", "options"),
    [(NGP_FLAGS, NGP, "--samples, --log2_size or --batch_size"), (FLAGS, NeRF, "--batch_size")],
)
@pytest.mark.parametrize("at", [0, 3])
def test_too_little_memory(scene_dir, capsys, monkeypatch, words, model, options, at):
    """Before the first step and in a later one."""

    def loss(self, *batch):
        if int(self.step) >= at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nand more")
        return whole(self, *batch)

    whole = model.loss
    monkeypatch.setattr(model, "loss", loss)
    told = refused(capsys, "train", scene_dir, *words, "--max_steps", 5, "--num_gpus", 0)
    assert told == f"nerf: out of GPU memory in training: lower {options} (CUDA out of memory. Tried to allocate 9 GiB)"


def spoil(monkeypatch, steps: range) -> None:
    """Make the gradients of these steps something that is no number."""
    whole = NGP.loss

    def loss(self, *batch):
        value, error = whole(self, *batch)
        if int(self.step) in steps:
            return value + torch.nan * self.field.params.sum(), error * torch.nan
        return value, error

    monkeypatch.setattr(NGP, "loss", loss)


def test_steps_that_go_wrong_are_left_out(scene_dir, capsys, monkeypatch):
    spoil(monkeypatch, range(3, 5))
    train(config("ngp", max_steps=12, val_every=6), scene_dir, RunFolders.modern(Path("run")))
    out = capsys.readouterr().out
    assert out.count("a gradient was not finite; such steps are left out") == 1
    assert out.splitlines()[-1] == "steps left out, as a gradient was not finite: 2; try a lower --lr"
    last = content(Path("run"))
    assert last["global_step"] == 12
    assert all(value.isfinite().all() for value in last["state_dict"].values())


def test_a_training_that_goes_wrong_for_good_ends(scene_dir, monkeypatch):
    spoil(monkeypatch, range(4, 10**6))
    with pytest.raises(UserError, match=r"diverged before step \d+: no gradient was finite.*--lr"):
        train(config("ngp", max_steps=1000, val_every=4), scene_dir, RunFolders.modern(Path("run")))
    assert content(Path("run"))["global_step"] == 4
