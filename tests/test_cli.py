"""The commands, from what is typed to the files they leave."""

import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import FLAGS, content, nerf, refused

from nerf_pl import cli
from nerf_pl.bench import budgets, classic
from nerf_pl.checkpoints import read_checkpoint
from nerf_pl.cli.refusals import in_one_line
from nerf_pl.console import short_number
from nerf_pl.errors import Interrupted, UserError
from nerf_pl.methods import METHODS
from nerf_pl.options import Config, SceneKind
from nerf_pl.scenes import demo
from nerf_pl.text import clock_time
from nerf_pl.training import run as training

CLASSIC_TRAIN = """--dataset_name blender --root_dir SCENE --N_importance 64 --img_wh 12 12 --noise_std 0
    --num_epochs 16 --batch_size 1024 --optimizer adam --lr 5e-4
    --lr_scheduler steplr --decay_step 2 4 8 --decay_gamma 0.5 --exp_name exp"""
CLASSIC_EVAL = """--root_dir SCENE --dataset_name blender --scene_name lego
    --img_wh 12 12 --N_importance 64 --ckpt_path ckpts/exp/last.ckpt"""
SMALL = ["--net_depth", "2", "--net_width", "32", "--net_skip", "1", "--N_samples", "4", "--num_gpus", "0"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(trained) -> Path:
    return Path(shutil.copytree(trained, "runs/tiny"))


def typed(command: str, scene: Path) -> list[str]:
    return [str(scene) if word == "SCENE" else word for word in command.split()]


def files(folder: str | Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_the_classic_commands(scene_dir, capsys):
    nerf(*typed(CLASSIC_TRAIN, scene_dir), *SMALL, program="train.py")
    assert files("ckpts") == ["exp/best.ckpt", "exp/last.ckpt"]
    assert any("tfevents" in name for name in files("logs/exp"))
    stored = read_checkpoint("ckpts/exp/last.ckpt")
    assert stored["global_step"] == 16  # 4 x 12 x 12 pixels are less than one batch
    assert stored["config"]["optim"]["decay_step"] == (2, 4, 8)
    capsys.readouterr()

    words = typed(CLASSIC_EVAL, scene_dir)
    nerf(*words, "--save_depth", "--depth_format", "bytes", program="eval.py")
    expected = ["000.png", "000_depth.png", "000_target.png", "001.png", "001_depth.png", "001_target.png"]
    expected += ["depth_000", "depth_001", "history.json", "lego.gif", "lego.mp4", "metrics.json", "report.html"]
    assert files("results/blender/lego") == expected
    assert Path("results/blender/lego/depth_000").stat().st_size == 4 * 12 * 12
    metrics = json.loads(Path("results/blender/lego/metrics.json").read_text())
    out = capsys.readouterr().out
    assert metrics["psnr"] == pytest.approx(sum(v["psnr"] for v in metrics["views"]) / 2)
    for view in metrics["views"]:
        assert re.search(rf"{view['name']} +PSNR +{view['psnr']:.2f} dB +SSIM {view['ssim']:.4f}", out)
    assert re.search(rf"mean +PSNR +{metrics['psnr']:.2f} dB +SSIM {metrics['ssim']:.4f}", out)


def test_classic_switches():
    words = ["--root_dir", "x", "--spheric_poses", "--use_disp", "--dataset_name", "llff"]
    trained = cli.parse(words, "train.py")
    assert trained.data.spheric
    assert trained.model.use_disp
    assert cli.parse(["--root_dir", "x", "--spheric"], "train.py").data.spheric
    evaluated = cli.parse([*words, "--ckpt_path", "c"], "eval.py")
    assert evaluated.spheric
    assert evaluated.use_disp


def test_classic_defaults():
    a = cli.parse(["--root_dir", "x"], "train.py")
    assert (a.model.N_samples, a.model.N_importance, a.model.noise_std, a.model.perturb) == (64, 128, 1.0, 1.0)
    assert (a.train.batch_size, a.train.chunk, a.train.num_epochs, a.data.img_wh) == (1024, 32768, 16, (800, 800))
    assert (a.optim.lr_scheduler, a.optim.decay_step, a.optim.decay_gamma) == ("steplr", (20,), 0.1)
    assert not a.optim.lr_per_step


@pytest.mark.parametrize("words", [["--method", "nerf"], ["--method=nerf"], ["--method", "ngp", "--method", "nerf"]])
def test_the_method_sets_the_defaults(words):
    ours, theirs = cli.parse(["train", "x"]), cli.parse(["train", *words, "x", "--lr", "0.5"])
    assert (ours.method, theirs.method) == ("ngp", "nerf")
    assert (ours.optim, ours.train.batch_size) == (METHODS["ngp"].preset.optim, METHODS["ngp"].preset.train.batch_size)
    assert theirs.optim == replace(METHODS["nerf"].preset.optim, lr=0.5)
    assert theirs.train == replace(METHODS["nerf"].preset.train, exp_name="")
    assert (ours.name, theirs.name) == ("x-ngp", "x-nerf")


@pytest.mark.parametrize(
    ("words", "option", "theirs", "ours"),
    [
        (["--N_samples", "9"], "N_samples", "nerf", "ngp"),
        (["--use_disp"], "use_disp", "nerf", "ngp"),
        (["--method", "nerf", "--no_random_background"], "no_random_background", "ngp", "nerf"),
        (["--net-width=64", "--lr", "1"], "net_width", "nerf", "ngp"),
        (["--method", "nerf", "--levels", "9"], "levels", "ngp", "nerf"),
        (["--method=nerf", "--seen_detail=1"], "seen_detail", "ngp", "nerf"),
    ],
)
def test_options_of_another_method_are_refused(capsys, words, option, theirs, ours):
    told = refused(capsys, "train", "x", *words)
    expected = f"--{option} is an option of --method {theirs}, and this training is of {ours}"
    assert told == f"nerf: {expected}: leave it out, or add --method {theirs}"


def test_options_that_both_methods_have_are_those_of_the_chosen_one():
    assert cli.parse(["train", "x", "--grad_share", "0.5"]).model.grad_share == 0.5
    assert cli.parse(["train", "x", "--method", "nerf", "--grad_share", "0.5"]).model.grad_share == 0.5


def test_a_method_that_is_not_known(capsys):
    assert refused(capsys, "train", "x", "--method", "nerv") == "nerf: --method nerv is not known: give ngp or nerf"


@pytest.mark.parametrize(
    ("words", "max_steps", "seconds"),
    [
        ([], None, (60, 20)),
        (["--max_steps", "5"], 5, None),
        (["--max-steps=5", "--seconds", "7"], 5, 7),
        (["--seconds", "7"], None, 7),
        (["--num_epochs", "2"], None, None),
        (["--method", "nerf", "--max_steps", "5"], 5, None),
    ],
)
def test_what_is_typed_decides_how_long_it_takes(words, max_steps, seconds):
    """seconds: of most scenes, and of photos from one side, where they differ."""
    a = cli.parse(["train", "x", *words])
    config = Config(a.method, a.model, train=a.train)
    found = [METHODS[a.method].complete(config, "cpu", SceneKind(ndc=ndc)).train for ndc in (False, True)]
    assert [train.max_steps for train in found] == [max_steps] * 2
    assert tuple(train.seconds for train in found) == (seconds if isinstance(seconds, tuple) else (seconds,) * 2)
    assert found[0].num_epochs == (2 if "--num_epochs" in words else 16)


def test_a_length_that_is_typed_ends_a_resumed_run_too(run):
    train = cli.parse(["train", "x", "--exp_name", "tiny", "--resume"]).train
    assert (train.max_steps, train.seconds) == (12, None)
    train = cli.parse(["train", "x", "--exp_name", "tiny", "--resume", "--seconds", "9"]).train
    assert (train.max_steps, train.seconds) == (None, 9)


def test_train_eval_and_render(scene_dir, capsys):
    nerf("train", scene_dir, *FLAGS, "--batch_size", 64, "--max_steps", 3, "--num_gpus", 0)
    out, err = capsys.readouterr()
    assert not err
    first, second, third, fourth = out.splitlines()
    assert first.endswith("4 views of 16 x 16 to train on, 1 for validation")
    assert second in ("CPU, plain PyTorch, fp32", "CPU, compiled by Numba, fp32")
    speed, scores = r"100%  step 3  \S+ step/s  \S+ rays/s", r"train \d+\.\d\d val \d+\.\d\d dB(  \S+ [MG]B)?"
    assert re.fullmatch(rf"{speed}  {scores}  0:00 left", third)
    assert fourth.endswith("next: nerf eval runs/toys-nerf, nerf render runs/toys-nerf")
    run = Path("runs/toys-nerf")
    nerf("eval", run)
    assert set(json.loads((run / "metrics.json").read_text())) >= {"psnr", "ssim", "views", "checkpoint"}
    assert {"000.png", "001_target.png", "test.mp4", "test.gif"} <= set(files(run / "renders/test"))
    assert "report.html" in files(run)
    nerf("eval", run, "--split", "val", "--checkpoint", "best", "--num_gpus", 0)
    assert (run / "metrics_val.json").is_file()
    nerf("render", run, "--frames", 3, "--img_wh", 24, 24)
    assert {"360.mp4", "360.gif", "360_depth.mp4"} <= set(files(run / "renders"))
    nerf("render", run / "checkpoints" / "best.ckpt", "--path", "test")
    assert (run / "renders" / "test.mp4").is_file()


def test_the_same_seed_gives_the_same_run(scene_dir):
    for name in ("a", "b"):
        nerf("train", scene_dir, *FLAGS, "--batch_size", 64, "--max_steps", 3, "--num_gpus", 0, "--exp_name", name)
    a, b = (content(Path("runs") / name) for name in "ab")
    assert all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"])


def test_resume_needs_only_the_name(run, scene_dir):
    nerf("train", scene_dir, "--exp_name", "tiny", "--resume", "--max_steps", 13, "--use_disp")
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert stored["global_step"] == 13
    assert stored["config"]["model"]["net_width"] == 32
    assert stored["config"]["model"]["use_disp"]
    nerf("train", scene_dir, "--exp_name", "tiny", "--resume", "--max_steps", 14, "--use_disp")
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["config"]["model"]["use_disp"]


def test_demo(scene_dir, monkeypatch, capsys):
    """The command makes its own scene; here a small one stands in for it."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(demo, "make_demo", lambda root: scene_dir)
    nerf("demo", "--seconds", 0.1, "--num_gpus", 0)
    assert json.loads(Path("runs/demo/metrics.json").read_text())["psnr"] > 3
    assert {"report.html", "renders/360.mp4"} <= set(files("runs/demo"))
    *_, path, last = capsys.readouterr().out.splitlines()
    assert path.startswith("the command nerf is not on the path of this shell: ")
    assert last.endswith("; next: nerf view runs/demo")


def test_a_demo_is_named_after_its_folder_however_that_is_typed(scene_dir, monkeypatch, capsys):
    def stop(config, *_, **__):
        raise UserError(config.train.exp_name)

    monkeypatch.setattr(demo, "make_demo", lambda root: scene_dir)
    monkeypatch.setattr(training, "train", stop)
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert refused(capsys, "demo", "--out", ".", "--num_gpus", 0) == "nerf: here"


def test_a_demo_that_was_stopped_says_which_command_goes_on(scene_dir, monkeypatch, capsys):
    def stop(config, root, folders, **_):
        raise Interrupted(f"{folders.last} is saved", True)

    monkeypatch.setattr(demo, "make_demo", lambda root: scene_dir)
    monkeypatch.setattr(training, "train", stop)
    monkeypatch.setattr(cli, "report", lambda *_: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    saved = "nerf: interrupted; runs/demo/checkpoints/last.ckpt is saved"
    with pytest.raises(SystemExit):
        nerf("demo", "--num_gpus", 0)
    out, told = capsys.readouterr()
    assert "the command nerf is not on the path of this shell: " in out
    assert told.strip() == f"{saved}: nerf train data/demo --exp_name demo --resume goes on"
    told = refused(capsys, "demo", "--num_gpus", 0, "--out", "elsewhere", code=130)
    assert told.endswith("last.ckpt is saved")  # nerf train finds runs alone


def test_bench(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr(classic, "SIZE", 16)
    monkeypatch.setattr(classic, "RAYS", 16)
    nerf("bench", "nerf", scene_dir, "--steps", 1, "--view", 4, "--precisions", "fp32")
    (result,) = json.loads(Path("runs/bench/results.json").read_text())
    assert result["precision"] == "fp32"
    assert result["median_ms"] > 0
    assert "fp32" in Path("runs/bench/table.md").read_text()
    assert "ms a step" in capsys.readouterr().out


def test_bench_of_ngp(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr(budgets, "WARM_UP", 1)
    monkeypatch.setattr(budgets, "STEPS", 1)
    nerf("bench", "ngp", scene_dir, "--seconds", 0.1, "--split", "val")
    results = json.loads(Path("runs/bench/results.json").read_text())
    assert results["step"]["ms"] > 0
    assert results["step"]["rays"] > 0
    (budget,) = results["budgets"]
    assert budget["seconds"] == 0.1
    assert budget["steps"] > 0
    assert budget["views"] == budget["fast"]
    assert budget["views"]["psnr"] > 3
    assert budget["views"]["fps"] > 0
    assert "| 0.1 |" in Path("runs/bench/table.md").read_text()
    assert Path("runs/bench/curve.png").is_file()
    assert "views/s" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["ngp", "nerf"])
def test_help_shows_the_defaults_of_the_method(method, capsys):
    with pytest.raises(SystemExit):
        nerf("train", "--method", method, "--help-all")
    out = capsys.readouterr().out
    assert f"(default: {method})" in out
    assert f"(default: {METHODS[method].preset.optim.lr:g})" in out
    assert ("--N_importance INT" in out, "--net_width INT" in out) == (method == "nerf",) * 2
    assert ("--levels INT" in out, "--rays_per_pixel INT" in out) == (method == "ngp",) * 2
    assert "--batch_size INT" in out


@pytest.mark.parametrize("words", [[], ["--help"], ["train", "--help"], ["eval", "--help"], ["bench", "--help"]])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as stop:
        nerf(*words)
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "None|" not in out
    assert "{None}" not in out
    if not words:
        assert all(command in out for command in ("train", "eval", "render", "demo", "import", "bench"))


LONG = f"/{60 * 'a'}/{60 * 'b'}"  # wider than a terminal


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train x --batchsize 3", "Unrecognized options: --batchsize, 3; perhaps you meant --batch_size; see "),
        ("train x --batchsize 3 --levls 4", "; perhaps you meant --batch_size or --levels; see nerf train --help"),
        ("train", "Missing from nerf train: PATH Folder of the scene. (required); see nerf train --help"),
        (
            "trian x",
            "Unrecognized options: trian, x; Available subcommands: train, eval, render, view, mesh, points, export, ",
        ),
        (f"eval x {LONG}", f"Unrecognized options: {LONG}; see nerf eval --help"),
        ("train.py --root_dir x --N_sample 3", "perhaps you meant --N_samples; see train.py --help"),
        ("eval.py --root_dir x --ckpt_path x --save_dept", "perhaps you meant --save_depth; see eval.py --help"),
    ],
)
def test_what_is_not_understood_is_answered_in_one_line_with_a_hint(capsys, command, told):
    words = command.split()
    classic = words[0] if words[0].endswith(".py") else None
    assert told in refused(capsys, *words[bool(classic) :], program=classic or "nerf")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train x --optimizer adm", "--optimizer adm cannot work: give sgd, adam, radam or ranger"),
        ("train x --lr fast", "--lr fast cannot work: give a number, for instance 0.005"),
        ("train --seconds abc x", "--seconds abc cannot work: give a number, for instance 15"),
        ("train x --downscale=3.7", "--downscale 3.7 cannot work: give a whole number, for instance 2"),
        ("train x --max_steps it's", "--max_steps 'it'\"'\"'s' cannot work: give a whole number, for instance 20000"),
        ("train x --decay_step 1 a", "--decay_step 1 a cannot work: give whole numbers, for instance 2 4 8"),
        ("train x --background 1 2", "--background 1 2 cannot work: give white, black, auto, none, or red, green and"),
        ("train x --img_wh 3", "--img_wh 3 cannot work: give a width and a height in pixels, up to 65536, for "),
        ("train x --lr", "--lr lacks a value: give a number, for instance 0.005"),
        ("demo --num_gpus 2", "--num_gpus 2 cannot work: give 0 or 1"),
        ("train x --spheric maybe", "--spheric maybe cannot work, it takes no value: give --spheric or --no_spheric"),
        ("train --spheric=maybe", "--spheric=maybe cannot work, it takes no value: give --spheric or --no_spheric"),
        ("train x --no-spheric=True", "--no-spheric=True cannot work, it takes no value: give --spheric or --no_"),
        ("train x --lr 1 --view False", "--view False cannot work, it takes no value: give --view, or leave it out"),
        ("sweep x --overwrite=1", "--overwrite=1 cannot work, it takes no value: give --overwrite, or leave it out"),
        ("train x --resume=maybe", "--resume=maybe cannot work: give --resume or --resume auto, or leave it out"),
        ("train x --resume maybe", "--resume maybe cannot work: give --resume or --resume auto, or leave it out"),
        ("train.py --root_dir x --use_disp= --lr 1", "--use_disp= cannot work, it takes no value: give --use_disp or "),
        ("train x --spheric --lrr 1", "Unrecognized options: --lrr, 1; perhaps you meant --lr"),
        ("render x --keep_frames --downscale 2", "Unrecognized options: --downscale, 2; perhaps you meant nerf train"),
        ("info x --spheric yes", "--spheric yes cannot work, it takes no value: give --spheric or --no_spheric"),
        ("demo --out", "--out lacks a value: give a path"),
        ("train.py --root_dir x --img_wh 400 abc", "--img_wh 400 abc cannot work: give a width and a height in pixels"),
    ],
)
def test_a_value_that_is_not_understood_is_told_with_what_to_give(capsys, command, told):
    words = command.split()
    classic = words[0] if words[0].endswith(".py") else None
    message = refused(capsys, *words[bool(classic) :], program=classic or "nerf")
    assert message.removeprefix(f"{classic or 'nerf'}: ").startswith(told)


@pytest.mark.parametrize("words", ["export x --scene x.nerf", "demo", "eval.py --root_dir x --ckpt_path c"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_choice_of_0_or_1_is_no_flag(words, number):
    program, *others = words.split() if words.startswith("eval.py") else ("nerf", *words.split())
    assert cli.parse([*others, f"--num_gpus={number}"], program).num_gpus == number


def test_a_refusal_that_looks_otherwise_is_still_one_line(capsys):
    """As that of another version of the parser might."""

    def parse():
        print("no such\n  option", file=sys.stderr)
        sys.exit(2)

    with pytest.raises(UserError, match=r"^no such option$"):
        in_one_line(parse)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("number", "text"), [(0.5, "0.5"), (999.7, "1k"), (12_345, "12.3k"), (999_900, "1M")])
def test_numbers_in_the_bar(number, text):
    assert short_number(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.6, "1:02"), (3599.9, "1:00:00"), (7325, "2:02:05")])
def test_time_in_the_bar(seconds, text):
    assert clock_time(seconds) == text


def test_the_package_can_be_run_as_a_module(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nerf_pl", "train"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("nerf_pl", run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("nerf: ")
