"""What `nerf --help` shows, and what a mistyped word is answered with."""

import re
from pathlib import Path

import pytest
from tiny import nerf, refused

import nerf_pl
from nerf_pl.cli.completion import install
from nerf_pl.cli.help import OTHERS, options_of
from nerf_pl.cli.hints import meant_command, meant_options
from nerf_pl.cli.parse import CLASSIC_COMMANDS, COMMANDS, parse
from nerf_pl.cli.train import train_command, train_defaults
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS

COMING = Path(__file__).resolve().parent.parent / "docs" / "coming.md"
ALL = {name: [option.name for option in options_of(command)] for name, command in COMMANDS.items() if name != "train"}
ALL |= {f"train {name}": [o.name for o in options_of(train_command(name))] for name in METHODS}
PLACES = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR", "BASH_COMPLETION_USER_DIR")
TRAININGS = {
    **{f"train --method {name}": train_defaults(method.preset) for name, method in METHODS.items()},
    "train.py": CLASSIC_COMMANDS["train.py"],
}


def shown(capsys, command: str, *words: str) -> str:
    program, *rest = command.split()
    first = [] if program.endswith(".py") else [program]
    with pytest.raises(SystemExit) as stop:
        nerf(*first, *rest, *words, program=program if program.endswith(".py") else "nerf")
    assert stop.value.code == 0
    return capsys.readouterr().out


def listed(text: str) -> set[str]:
    """The options that have a row of their own."""
    return set(re.findall(r"^\W{1,4}--(\w+)", text, re.M)) - {"root_dir"}


@pytest.mark.parametrize("command", TRAININGS)
def test_the_short_help_has_some_fifteen_options_and_the_long_one_all(capsys, command):
    options = options_of(TRAININGS[command])
    names = {option.name for option in options if not option.is_required}
    short, long = (shown(capsys, command, word) for word in ("--help", "--help-all"))
    assert listed(short) == {option.name for option in options if option.help.common}
    assert 10 <= len(listed(short)) <= 18
    assert {"seconds", "downscale", "exp_name"} <= listed(short)
    assert f"--help-all shows the other {len(names - listed(short))}, too" in short
    assert listed(long) == names


@pytest.mark.parametrize("command", TRAININGS)
def test_every_option_of_a_training_is_sorted_and_its_example_is_accepted(command):
    program, *words = command.split()
    line = ["--root_dir", "x"] if program.endswith(".py") else [program, "x", *words]
    for option in options_of(TRAININGS[command]):
        if option.is_required or option.name == "method":
            continue
        assert option.text, f"--{option.name} has no text"
        assert option.help.purpose != OTHERS, f"--{option.name} has no purpose: see options/purposes.py"
        line += [f"--{option.name}", *option.help.example.split()]
    parse(line, program if program.endswith(".py") else "nerf")


def test_the_texts_of_an_option_stand_on_their_boxes(capsys):
    text = shown(capsys, "train", "--help-all")
    for title in ("run options", "length options", "picture options", "model size options", "loss options"):
        assert f" {title} " in text
    assert "(default: 1) (example: --downscale 2)" in " ".join(text.replace("│", " ").split())
    assert "(example: --seconds 15)" in " ".join(text.replace("│", " ").split())


def test_other_commands_take_help_all_for_help(capsys):
    assert shown(capsys, "eval", "--help-all") == shown(capsys, "eval", "--help")


def test_nerf_alone_shows_the_way_from_photos_to_a_film(capsys):
    with pytest.raises(SystemExit):
        nerf()
    text = capsys.readouterr().out
    steps = [text.index(f"nerf {step}") for step in ("prepare PHOTOS", "train SCENE", "eval runs/", "render runs/")]
    assert steps == sorted(steps)


def test_options_of_a_class_and_of_an_instance_are_the_same():
    by_class = [option.name for option in options_of(train_command("ngp"))]
    assert by_class == [option.name for option in options_of(TRAININGS["train --method ngp"])]


@pytest.mark.parametrize("program", ["nerf", "train.py", "eval.py"])
def test_version(capsys, program):
    with pytest.raises(SystemExit) as stop:
        nerf("--version", program=program)
    assert not stop.value.code
    assert capsys.readouterr().out == f"nerf_pl {nerf_pl.__version__}\n"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("trian", ["train"]),
        ("Train", ["train"]),
        ("rende", ["render"]),
        ("maesh", ["mesh"]),
        ("xyzzy", []),
        ("compare", ["report"]),
        ("process-data", ["prepare"]),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(word, meant):
    assert meant_command(word, COMMANDS) == meant


