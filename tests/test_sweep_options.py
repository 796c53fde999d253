"""Sweeps over runs that are there, with the same options or others."""

import json
from pathlib import Path

import pytest

from nerf_pl.errors import UserError
from nerf_pl.sweep import DONE, Job, Row, require_same_options, require_same_scenes


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
