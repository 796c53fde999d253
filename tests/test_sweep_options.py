"""Sweeps over runs that are there, with the same options or others."""

import json
from pathlib import Path

import pytest

from nerf_pl.errors import UserError
from nerf_pl.report.history import Entry, add_to_history
from nerf_pl.sweep import (
    DONE,
    VALUES,
    Job,
    Row,
    Slot,
    planned,
    read_rows,
    require_same_options,
    require_same_scenes,
    row_of,
    weights_of,
    worker,
    write_scores,
)
from nerf_pl.training.machines import NUMBERS, started_elsewhere


@pytest.mark.parametrize(
    ("before", "now", "may"),
    [
        ("--lr 1 --seconds 5", "--seconds 9 --lr 1", True),
        ("--lr 1 --num_gpus 0", "--lr 1 --num_gpus 2", True),
        ("", "--seconds 9", True),  # it was trained for 8 s
        ("--lr 1", "--lr 2", False),
        ("--lr 1", "", False),
        ("", "--no_mirror", False),
        ("--seconds 8", "--seconds 5", False),
        ("", "--seconds 5", False),
        ("--seconds 8", "--max_steps 500", True),
        ("--seconds 8", "--max_steps 50", False),
    ],
)
def test_runs_of_other_options_are_not_scored_as_if_they_had_those_of_today(tmp_path, monkeypatch, before, now, may):
    monkeypatch.chdir(tmp_path)
    last = Path("runs/a/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    old = Row("a", "a", "ngp", state=DONE, asked=tuple(before.split()), weights="x", seconds=8.0, steps=100)
    each = [Job(Path("runs/a"), "a", "ngp", None, tuple(now.split()), ())]
    require_same_options(each, {"a": old})  # nothing is there that could go on
    last.write_text("weights")
    require_same_options(each, {})
    if may:
        require_same_options(each, {"a": old})
    else:
        told = f"runs/a was trained with {before or 'defaults'}, asked now: {now or 'defaults'}: give the same options"
        with pytest.raises(UserError, match=told):
            require_same_options(each, {"a": old})


def test_runs_of_another_scene_of_the_same_name_are_not_taken_for_those_of_this_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("here/a", "there/a", "runs/a/checkpoints"):
        Path(folder).mkdir(parents=True)
    each = [Job(Path("runs/a"), "a", "ngp", None, (), ())]
    Path("runs/a/settings.json").write_text(json.dumps({"scene": str(Path("here/a").resolve())}))
    require_same_scenes(each, {"a": Path("there/a")})  # nothing was saved
    Path("runs/a/checkpoints/last.ckpt").touch()
    require_same_scenes(each, {"a": Path("here/../here/a")})
    with pytest.raises(UserError, match=r"runs/a was trained on .*here/a, and not on there/a: give another --exp_name"):
        require_same_scenes(each, {"a": Path("there/a")})
    Path("here/a").rmdir()
    require_same_scenes(each, {"a": Path("there/a")})  # it has moved


def test_trainings_of_a_sweep_are_no_parts_of_a_larger_one(tmp_path, monkeypatch):
    """Whatever started the sweep as one of several processes: each would wait for others that never come."""
    for name in NUMBERS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(worker, "PROGRAM", ("-c",))
    with (tmp_path / "out").open("wb") as out:
        words = ["from nerf_pl.training.machines import started_elsewhere as s; print(s())"]
        assert worker._started(words, Slot("here"), out).wait(60) == 0
    assert (tmp_path / "out").read_text() == "False\n"
    assert started_elsewhere()


def command(words: str, version: str, machine: str = "GPU 1") -> Entry:
    return Entry(
        words, "2026-01-01T00:00:00+00:00", 1.0, " train " in words, machine, {"nerf_pl": version, "PyTorch": "2"}
    )


def test_the_table_states_the_versions_of_each_run(tmp_path, monkeypatch):
    """Those that trained and scored it, whatever the sweep has that goes on today. What was rendered since says
    nothing of the scores."""
    monkeypatch.chdir(tmp_path)
    made = {
        "a": [command("nerf train x", "1"), command("nerf eval runs/a", "1"), command("nerf render runs/a", "9")],
        "b": [command("nerf train x", "1"), command("nerf eval runs/b", "1")],
        "c": [command("nerf train x", "1"), command("nerf eval runs/c", "2", "GPU 2")],
        "d": [],
    }
    jobs = [Job(Path("runs") / name, name, "ngp", None, (), ()) for name in made]
    rows = {}
    for job in jobs:
        last = job.run / "checkpoints" / "last.ckpt"
        last.parent.mkdir(parents=True)
        last.write_text(job.name)
        for entry in made[job.name]:
            add_to_history(job.run, entry, anew=False)
        rows[job.name] = Row(job.name, job.scene, "ngp", state=DONE, weights=weights_of(job.run), psnr=20.0)
    protocol = {"machine": "today", "versions": "nerf_pl 9, PyTorch 9"}
    waiting = row_of(Job(Path("runs/e"), "e", "ngp", None, (), ()))
    write_scores(Path("runs"), [waiting], protocol)
    assert "- machine: today\n- versions: nerf_pl 9, PyTorch 9\n" in Path("runs/scores.md").read_text()
    write_scores(Path("runs"), [*planned(jobs, rows, overwrite=False).values(), waiting], protocol)
    told = Path("runs/scores.md").read_text()
    assert "- machine: GPU 1; but of c: GPU 1, then GPU 2; but of d: not known\n" in told
    first, then = "nerf_pl 1, PyTorch 2", "nerf_pl 1, PyTorch 2, then nerf_pl 2, PyTorch 2"
    assert f"- versions: {first}; but of c: {then}; but of d: not known\n" in told
    values = json.loads((Path("runs") / VALUES).read_text())
    assert [row["versions"] for row in values["runs"]] == [first, first, then, "", ""]
    assert values["protocol"]["versions"] in told
    for row in values["runs"]:  # as earlier versions wrote it
        del row["machine"], row["versions"]
    (Path("runs") / VALUES).write_text(json.dumps(values))
    again = planned(jobs, read_rows(Path("runs")), overwrite=False)
    assert (again["c"].machine, again["c"].versions) == ("GPU 1, then GPU 2", then)
    write_scores(Path("runs"), [again["a"], again["b"]], protocol)
    assert f"- machine: GPU 1\n- versions: {first}\n" in Path("runs/scores.md").read_text()
