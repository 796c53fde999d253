"""Many scenes from one command: what is passed on, the queue, what a second start does, and the table."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path

import pytest
from report_files import write_json, write_run
from tiny import NGP_FLAGS, PROJECT, nerf, refused

from nerf_pl import console
from nerf_pl.cli import parse
from nerf_pl.errors import UserError
from nerf_pl.metrics import FLOATERS_BY
from nerf_pl.signals import PARENT
from nerf_pl.sweep import (
    DONE,
    FAILED,
    STOPPED,
    Board,
    Job,
    Row,
    labels_of,
    markdown,
    planned,
    read_rows,
    row_of,
    scored,
    slots_of,
    work_through,
    worker,
)
from nerf_pl.sweep.slots import THREADS, VISIBLE, VISIBLE_AMD

SAYS = "import sys\nprint(sys.argv[1])\nprint(*sys.argv[2:3], file=sys.stderr)\nexec(*sys.argv[3:] or [''])"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (VISIBLE, VISIBLE_AMD, THREADS):
        monkeypatch.delenv(name, raising=False)


def job(name: str = "a", *commands: list[str], method: str = "ngp", seed: int | None = None) -> Job:
    given = commands or ([],)
    return Job(Path("runs") / name, name, method, seed, ("--lr", "1"), tuple(lambda c=c: c for c in given))


def passed(*words: str) -> dict[str, tuple[str, ...]]:
    return {each.config.method: each.asked for each in parse(["sweep", *words]).trainings}


def test_options_of_a_training_are_passed_on():
    words = ["a", "b", "--seconds", "5", "--background", "0", "0.5", "1", "--no_random_background", "--lr", "1e-3"]
    asked = {" ".join(passed(*words, *where)["ngp"]) for where in ([], ["--jobs", "2", "--seeds", "1", "2"])}
    assert asked == {"--no_random_background --background 0.0 0.5 1.0 --lr 0.001 --seconds 5.0"}
    assert passed("a", "--methods", "nerf", "ngp", "--lr=2") == {"nerf": ("--lr", "2.0"), "ngp": ("--lr", "2.0")}
    parse(["train", "a", *passed(*words)["ngp"]])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "--secnods", "5"], "perhaps you meant --seconds"),
        (["a", "--seconds", "-1"], "--seconds -1.0 cannot work"),
        (["a", "--net_depth", "2"], "--net_depth is an option of --method nerf"),
        (["a", "--methods", "nope"], "nope"),
        (["a", "--method", "ngp"], "perhaps you meant --methods"),
        (["a", "--methods", "ngp", "ngp"], "name each once"),
        (["a", "--seeds", "1", "--seed", "2"], "give it or --seed, not both"),
        (["a", "--jobs", "0"], "--jobs 0 cannot work"),
        (["a", "--num_gpus", "1", "--accelerator", "gpu"], "no CUDA GPU"),
        ([], "no scene is named"),
        (["a", "x/../a"], "is given twice"),
        (["file.txt"], "file.txt is a file"),
        (["x", "a", "--seconds", "5"], "a is not a folder: give the folders of scenes"),
        (["x/*"], "x/* is not a folder"),
        (["x", "--methods", "ngp", "nope"], "--methods nope is not known"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(capsys, monkeypatch, words, told):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    Path("file.txt").touch()
    Path("x").mkdir()
    assert told in refused(capsys, "sweep", *words)
    assert not Path("runs").exists()


def test_scenes_are_named_by_as_little_as_tells_them_apart():
    assert labels_of([Path("x/lego"), Path("x/mic")]) == ["lego", "mic"]
    assert labels_of([Path("x/lego"), Path("y/lego"), Path("mic/")]) == ["x-lego", "y-lego", "mic"]
    with pytest.raises(UserError, match="given twice"):
        labels_of([Path("x"), Path("./x")])
    with pytest.raises(UserError, match="x/a-b would have runs of the same name, a-b: rename"):
        labels_of([Path("p/b"), Path("a/b"), Path("x/a-b")])


def test_each_training_has_gpus_of_its_own(monkeypatch):
    assert [slot.environment[VISIBLE] for slot in slots_of("gpu", 1, 3, None)] == ["0", "1", "2"]
    assert [slot.environment[VISIBLE] for slot in slots_of("gpu", 2, 5, None)] == ["0,1", "2,3"]
    assert [slot.environment[VISIBLE] for slot in slots_of("gpu", 1, 2, 3)] == ["0", "1", "0"]
    monkeypatch.setenv(VISIBLE, "4,GPU-x")
    assert [slot.environment[VISIBLE] for slot in slots_of("gpu", 1, 2, None)] == ["4", "GPU-x"]
    monkeypatch.setenv(VISIBLE_AMD, "6,7")
    assert slots_of("gpu", 1, 2, 1)[0].environment == {VISIBLE: "4"}
    monkeypatch.setattr("torch.version.hip", "6.4")
    assert slots_of("gpu", 2, 2, None)[0].environment == {VISIBLE_AMD: "6,7"}
    assert slots_of("cpu", 1, 0, None)[0].environment == {}
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [slot.environment[THREADS] for slot in slots_of("cpu", 1, 0, 2)] == ["4", "4"]


@pytest.fixture
def work(monkeypatch):
    """Does jobs whose commands are for Python: what it prints, what it prints to stderr, and what it does then."""
    monkeypatch.setattr(worker, "PROGRAM", ("-c", SAYS))
    monkeypatch.setattr("nerf_pl.sweep.queue.GLANCE", 0.01)

    def works(jobs: list[Job], places: int = 1) -> tuple[int, dict[str, Row], list[str]]:
        rows, order = {each.name: row_of(each) for each in jobs}, []

        def ended(at: worker.Worker) -> None:
            order.append(f"{at.job.name} {at.told()[0]}".strip())
            rows[at.job.name] = row_of(at.job, STOPPED if at.stopped else FAILED if at.why else DONE, at.why)

        number = work_through(jobs, slots_of("cpu", 1, 0, places), Path("logs"), Board(jobs, rows), ended)
        return number, rows, order

    return works


def test_a_job_that_fails_does_not_end_the_others(work, capsys):
    def raises() -> list[str]:
        raise ValueError("no such split")

    line = " 50%  step 7  3 step/s  9 rays/s  train 20.10 val - dB  1.0 GB  0:07 left"
    jobs = [
        job("wrong", ["", "nerf: x is wrong: mend it", "sys.exit(2)"], ["never"]),
        job("killed", ["", "", "import os; os.kill(os.getpid(), 9)"]),
        job("mistake", ["", "", "1 / 0"]),
        Job(Path("runs/raises"), "raises", "ngp", None, (), (lambda: ["fine"], raises)),
        job("good", [line], ["        mean  PSNR  21.50 dB  SSIM 0.9000  (2 views)"]),
        job("half", [line]),
    ]
    number, rows, order = work(jobs)
    assert number == 0
    assert [rows[each.name].state for each in jobs] == [FAILED] * 4 + [DONE] * 2
    assert [rows[each.name].why for each in jobs[:4]] == [
        "x is wrong: mend it",
        "ended by SIGKILL; is there enough memory?",
        "ZeroDivisionError: division by zero",
        "no such split",
    ]
    assert order == ["wrong", "killed", "mistake", "raises", "good 21.50", "half 20.10"]
    assert Path("logs/good.log").read_text().startswith(line)
    assert "killed: failed: ended by SIGKILL" in capsys.readouterr().out


def test_jobs_run_at_the_same_time(work):
    """Each waits until the other one is there."""
    meets = "import pathlib, time\npathlib.Path({!r}).touch()\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    _, rows, _ = work([job("a", ["", "", meets.format("a", "b")]), job("b", ["", "", meets.format("b", "a")])], 2)
    assert {row.state for row in rows.values()} == {DONE}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_what_runs_and_starts_no_more(work, sent):
    asks = f"import os, signal, time\nos.kill(os.getppid(), {int(sent)})\ntime.sleep(60)"
    number, rows, order = work([job("a", ["", "", asks], ["next"]), job("b")])
    assert number == sent
    assert [rows[name].state for name in "ab"] == [STOPPED, "waiting"]
    assert order == ["a"]


def test_a_second_ctrl_c_does_not_wait(work):
    asks = "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nfor _ in range(600):\n    "
    asks += "os.kill(os.getppid(), 2)\n    time.sleep(0.1)"
    number, rows, _ = work([job("a", ["", "", asks])])
    assert (number, rows["a"].state) == (signal.SIGINT, STOPPED)


def test_a_terminal_shows_a_table(work, capsys, monkeypatch):
    monkeypatch.setattr(console.console, "_force_terminal", True)
    monkeypatch.setattr(console.console, "_height", 10)
    monkeypatch.setattr(console.console, "_width", 100)
    work([job("[red]a"), *(job(f"b{i}", ["", "nerf: wrong", "sys.exit(2)"]) for i in range(4)), job("last")])
    shown = capsys.readouterr().out
    assert "time left" in shown
    assert "failed: wrong" in shown
    assert "[red]a" in shown
    assert "and 2 more" in shown


def test_a_child_ends_when_the_sweep_is_gone(tmp_path):
    """Its process is started by another one that ends at once."""
    waits = "import time\nfrom nerf_pl.signals import end_with_parent\nend_with_parent()\nprint('here', flush=True)\n"
    waits += "import sys\nsys.stdin.read(1)\ntime.sleep(60)"
    starts = "import os, subprocess, sys\n"
    starts += f"subprocess.Popen([sys.executable, '-c', {waits!r}], env={{**os.environ, {PARENT!r}: str(os.getpid())}},"
    starts += " stdin=subprocess.PIPE, stdout=subprocess.PIPE).stdout.readline()"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    held, gone = os.pipe()
    subprocess.run([sys.executable, "-c", starts], env=environment, stderr=gone, timeout=30, check=True)
    os.close(gone)
    assert os.read(held, 1) == b""  # nobody holds the other end any more
    os.close(held)


def test_what_is_done_is_done(tmp_path):
    each = job("a")
    last = Path("runs/a/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    last.write_text("weights")
    done = planned([each], {}, overwrite=True)["a"]
    assert done.replaces
    done = Row("a", "a", "ngp", state=DONE, asked=each.asked, weights=done.weights, psnr=20.0, ssim=0.5)
    assert planned([each], {"a": done}, overwrite=False)["a"] == done
    assert planned([each], {"a": done}, overwrite=True)["a"].state == "waiting"
    other = Job(each.run, "a", "ngp", None, ("--lr", "2"), each.commands)
    assert planned([other], {"a": done}, overwrite=False)["a"].state == "waiting"
    to_replace = planned([each], {"a": done}, overwrite=True)
    assert planned([each], to_replace, overwrite=False)["a"].replaces  # the sweep ended before it came to that
    last.write_text("other weights")
    assert planned([each], {"a": done}, overwrite=False)["a"].state == "waiting"
    assert not planned([each], to_replace, overwrite=False)["a"].replaces


def test_floaters_of_another_measure_are_left_out(capsys):
    """Until the run is scored anew: the sweep does not do that by itself."""
    each, run = job("a"), Path("runs/a")
    run = write_run(run, [20.0], floaters=0.5)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_text("weights")
    weights = planned([each], {}, overwrite=True)["a"].weights
    row = Row("a", "a", "ngp", state=DONE, asked=each.asked, weights=weights, psnr=20.0, split="test", floaters=0.5)
    stored = {key: value for key, value in asdict(row).items() if key != "floaters_by"}  # as earlier versions wrote it
    write_json(Path("scores.json"), {"runs": [stored]})
    kept = planned([each], read_rows(Path()), overwrite=False)["a"]
    assert (kept.state, kept.psnr, kept.floaters) == (DONE, 20.0, None)
    told = "floaters of 1 of 1 runs were measured in another way, and are left out: nerf eval runs/a, then"
    assert told in capsys.readouterr().err
    write_run(run, [20.0], floaters=0.25, floaters_by=FLOATERS_BY)
    again = planned([each], {"a": kept}, overwrite=False)["a"]
    assert (again.psnr, again.floaters, again.floaters_by) == (20.0, 0.25, FLOATERS_BY)
    assert planned([each], {"a": again}, overwrite=False)["a"] == again
    assert capsys.readouterr().err.count("floaters") == 0


def table(text: str, title: str) -> list[list[str]]:
    lines = text.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]


def test_the_table_is_what_papers_print():
    rows = [
        Row(f"{scene}{method}{seed}", scene, method, seed, DONE, psnr=psnr + seed, ssim=0.5)
        for scene, method, psnr in (("x", "ngp", 20), ("y", "ngp", 30), ("x", "nerf", 10))
        for seed in (0, 1)
    ]
    rows += [Row("ynerf0", "y", "nerf", 0, FAILED, "it | broke")]
    text = markdown(rows, {"title": "T", "machine": "a | b"})
    assert table(text, "PSNR, dB") == [
        ["method", "x", "y", "mean"],
        ["ngp", "20.50 ± 0.71", "30.50 ± 0.71", "25.50"],
        ["nerf", "10.50 ± 0.71", "–", "10.50 (1 of 2)"],
    ]
    assert "- `ynerf0` failed: it \\| broke" in text
    assert "- machine: a \\| b" in text


def test_many_scenes_are_rows():
    rows = [Row(f"s{i}", f"s{i}", "ngp", state=DONE, psnr=float(i), ssim=0.5) for i in range(12)]
    shown = table(markdown(rows, {}), "PSNR, dB")
    assert shown[0] == ["method", "ngp"]
    assert shown[-1] == ["mean", "5.50"]
    assert len(shown) == 14


def test_a_damaged_file_of_scores_counts_as_none(tmp_path):
    row = asdict(Row("good", "a", "ngp", state=DONE, psnr=20.0, ssim=1))
    wrong = [{**row, "run": str(i), **each} for i, each in enumerate(({"psnr": "x"}, {"ssim": True}, {"seed": 1.5}))]
    runs = [{"run": 3}, "x", {"run": "a", "scene": "b"}, *wrong, {**row, "run": "3", "psnr": math.inf}, row]
    (tmp_path / "scores.json").write_text(json.dumps({"runs": runs}))
    assert list(read_rows(tmp_path)) == ["good"]


def test_scores_that_cannot_be_read_fail_one_job_alone(tmp_path, monkeypatch):
    def fails(run: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("nerf_pl.sweep.scores.read_record", fails)
    assert scored(job("a")).told() == "failed: its scores cannot be read (Input/output error)"


class Done:
    """A command in this process, in place of one of its own."""

    def __init__(self, words: list[str], slot: object, out) -> None:
        self.code = 0
        with TextIOWrapper(out, write_through=True) as text, redirect_stdout(text), redirect_stderr(text):
            try:
                nerf(*words)
            except SystemExit as stop:
                self.code = stop.code

    def poll(self) -> int:
        return self.code


def test_two_scenes_of_which_one_is_broken(capsys, monkeypatch, scene_dir):
    monkeypatch.setattr(worker, "_started", Done)
    shutil.copytree(scene_dir, "good")
    shutil.copytree(scene_dir, "bad")
    (Path("bad") / "transforms_train.json").write_text("{")
    words = ["bad", "good", *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0, "--exp_name", "s"]
    told = refused(capsys, "sweep", *words, code=1)
    assert told == "nerf: 1 of 2 failed, s-bad-ngp: the same command tries them again and keeps the others"
    values = json.loads(Path("runs/s/scores.json").read_text())
    bad, good = values["runs"]
    assert "bad/transforms_train.json is not valid JSON" in bad["why"]
    assert (good["steps"], good["views"], good["split"], good["width"]) == (2, 2, "test", 16)
    assert values["means"] == [
        {"method": "ngp", "scenes_in_all": 2, "psnr": good["psnr"], "scenes": 1, "ssim": good["ssim"]}
    ]
    log = Path("runs/s/logs/s-good-ngp.log").read_text()
    assert worker.LINE.search(log), "the lines of a training's progress have another form"
    assert worker.MEAN.search(log)[1] == f"{good['psnr']:.2f}"
    assert f"`s-good-ngp` | {good['psnr']:.2f}" in Path("runs/s/scores.md").read_text()

    shutil.copytree(scene_dir, "bad", dirs_exist_ok=True)
    shutil.move("good", "elsewhere")  # its scores are there
    history = Path("runs/s-good-ngp/history.json")
    history.write_text(history.read_text().replace('"PyTorch": "', '"PyTorch": "0.'))  # as if it was long ago
    nerf("sweep", *words)
    shown = capsys.readouterr().out
    protocol = Path("runs/s/scores.md").read_text().split("- versions: ")[1]
    assert f"PyTorch {version('torch')}" in protocol.split("; but of s-good-ngp: ")[0]
    assert f"PyTorch 0.{version('torch')}" in protocol.split("; but of s-good-ngp: ")[1]
    assert f"s-good-ngp: PSNR {good['psnr']:.2f} dB" in shown
    assert "s-good-ngp: starts" not in shown
    assert [row["state"] for row in json.loads(Path("runs/s/scores.json").read_text())["runs"]] == ["done", "done"]
    assert "is a run: give the sweep another --exp_name" in refused(capsys, "sweep", "good", "--exp_name", "s-good-ngp")


def test_a_sweep_that_is_stopped_says_how_it_goes_on(capsys, monkeypatch):
    class Asks(Done):
        def __init__(self, *_: object) -> None:
            signal.raise_signal(signal.SIGTERM)

        def poll(self) -> int:
            return 143

        terminate = poll

    monkeypatch.setattr(worker, "_started", Asks)
    for name in ("a", "b"):
        Path(name).mkdir()
    told = refused(capsys, "sweep", "a", "b", "--num_gpus", 0, code=143)
    assert told == "nerf: ended by SIGTERM; 0 of 2 are done: the same command goes on"


@pytest.mark.slow
def test_a_real_sweep_is_stopped_and_goes_on(scene_dir):
    """Every training in a process of its own. The first start is ended by Ctrl-C."""
    for name in ("a", "b"):
        shutil.copytree(scene_dir, name)
    words = ["sweep", "a", "b", *NGP_FLAGS, "--max_steps", "300", "--num_gpus", "0", "--jobs", "2"]
    command = [sys.executable, "-m", "nerf_pl", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    logs = [Path(f"runs/sweep/logs/sweep-{name}-ngp.log") for name in ("a", "b")]
    while not all(log.is_file() and "CPU, " in log.read_text() for log in logs):
        assert first.poll() is None, first.stderr.read()
    first.send_signal(signal.SIGINT)
    _, told = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "0 of 2 are done: the same command goes on" in told
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    assert all(row["steps"] == 300 for row in json.loads(Path("runs/sweep/scores.json").read_text())["runs"])
