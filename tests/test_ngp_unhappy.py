"""The hash-grid method: weights of other runs, and what can go wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import FLAGS, NGP_FLAGS, config, content, make, nerf, refused, start

from nerf_pl.checkpoints import load_split, load_weights
from nerf_pl.errors import UserError
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.options import RunFolders
from nerf_pl.training.run import train


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- weights to start from -------------------------------------------------------------------------------------------


def test_starting_from_weights(trained_ngp, scene_dir):
    """Weights stay in the box that they were trained in, and the cells that can hold something are found anew."""
    source, path = content(trained_ngp), Path("source.ckpt")
    source["state_dict"]["model.occupancy.aabb"] *= 0.9  # no box that the masks of the scene would give
    source["state_dict"]["model.occupancy.possible"].zero_()
    torch.save(source, path)
    options = config("ngp", ckpt_path=str(path), max_steps=1, prefixes_to_ignore=("field.params", "occupancy"))
    options = replace(options, optim=replace(options.optim, lr=1e-12))
    train(options, scene_dir, RunFolders.modern(Path("run")))
    theirs, ours, fresh = source["state_dict"], content(Path("run"))["state_dict"], make(options)
    assert torch.allclose(ours["model.field.table"], theirs["model.field.table"], atol=1e-9)
    assert torch.allclose(ours["model.field.params"], fresh.field.params, atol=1e-9)
    assert torch.equal(ours["model.occupancy.aabb"], theirs["model.occupancy.aabb"])
    fresh.occupancy.aabb.copy_(theirs["model.occupancy.aabb"])
    fresh.fit(load_split(options, scene_dir, "train"), keep_box=True)
    assert torch.equal(ours["model.occupancy.possible"], fresh.occupancy.possible)
    assert fresh.occupancy.possible.any()


def test_marks_of_another_run_do_not_count(trained_ngp):
    """They are numbers of its steps."""
    model = make(config("ngp"))
    path = trained_ngp / "checkpoints" / "last.ckpt"
    assert content(trained_ngp)["state_dict"]["model.occupancy.seen"].max() == 19
    load_weights(model, config("ngp"), path, ())
    assert model.occupancy.seen.max() == 0
    assert torch.equal(model.occupancy.density, content(trained_ngp)["state_dict"]["model.occupancy.density"])


def test_no_prefix_excuses_a_missing_box(trained_ngp, scene_dir, capsys):
    source, path = content(trained_ngp), Path("source.ckpt")
    for name in ("occupancy.aabb", "occupancy.seen"):  # the second is a matter of each run
        del source["state_dict"][f"model.{name}"]
    torch.save(source, path)
    words = [*NGP_FLAGS, "--ckpt_path", path, "--prefixes_to_ignore", "occupancy"]
    told = refused(capsys, "train", scene_dir, *words)
    assert told == f"nerf: checkpoint {path} has no occupancy.aabb: it is incomplete, give another"


def test_weights_of_another_method(trained_ngp, trained, scene_dir, capsys):
    theirs, ours = trained / "checkpoints" / "last.ckpt", trained_ngp / "checkpoints" / "last.ckpt"
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


def test_weights_of_other_sizes(trained_ngp, scene_dir, capsys):
    words = [*NGP_FLAGS, "--levels", 3, "--cells", 64]
    told = refused(capsys, "train", scene_dir, *words, "--ckpt_path", trained_ngp / "checkpoints" / "last.ckpt")
    assert "--levels 3, --cells 64: --ckpt_path" in told
    assert told.endswith("give --levels 4 --cells 32")
    shutil.copytree(trained_ngp, "runs/run")
    told = refused(capsys, "train", scene_dir, "--exp_name", "run", "--resume", "--hidden", 64, "--max_steps", 30)
    assert "--hidden 64: runs/run/checkpoints/last.ckpt" in told
    told = refused(capsys, "train", scene_dir, "--exp_name", "run", "--resume", "--method", "nerf", "--max_steps", 30)
    assert "--method nerf" in told
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--exp_name", "run", "--resume", "--seen_detail", 2)
    assert "--seen_detail 2: runs/run/checkpoints/last.ckpt" in told
    assert told.endswith("give --seen_detail 1")


def test_incomplete_checkpoints(trained_ngp, capsys):
    run = Path(shutil.copytree(trained_ngp, "run"))
    last = content(run)
    del last["state_dict"]["model.occupancy.bits"]
    torch.save(last, run / "checkpoints" / "last.ckpt")
    assert "has no occupancy.bits" in refused(capsys, "eval", run)


# ---- what can go wrong -----------------------------------------------------------------------------------------------


def test_its_optimizer_is_its_own(scene_dir, capsys):
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--optimizer", "sgd")
    assert told.startswith("nerf: --optimizer sgd cannot work")


def test_sizes_that_do_not_go_with_those_of_the_device(scene_dir, capsys):
    told = refused(capsys, "train", scene_dir, "--samples", 150, "--num_gpus", 0)
    assert told.startswith("nerf: --samples 150 cannot work: give more than --march_steps, ")
    told = refused(capsys, "train", scene_dir, "--base_resolution", 4096, "--num_gpus", 0)
    assert "give no less than --base_resolution, 4096" in told


def test_pictures_of_nothing(scene_dir, capsys):
    scene = Path(shutil.copytree(scene_dir, "scene"))
    for picture in (scene / "train").glob("*.png"):
        Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save(picture)
    told = refused(capsys, "train", scene, *NGP_FLAGS, "--num_gpus", 0)
    assert "all 4 pictures are transparent everywhere" in told


def away(scene: Path) -> None:
    """Turn the training cameras round."""
    path = scene / "transforms_train.json"
    values = json.loads(path.read_text())
    for frame in values["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, (0, 2)] *= -1  # half a turn about the vertical
        frame["transform_matrix"] = pose.tolist()
    path.write_text(json.dumps(values))


def test_cameras_that_look_away(scene_dir, capsys):
    scene = Path(shutil.copytree(scene_dir, "scene"))
    away(scene)
    with pytest.raises(SystemExit) as stop:
        nerf("train", scene, *NGP_FLAGS, "--num_gpus", 0)
    assert stop.value.code == 2
    hint, refusal = capsys.readouterr().err.splitlines()
    assert "convert them: camera to world, y up and z back" in hint
    assert "no camera looks inside the scene's box" in refusal


def test_two_processes_fail_with_one_line(scene_dir, tmp_path):
    scene = Path(shutil.copytree(scene_dir, "scene"))
    away(scene)
    words = ["train", scene, *NGP_FLAGS, "--num_gpus", 2, "--accelerator", "cpu"]
    process = start(tmp_path, *words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    hint, refusal = err.splitlines()  # each said by one of the processes
    assert "convert them: camera to world, y up and z back" in hint
    assert "no camera looks inside the scene's box" in refusal


@pytest.mark.parametrize(
    ("words", "model", "options"),
    [(NGP_FLAGS, NGP, "--samples, --log2_size or --batch_size"), (FLAGS, NeRF, "--batch_size")],
)
@pytest.mark.parametrize("at", [0, 3])
def test_too_little_memory(scene_dir, capsys, monkeypatch, words, model, options, at):
    """Before the first step and in a later one."""

    def loss(self, batch):
        if int(self.step) >= at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nand more")
        return whole(self, batch)

    whole = model.loss
    monkeypatch.setattr(model, "loss", loss)
    told = refused(capsys, "train", scene_dir, *words, "--max_steps", 5, "--num_gpus", 0)
    assert told == f"nerf: out of GPU memory in training: lower {options} (CUDA out of memory. Tried to allocate 9 GiB)"


def test_too_little_memory_on_the_chip(scene_dir, capsys, monkeypatch):
    """As Triton says it, on a GPU smaller than the sizes that were asked for."""

    class OutOfResources(Exception):  # noqa: N818 - its name there
        pass

    def loss(self, batch):
        raise OutOfResources("out of resource: shared memory, Required: 135168, Hardware limit: 101376. And more")

    monkeypatch.setattr(NGP, "loss", loss)
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--max_steps", 5, "--num_gpus", 0)
    assert told.startswith("nerf: the networks do not fit into this GPU's on-chip memory: lower --colour_hidden")
    assert "Required: 135168" in told


def spoil(monkeypatch, steps: range) -> None:
    """Make the gradients of these steps something that is no number."""
    whole = NGP.loss

    def loss(self, batch):
        value, error = whole(self, batch)
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
