"""What a machine cannot give is refused before it is taken, and a training that went wrong says so."""

from dataclasses import replace

import pytest
import torch
from tiny import config, refused

from nerf_pl.errors import UserError
from nerf_pl.options.ranges import check_options
from nerf_pl.scenes import load_scene
from nerf_pl.scenes.scene import some_views
from nerf_pl.training import limits
from nerf_pl.training.limits import require_memory, require_processes
from nerf_pl.training.schedule import lr_factor
from nerf_pl.training.verdict import alone, plain_psnr, untrained, verdict


def test_batches_and_chunks_that_cannot_fit_into_memory(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 10**9)
    for option, given in (("batch_size", 60_000_000), ("chunk", 60_000_000)):
        for method in ("nerf", "ngp"):
            options = config(method)
            require_memory(options, 10**9)
            if method == "nerf" or option == "batch_size":
                wrong = replace(options, train=replace(options.train, **{option: given}))
                with pytest.raises(UserError, match=f"--{option} {given}: .* and 1.0 GB are free: give"):
                    require_memory(wrong, 10**9)
    large = replace(config(), train=replace(config().train, chunk=60_000_000))
    require_memory(large, 16 * 16)  # a view has no more rays


def test_chunks_of_trained_runs_that_cannot_fit_into_memory(trained, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "free_memory", lambda: 10**5)
    for words in (("eval",), ("render", "--frames", 1), ("points", "--count", 5)):
        told = refused(capsys, words[0], trained, "--num_gpus", 0, "--chunk", 50_000, *words[1:])
        assert "--chunk 50000: so many rays at once need" in told
    monkeypatch.setattr(limits, "free_memory", lambda: 10**8)
    told = refused(capsys, "render", trained, "--num_gpus", 0, "--chunk", 10**6, "--img_wh", 1000, 1000, "--frames", 1)
    assert "--chunk 1000000: so many rays at once need" in told


def test_processes_that_cannot_be(monkeypatch):
    require_processes(0)
    require_processes(2)
    with pytest.raises(UserError, match="--num_gpus 100000 on the CPU starts as many processes: give up to"):
        require_processes(100_000)
    monkeypatch.setattr(limits, "free_memory", lambda: 10**8)
    with pytest.raises(UserError, match=r"--num_gpus 2 on the CPU needs 0\.6 GB of memory, and 0\.1 GB are free"):
        require_processes(2)
    require_processes(1)


@pytest.mark.parametrize("value", [1e300, 1e38, 5e-324, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "decay_gamma", "poly_exp"])
def test_values_that_no_float_of_32_bits_bears(name, value):
    if value == 5e-324 and name in ("weight_decay", "poly_exp"):
        return  # as good as 0, which they may be
    options = replace(config().optim, **{name: value})
    with pytest.raises(UserError, match=f"--{name} .* cannot work: give "):
        check_options(options)


def test_numbers_on_the_command_line_that_cannot_be(scene_dir, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, told in [
        (("--lr", "1e300"), "--lr 1e+300 cannot work: give a positive number"),
        (("--batch_size", "100000000000"), "--batch_size 100000000000 cannot work: give 1 or more, up to"),
        (("--img_wh", 100_000, 100_000), "--img_wh 100000 100000 cannot work"),
        (("--num_gpus", 100_000, "--accelerator", "cpu"), "--num_gpus 100000 on the CPU"),
        (("--far", "1e300"), "--far 1e+300 cannot work"),
    ]:
        assert told in refused(capsys, "train", scene_dir, *words)
    assert "--near nan cannot work" in refused(capsys, "info", scene_dir, "--near", "nan")
    assert "--seconds 1e+300 cannot work" in refused(capsys, "bench", "ngp", scene_dir, "--seconds", "1e300")


def test_a_schedule_that_grows_beyond_all_measure():
    optim = replace(config().optim, lr_scheduler="steplr", decay_gamma=1e15, decay_step=tuple(range(1, 30)))
    check_options(optim)
    with pytest.raises(OverflowError):  # which the training turns into a line
        lr_factor(optim, 29, 30)


def test_a_result_worse_than_one_colour_is_said(scene_dir):
    scene = load_scene(scene_dir)
    pixels = torch.cat([scene.image(i).flatten(0, 1) for i in range(len(scene))])
    mean = pixels.mean(0)
    plain = plain_psnr(scene)
    assert plain == pytest.approx(-10 * float((pixels - mean).square().mean().log10()), abs=1e-3)
    begun, told = verdict(50, 2.6, None, plain), verdict(300, 2.6, None, plain)
    assert begun is not None
    assert told is not None
    assert begun.startswith("the result is worse than one plain colour: 2.6 dB, where that has")
    assert begun.endswith(" dB; train longer")  # so few steps say nothing of the learning rate
    assert told.endswith("; give a lower --lr, or train longer")
    assert verdict(50, plain, None, plain) is None
    assert verdict(5, 2.6, None, plain) is None  # too early


def test_a_training_on_one_photo_is_said(scene_dir):
    scene = load_scene(scene_dir)
    one = some_views(scene, torch.tensor([0]))
    assert alone(scene, None) == ""
    assert alone(replace(one, photos=(0,)), None) == ""  # a view of a panorama
    assert alone(one, None).endswith("new views will be wrong: take more photos")
    assert "give --test_every 0" in alone(one, scene)


def test_fewer_steps_than_fields_are_said():
    assert untrained(3, None) == untrained(3, 3) == untrained(4, 2, 2) == untrained(1, 1) == ""
    assert "2 steps for 5 fields" in untrained(5, 2)
    assert untrained(5, 2).endswith("Give 5 steps or more, or --ensemble 2")