def test_a_folder_or_a_film_in_place_of_a_command_is_something_to_train_on_or_to_prepare(tmp_path):
    (film := tmp_path / "film.mp4").touch()
    assert meant_command(str(tmp_path), COMMANDS) == [f"nerf train {tmp_path}"]
    assert meant_command(str(film), COMMANDS) == [f"nerf prepare {film}"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--seconsd", ["--seconds"]),
        ("--iters=3", ["--max_steps"]),
        ("--learning-rate", ["--lr"]),
        ("--gpus", ["--num_gpus"]),
        ("--frames", ["nerf render, which has --frames"]),
        ("--pipeline.model.near-plane", ["--near"]),
        ("--pipeline.model.camera-optimizer.mode=off", ["--refine_poses"]),
        ("--xyzzy", []),
        ("-1", []),
        ("word", []),
    ],
)
def test_a_mistyped_option_is_answered_with_the_nearest(word, meant):
    own = [option.name for option in options_of(TRAININGS["train --method ngp"])]
    assert meant_options([word], own, {"frames": "nerf render"}) == meant


def rows_of_others() -> list[tuple[list[str], str]]:
    """Of the page for those who come from other programs: options of theirs, and what it says of them."""
    text = COMING.read_text(encoding="utf-8").partition("## From the classic")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.M)
    return [(re.findall(r"`(--[\w.-]+)", theirs), ours) for theirs, ours in rows]


@pytest.mark.parametrize(("theirs", "ours"), [row for row in rows_of_others() if row[0]])
def test_options_of_other_programs_are_answered_with_those_of_the_page(theirs, ours):
    named = {name.replace("--no_", "--") for name in re.findall(r"--\w+", ours)}
    if named - {"--logdir", "--scene"}:
        assert named & {name for options in ALL.values() for name in meant_options(theirs, options, {})}


def test_the_options_that_the_page_advises_are_there():
    known = {option for options in ALL.values() for option in options} | {"logdir"}
    advised = {name for _, ours in rows_of_others() for name in re.findall(r"--([a-z]\w+)", ours)}
    assert {name.removeprefix("no_") for name in advised} <= known


def test_the_line_has_the_suggestion(capsys):
    assert "; perhaps you meant train; see nerf --help" in refused(capsys, "trian", "x")
    for option in ("--data", "--scene", "--root_dir"):
        assert f"perhaps you meant the folder alone, without {option}; see" in refused(capsys, "train", option, "x")
    assert "; perhaps you meant nerf render, which has --fps; see nerf eval --help" in refused(
        capsys, "eval", "x", "--fps", 3
    )


def test_an_option_of_the_other_classic_command_is_told_so():
    words = ["--root_dir", "x", "--ckpt_path", "y"]
    with pytest.raises(UserError, match=r"perhaps you meant train\.py, which has --net_depth"):
        parse([*words, "--net_depth", "4"], "eval.py")
    with pytest.raises(UserError, match=r"perhaps you meant eval\.py, which has --scene_name"):
        parse([*words, "--scene_name", "lego"], "train.py")


def test_completion_is_written_to_where_the_shell_looks(capsys, monkeypatch, tmp_path):
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    with pytest.raises(SystemExit) as stop:
        nerf("--install-completion")
    assert not stop.value.code
    file = tmp_path / ".local/share/bash-completion/completions/nerf"
    assert f"source {file}" in capsys.readouterr().out
    script = file.read_text(encoding="utf-8")
    assert "seconds" in script
    assert "prepare" in script


@pytest.mark.parametrize(
    ("shell", "file", "told"),
    [("zsh", ".zfunc/_nerf", "fpath+="), ("fish", ".config/fish/completions/nerf.fish", "new shells")],
)
def test_each_shell_has_a_place_of_its_own(capsys, tmp_path, shell, file, told):
    install(shell, lambda name, path: path.write_text(name), {"HOME": str(tmp_path), "SHELL": "/bin/bash"})
    assert (tmp_path / file).read_text() == shell
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("words", "shell"), [(["tcsh"], "/bin/bash"), ([], "/bin/tcsh"), ([], "")])
def test_an_unknown_shell_is_refused(monkeypatch, words, shell):
    monkeypatch.setenv("SHELL", shell)
    with pytest.raises(UserError, match="give --install-completion bash, zsh or fish"):
        parse(["--install-completion", *words])
