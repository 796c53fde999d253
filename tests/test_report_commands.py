"""Every command that adds to a run makes its report anew, and notes what it did."""

import os
import re
import shutil
from pathlib import Path

import pytest
from report_files import Page, report
from tiny import NGP_FLAGS, config, nerf, refused

from nerf_pl.cli import parse
from nerf_pl.errors import Interrupted
from nerf_pl.options import RunFolders
from nerf_pl.report.history import read_history
from nerf_pl.training.callbacks import Interrupt
from nerf_pl.training.run import train


@pytest.fixture
def run(trained_ngp, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained_ngp, "runs/tiny"))


def test_every_command_that_adds_to_a_run_makes_its_report_anew(run, capsys):
    file = run / "report.html"
    nerf("eval", run, "--num_gpus", 0)
    assert f"report {file}" in capsys.readouterr().out
    first = Page(file)
    assert {"Views", "Scores", "Training", "Cameras from above", "Settings"} <= {*first.headings}
    assert "ray-traced" in first.told
    assert "nerf eval runs/tiny --num_gpus 0" in first.told
    assert {title for title in re.findall(r"<title>(.*?)</title>", first.text)} >= {"tiny"}
    assert re.search(r"<title>test r_0: \d+\.\d\d dB</title>", first.text)  # of a camera
    nerf("render", run, "--frames", 2, "--img_wh", 8, 8, "--num_gpus", 0)
    second = Page(file)
    assert len(second.all("video")) == 2
    assert [entry.command.split()[1] for entry in read_history(run)] == ["eval", "render"]
    assert not any(entry.trains for entry in read_history(run))


def test_a_training_begins_the_history_and_makes_older_scores_old(scene_dir, run):
    nerf("eval", run, "--num_gpus", 0)
    os.utime(run / "metrics.json", (1, 1))
    words = ["train", scene_dir, "--exp_name", "tiny", "--num_gpus", 0, "--resume", "--max_steps"]
    nerf(*words, 21)
    shown = Page(run / "report.html")
    assert "trained on since it was scored" in shown.told
    assert [entry.trains for entry in read_history(run)] == [False, True]
    nerf("eval", run, "--num_gpus", 0)
    assert "trained on since" not in Page(run / "report.html").told
    nerf(*words[:6], "--overwrite", "--max_steps", 1, "--levels", 2, "--log2_size", 8, "--samples", 512)
    assert [entry.command.split()[1] for entry in read_history(run)] == ["train"]


def test_a_run_that_was_never_scored(scene_dir, tmp_path):
    run = tmp_path / "a run"
    train(config(), scene_dir, RunFolders.modern(run))
    shown = report(run)
    assert "not scored yet" in shown.told
    assert f"nerf eval '{run}'" in shown.told
    assert "validation PSNR" in shown.told
    assert {"Training", "Cameras from above", "Settings"} <= {*shown.headings}
    assert [b for b in ("PSNR", "Loss (mean squared error)", "Rays a second", "Learning rate")
            if f"<b>{b}</b>" not in shown.text] == []  # fmt: skip


def test_the_classic_commands_leave_reports(scene_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--net_depth", 2, "--net_width", 32, "--net_skip", 1, "--N_samples", 4, "--num_gpus", 0]
    size = ["--img_wh", 16, 16, "--N_importance", 4]
    nerf("--root_dir", scene_dir, *words, *size, "--max_steps", 2, "--exp_name", "e", program="train.py")
    assert "Training" in Page(Path("logs/e/report.html")).headings
    words = ["--root_dir", scene_dir, "--ckpt_path", "ckpts/e/last.ckpt", *size, "--N_samples", 4, "--num_gpus", 0]
    nerf(*words, "--scene_name", "toys", program="eval.py")
    shown = Page(Path("results/blender/toys/report.html"))
    assert {"Views", "Training", "Cameras from above", "Settings"} <= {*shown.headings}
    assert "python eval.py" in shown.told
    nerf("report", "results/blender/toys")
    assert Page(Path("results/blender/toys/report.html")).headings == shown.headings


def test_the_report_of_a_run_without_settings(run):
    """As `nerf import` makes it: the checkpoint knows them."""
    (run / "settings.json").unlink()
    shutil.rmtree(run / "logs")
    nerf("report", run)
    shown = Page(run / "report.html")
    assert "ngp" in shown.told
    assert "Settings" in shown.headings
    assert "Training" not in shown.headings


def test_mesh_adds_only_to_the_run_beside_it(run, tmp_path):
    assert parse(["mesh", str(run)]).added.folder == run
    assert parse(["mesh", str(run), "--out", str(run / "small.glb")]).added.folder == run
    assert parse(["mesh", str(run), "--out", str(tmp_path / "mesh.ply")]).added is None


def test_links_lead_from_the_page_to_the_files(run, tmp_path):
    """Wherever the page is written."""
    (run / "mesh one.ply").write_text("ply")
    nerf("report", run, "--out", tmp_path / "pages" / "a.html")
    (link,) = Page(tmp_path / "pages" / "a.html").all("a", href="../runs/tiny/mesh%20one.ply")
    assert link
    nerf("report", run)
    assert Page(run / "report.html").all("a", href="mesh%20one.ply")


def test_what_is_exported_into_the_folder_is_listed(run, tmp_path):
    nerf("export", run, "--scene", tmp_path / "away.nerf", "--num_gpus", 0)
    assert not (run / "report.html").exists()
    nerf("export", run, "--scene", run / "small scene.nerf", "--num_gpus", 0)
    shown = Page(run / "report.html")
    assert "Files" in shown.headings
    assert shown.all("a", href="small%20scene.nerf")
    assert not shown.all("a", href="report.html")


def test_the_results_of_a_portable_scene_have_a_report(run, tmp_path):
    nerf("export", run, "--scene", tmp_path / "toys.nerf", "--num_gpus", 0)
    nerf("render", tmp_path / "toys.nerf", "--frames", 2, "--img_wh", 8, 8, "--num_gpus", 0)
    shown = Page(tmp_path / "toys" / "report.html")
    assert {"Films", "Cameras from above", "Settings"} <= {*shown.headings}
    assert "20 steps" in shown.told
    nerf("report", tmp_path / "toys.nerf")
    assert Page(tmp_path / "toys" / "report.html").headings == shown.headings


def test_an_interrupted_training_has_a_report(scene_dir, tmp_path, monkeypatch, capsys):
    def stop(self, *_):
        raise Interrupted("it is saved", True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Interrupt, "on_train_end", stop, raising=False)
    words = ["train", scene_dir, *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0, "--exp_name", "i"]
    assert "the same command with --resume goes on" in refused(capsys, *words, code=130)
    assert [entry.trains for entry in read_history(Path("runs/i"))] == [True]
    assert "Training" in Page(Path("runs/i/report.html")).headings


def test_report_refuses_what_is_no_run(tmp_path, capsys):
    assert refused(capsys, "report", tmp_path / "gone").endswith(
        "gone does not exist: give the folder of a training, such as runs/NAME"
    )
    assert "holds no run" in refused(capsys, "report", tmp_path)
    (tmp_path / "scores.md").touch()
    assert f"is of a sweep, and {tmp_path}/scores.md has its scores: give its runs, {tmp_path}-*" in refused(
        capsys, "report", tmp_path
    )
    assert "no run is named" in refused(capsys, "report")
    assert "name a .html file" in refused(capsys, "report", tmp_path, "--out", "x.pdf")
