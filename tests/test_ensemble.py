"""Several fields that train in turn, in one process and in two, and what is shown of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import (
    CPU,
    NGP_FLAGS,
    batches,
    config,
    content,
    crashed,
    equal,
    make,
    nerf,
    rays_of_steps,
    refused,
    resumed,
    start,
    with_model,
)

from nerf_pl import media, rendering
from nerf_pl.checkpoints import as_begun, open_run, write_checkpoint
from nerf_pl.methods.ngp import ensemble
from nerf_pl.methods.ngp.ensemble import Ensemble
from nerf_pl.methods.ngp.field import HashField
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.methods.ngp.visibility import ENOUGH
from nerf_pl.options import RunFolders
from nerf_pl.rendering import hurried, render_view
from nerf_pl.scenes import load_scene
from nerf_pl.training import system
from nerf_pl.training.gradients import Gradients, take_steps
from nerf_pl.training.run import train
from nerf_pl.types import Rays
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.stage import view_of, wish_of

FIELDS = 3


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options(fields: int = FIELDS, **values: object):
    return with_model(config("ngp", **values), ensemble=fields, interleave=fields > 1)


def trained(scene_dir, steps: int, fields: int = FIELDS) -> Ensemble:
    scene, model = load_scene(scene_dir), make(options(fields)).train()
    model.fit(scene)
    model.go_on(0)
    take_steps(Gradients(model, batches(model, scene, 256)), model.make_optimizer(config("ngp").optim), range(steps))
    return model.eval()


def rays(n: int = 50) -> Rays:
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.rand(n, 3, generator=g) - 0.5, dim=1)
    return Rays(-3 * directions, directions, directions, torch.full((n,), 0.5), torch.full((n,), 6.0))


def test_steps_train_the_fields_in_turn(scene_dir):
    model = trained(scene_dir, 7)
    assert isinstance(model, Ensemble)
    assert [int(part.step) for part in model.parts] == [3, 2, 2]
    assert int(model.step) == 7
    first, second = (part.field.params.detach() for part in model.parts[1:])
    assert not torch.allclose(first, second, atol=1e-2)  # other weights at first, and other pixels


def test_a_field_of_many_is_trained_like_one_alone(scene_dir):
    """The first one: it has the seed of the run."""
    alone = make(options(1)).train()
    assert isinstance(alone, NGP)
    many = make(with_model(options(), interleave=False)).train()
    many.parts[0].load_state_dict(alone.state_dict())
    scene = load_scene(scene_dir)
    for model, every in ((alone, 1), (many, FIELDS)):
        model.fit(scene)
        model.go_on(0)
        optimizer = model.make_optimizer(config("ngp").optim)
        take_steps(Gradients(model, batches(model, scene, 256)), optimizer, range(4 * every))
    assert equal(alone.state_dict(), many.parts[0].state_dict())


def test_levels_of_the_fields_lie_between_each_other():
    """Those of the first field are as the options say, so it can be shown alone."""
    sizes = {"base_resolution": 8, "finest_resolution": 64}
    usual, fine, coarse = (part.field.grid.resolutions for part in make(with_model(options(), **sizes)).parts)
    assert usual == make(with_model(options(1), **sizes)).field.grid.resolutions
    assert all(a < b < c for a, b, c in zip(coarse, usual, fine, strict=True))
    assert all(a < b for a, b in zip(fine, coarse[1:], strict=False))
    same = make(with_model(options(), **sizes, interleave=False)).parts
    assert {part.field.grid.resolutions for part in same} == {usual}


def test_tables_of_all_sizes_decay_level_by_level():
    """Each entry is pulled by its share of the mean square of its own level."""
    model = make(with_model(options(), base_resolution=4, table_decay=0.1))
    assert len({part.field.grid.total for part in model.parts}) == FIELDS
    optimizer = model.make_optimizer(config("ngp").optim)
    for part in model.parts:
        part.field.params.grad = torch.zeros_like(part.field.params)
        part.field.table.data.fill_(1.0)
        part.field.table.grad = torch.zeros_like(part.field.table)
    optimizer.step()
    for part in model.parts:
        found = optimizer.state[part.field.table]["m"]
        for begin, size in zip(part.field.grid.offsets, part.field.grid.sizes, strict=True):
            expected = (1 - optimizer.defaults["betas"][0]) * 2 * 0.1 / (size * part.field.grid.features)
            assert torch.allclose(found[begin : begin + size], torch.tensor(expected))


def test_runs_from_before_had_fields_of_one_size(scene_dir, capsys):
    """They are opened as they are. A training that takes over their weights is told the option."""
    train(with_model(options(2), interleave=False), scene_dir, RunFolders.modern(Path("run")), overwrite=True)
    path = Path("run/checkpoints/last.ckpt")
    checkpoint = content(Path("run"))
    del checkpoint["config"]["model"]["interleave"]
    write_checkpoint(checkpoint, path)
    assert open_run(Path("run"), CPU).config.model.interleave is False
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--ensemble", 2, "--ckpt_path", path)
    assert "--no_interleave" in told
    words = [*NGP_FLAGS, "--ensemble", 2, "--ckpt_path", path, "--no_interleave", "--max_steps", 4]
    nerf("train", scene_dir, *words, "--exp_name", "b")


def test_each_field_has_rays_in_other_places_of_a_pixel(scene_dir, monkeypatch):
    """The picture is the mean of what the fields show there, of depth and opacity as well."""
    model = trained(scene_dir, 9)
    model.rays_per_pixel, view = 4, load_scene(scene_dir).view(0)
    own = rendering.pixel_places
    monkeypatch.setattr(rendering, "CONTRAST", -1.0)  # all pixels are means of several rays
    whole, alone = render_view(model, view), []
    for i, part in enumerate(model.parts):
        part.rays_per_pixel = 4
        monkeypatch.setattr(rendering, "pixel_places", lambda n, turn, i=i: own(n, i / FIELDS))
        alone.append(render_view(part, view))
    for name in ("rgb", "depth", "opacity"):
        expected = torch.stack([getattr(picture, name) for picture in alone]).mean(0)
        assert torch.allclose(getattr(whole, name), expected, atol=1e-5)
    assert len({own(4, i / FIELDS)[1] for i in range(FIELDS)}) == FIELDS


def test_fields_that_are_not_here_yet_are_not_shown(scene_dir, monkeypatch):
    """Another process trains them, so they show nothing of the scene before the first exchange."""
    monkeypatch.setattr(ensemble, "this_process", lambda: (1, 2))
    model = trained(scene_dir, 12, 2)
    own, other = model.fields[1], model.fields[0]
    for part in model.fields:
        part.occupancy.seen.fill_(ENOUGH)
    assert (int(own.step), int(other.step)) == (12, 0)
    pictures = [part.render(rays(), (1.0, 1.0, 1.0)).rgb for part in (own, other)]
    assert not torch.allclose(*pictures, atol=1e-2)
    assert torch.equal(model.render(rays(), (1.0, 1.0, 1.0)).rgb, pictures[0])
    model.unknown.clear()  # as an exchange does
    mean = model.render(rays(), (1.0, 1.0, 1.0)).rgb
    assert torch.allclose(mean, sum(pictures) / 2, atol=1e-6)


def test_an_exchange_brings_the_fields_of_others(scene_dir, monkeypatch):
    models, refreshed, refresh = [], [], HashField.refresh
    for rank in (0, 1):
        monkeypatch.setattr(ensemble, "this_process", lambda rank=rank: (rank, 2))
        models.append(trained(scene_dir, 20, 2))
    ours, theirs = (model.fields[1] for model in models)
    sent = [value for i in (0, 1) for value in models[i].fields[i].state_dict().values()]
    owners = [i for i in (0, 1) for _ in models[i].fields[i].state_dict()]
    assert not torch.equal(ours.render(rays(), None).rgb, theirs.render(rays(), None).rgb)

    def broadcast(tensor, owner):
        assert owner == owners.pop(0)
        tensor.copy_(sent.pop(0))

    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    monkeypatch.setattr(HashField, "refresh", lambda self: refreshed.append(self) or refresh(self))
    models[0].synchronize()
    assert not sent
    assert equal(ours.state_dict(), theirs.state_dict())
    assert torch.equal(ours.render(rays(), None).rgb, theirs.render(rays(), None).rgb)
    assert ours.field in refreshed  # kernels read a copy in half precision


def test_all_fields_are_fitted_to_the_scene(scene_dir):
    model, scene = make(options()), load_scene(scene_dir)
    model.fit(scene)
    first, *others = model.fields
    alone = make(options(1))
    alone.fit(scene)
    assert not first.occupancy.possible.all()
    for field in (*others, alone):
        assert field.stride == first.stride
        for name in ("aabb", "possible", "bits"):
            assert torch.equal(getattr(field.occupancy, name), getattr(first.occupancy, name))


def test_what_is_shown_is_the_mean(scene_dir):
    model = trained(scene_dir, 12)
    for part in model.parts:
        part.occupancy.seen.fill_(ENOUGH)
    found = [part.render(rays(), (1.0, 1.0, 1.0)) for part in model.parts]
    ours = model.render(rays(), (1.0, 1.0, 1.0))
    for name in ("rgb", "depth", "opacity"):
        each = torch.stack([getattr(pixels, name) for pixels in found])
        assert torch.allclose(getattr(ours, name), each.mean(0), atol=1e-6)
        assert each.std(0).max() > 2e-5
    with hurried(model, 2.0):
        hasty = model.render(rays(), None)
        assert torch.equal(hasty.rgb, model.parts[0].render(rays(), None).rgb)
        assert not torch.allclose(hasty.rgb, found[0].rgb, atol=1e-4)


def test_a_resumed_run_is_the_same_to_the_last_bit(scene_dir):
    asked = options(max_steps=20, val_every=7)
    train(asked, scene_dir, RunFolders.modern(Path("whole")))
    crashed(asked, scene_dir, Path("parts"), after=7)
    before, after = content(Path("whole")), resumed(asked, scene_dir, Path("parts"))
    assert before["global_step"] == after["global_step"] == 20
    assert equal(before["state_dict"], after["state_dict"])
    assert equal(before["optimizer_states"], after["optimizer_states"])


@pytest.mark.parametrize("step", [3, 27])
def test_pixels_have_several_rays_as_late_with_another_number_of_processes(scene_dir, monkeypatch, step):
    """After four steps of each field. These have taken three, which are as many of a run that gave each of three
    processes a field; another count stands for one of more fields in a process than go on."""
    numbers = rays_of_steps(monkeypatch)
    monkeypatch.setattr(system, "LATE_STEPS", 4)
    monkeypatch.setattr(system, "LATE", 0.0)
    monkeypatch.setattr(system, "LATEST", 2.0)  # never
    asked = with_model(options(max_steps=9), rays_per_pixel=3)
    train(asked, scene_dir, RunFolders.modern(Path("run")))
    before = content(Path("run"))
    assert [int(before["state_dict"][f"model.fields.{i}.step"]) for i in range(FIELDS)] == [3] * FIELDS
    torch.save(before | {"global_step": step}, "run/checkpoints/last.ckpt")
    numbers.clear()
    resumed(replace(asked, train=replace(asked.train, max_steps=step + 6)), scene_dir, Path("run"))
    assert numbers[-6:] == [1, 1, 1, 3, 3, 3]


def test_commands_take_a_run_of_several_fields(scene_dir, capsys):
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 12, "--num_gpus", 0, "--ensemble", 2, "--exp_name", "two")
    assert "2 fields in turn" in capsys.readouterr().out
    nerf("eval", "runs/two", "--num_gpus", 0)
    nerf("export", "runs/two", "--scene", "two.nerf", "--num_gpus", 0)
    own, other = (open_run(Path(path), CPU) for path in ("runs/two", "two.nerf"))
    pictures = [render_view(run.model, own.scene().view(0)).rgb for run in (own, other)]
    assert (pictures[0] - pictures[1]).abs().max() < 0.02  # weights are in half precision there
    nerf("eval", "two.nerf", "--num_gpus", 0, "--scene", scene_dir)
    nerf("export", "runs/two", "--scene", "one.nerf", "--num_gpus", 0, "--single")
    one = open_run(Path("one.nerf"), CPU)
    assert one.config.model.ensemble == 1
    assert Path("one.nerf").stat().st_size < 0.7 * Path("two.nerf").stat().st_size
    first = render_view(own.model.parts[0], own.scene().view(0)).rgb
    assert (render_view(one.model, one.scene().view(0)).rgb - first).abs().max() < 0.02
    nerf("eval", "one.nerf", "--num_gpus", 0, "--scene", scene_dir, "--single")  # it is single as it is
    assert Path("one/metrics.json").is_file()
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--ckpt_path", "runs/two/checkpoints/last.ckpt")
    assert "give --ensemble 2" in told
    again = ("train", scene_dir, "--max_steps", 20, "--num_gpus", 0, "--exp_name", "two", "--resume")
    assert "give --ensemble 2" in refused(capsys, *again, "--ensemble", 3)
    nerf("info", "two.nerf")
    assert "2 fields in turn" in capsys.readouterr().out
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--ensemble", 0)
    assert "--ensemble 0 cannot work: give 1 to 16" in told
    settings = json.loads(Path("runs/two/settings.json").read_text())
    assert settings["model"]["ensemble"] == 2


@pytest.mark.parametrize(("fields", "said"), [(3, 2), (3, 4), (3, 1), (1, 2)])
def test_options_that_say_another_number_of_fields_are_refused(scene_dir, capsys, fields, said):
    """By all that take a checkpoint. Fewer fields than there are would give another picture, and no message."""
    run, last = Path("runs/run"), Path("runs/run/checkpoints/last.ckpt")
    train(options(fields, max_steps=3), scene_dir, RunFolders.modern(run))
    stored = content(run)
    stored["config"]["model"]["ensemble"] = said
    torch.save(stored, last)
    held = f"{fields} fields" if fields > 1 else "1 field"
    told = f"nerf: checkpoint {last} holds {held}, and its options say --ensemble {said}: give the file as it was"
    same = [*NGP_FLAGS, "--max_steps", 4, "--ensemble", said]
    for words in (
        ("info", run), ("eval", run), ("render", run), ("mesh", run), ("export", run, "--scene", "x.nerf"),
        ("train", scene_dir, *same, "--exp_name", "other", "--ckpt_path", last),
        ("train", scene_dir, *same, "--exp_name", "run", "--resume"),
    ):  # fmt: skip
        assert refused(capsys, *words).startswith(told), words


def test_scores_of_one_field_are_not_taken_for_those_of_all(scene_dir):
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 12, "--num_gpus", 0, "--ensemble", 2, "--exp_name", "two")
    for single in (False, True):
        alone = ["--single"] if single else []
        nerf("eval", "runs/two", "--num_gpus", 0, *alone)
        nerf("export", "runs/two", "--scene", "two.nerf", "--num_gpus", 0)
        nerf("export", "runs/two", "--scene", "one.nerf", "--num_gpus", 0, "--single")
        files = [Path(f"runs/two/{name}.json") for name in ("metrics", "metrics_single")]
        scores = [json.loads(file.read_text()) if file.is_file() else {} for file in files]
        told = [open_run(Path(f"{name}.nerf"), CPU).told for name in ("two", "one")]
        assert [each.get("psnr") for each in told] == [each.get("psnr") for each in scores]
        assert [each.get("single") for each in scores] == [None, True if single else None]
        assert Path("runs/two/renders/test_single/000.png").is_file() == single
    assert scores[0]["psnr"] != scores[1]["psnr"]
    nerf("export", "two.nerf", "--scene", "of_two.nerf", "--num_gpus", 0, "--single")
    assert "psnr" not in open_run(Path("of_two.nerf"), CPU).told


def test_a_run_of_before_has_one_field(scene_dir, trained_ngp, capsys):
    shutil.copytree(trained_ngp, "runs/old")
    last = Path("runs/old/checkpoints/last.ckpt")
    stored = content(Path("runs/old"))
    del stored["config"]["model"]["ensemble"]
    write_checkpoint(stored, last)
    assert isinstance(open_run(last, CPU).model, NGP)
    assert as_begun(with_model(config("ngp"), ensemble=None), last).model.ensemble == 1
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--ensemble", 2, "--ckpt_path", last, "--num_gpus", 0)
    assert "give --ensemble 1" in told


@pytest.mark.parametrize("rays_per_pixel", [1, 4])
def test_the_viewer_shows_one_field_in_motion_and_the_mean_at_rest(scene_dir, rays_per_pixel):
    model = trained(scene_dir, 60)
    for each in (model, *model.fields):
        each.rays_per_pixel = rays_per_pixel
    loop, shown = Loop(model, load_scene(scene_dir)), []
    loop.pace.target = 1e-9  # so pictures in motion are hasty
    loop.join(0, lambda picture, is_sharp: shown.append(picture))
    wish = replace(wish_of(loop.scene.view(0)), size=(32, 32))
    loop.ask(0, wish)
    while loop.step():
        pass
    alone = render_view(model.fields[0], view_of(loop.scene, wish, (32, 32)))
    mean = render_view(model, view_of(loop.scene, wish, (32, 32)))
    assert np.array_equal(shown[-1], media.to_uint8(mean.rgb))
    errors = [
        [float(((picture / 255.0 - image.rgb.numpy()) ** 2).mean()) for image in (alone, mean)] for picture in shown
    ]
    assert errors[0][0] < errors[0][1]


def test_two_processes_share_the_fields_out(scene_dir, tmp_path):
    """Each trains its own as one process would, and both end with all of them; one goes on with all."""
    words = ["train", scene_dir, *NGP_FLAGS, "--max_steps", 6, "--exp_name", "two", "--ensemble", 2]
    process = start(tmp_path, *words, "--num_gpus", 2, "--accelerator", "cpu")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "2 x CPU" in out
    assert "2 fields, 1 on each" in out
    ours = content(tmp_path / "runs" / "two")
    states = ours["optimizer_states"][0]["state"].values()
    assert [state["step"] for state in states] == [6] * 4
    assert all(state["m"].any() for state in states)

    for rank in (0, 1):
        asked = options(2, max_steps=6)
        scene, model = load_scene(scene_dir), make(asked, rank=rank).train()
        model.fit(scene)
        part = model.parts[rank]
        optimizer = part.make_optimizer(asked.optim)
        gradients = Gradients(part, batches(part, scene, 256))
        take_steps(gradients, optimizer, range(6), begin=as_in_a_training(gradients, optimizer, asked))
        theirs = {name: ours["state_dict"][f"model.fields.{rank}.{name}"] for name in part.state_dict()}
        assert torch.allclose(theirs["field.table"], part.field.table, atol=1e-6)
        assert torch.equal(theirs["occupancy.bits"], part.occupancy.bits)
        assert int(theirs["step"]) == 6

    alone = replace(options(2, max_steps=9), train=replace(options(2).train, max_steps=9))
    after = resumed(alone, scene_dir, tmp_path / "runs" / "two")
    steps = [int(after["state_dict"][f"model.fields.{i}.step"]) for i in range(2)]
    assert after["global_step"] == 9
    assert sorted(steps) == [7, 8]


def as_in_a_training(gradients: Gradients, optimizer: torch.optim.Optimizer, asked):
    """The learning rate of each step and what is behind the pictures, as the training sets them."""
    from nerf_pl.options import EPOCHS
    from nerf_pl.training.schedule import lr_factor

    def begin(step: int) -> int:
        epochs, progress = asked.train.num_epochs or EPOCHS, step / asked.train.max_steps
        for group in optimizer.param_groups:
            group["lr"] = asked.optim.lr * lr_factor(asked.optim, progress * epochs, epochs)
        gradients.batches.advance(progress)
        return 1

    return begin
