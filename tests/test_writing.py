"""One writer at a time, and what killed commands leave."""

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CPU, FLAGS, PROJECT, equal, nerf, refused

from nerf_pl import writing
from nerf_pl.checkpoints import models, open_run, read_checkpoint, stamp_of, write_checkpoint
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.scenes.prepare import _replace, prepare
from nerf_pl.writing import (
    atomic_write,
    in_threads,
    locked,
    remove_leftovers,
    remove_leftovers_in,
    replacing,
    write_errors,
    writing_threads,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock")
TRAIN = [*FLAGS, "--batch_size", 64, "--max_steps", 2, "--num_gpus", 0, "--exp_name", "tiny"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@contextmanager
def taken(path: Path) -> Iterator[None]:
    """As if another process held the lock."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 123 on there since 12:00:00")
        file.flush()
        yield


@pytest.mark.parametrize("name", ["photos/a.jpg", "../film.mp4", "out.txt"])
def test_what_failed_is_named_if_it_is_another_file(name):
    """A photo that cannot be read is not told as the folder that is written."""
    with pytest.raises(UserError) as error, write_errors(Path("out")):
        raise PermissionError(13, "Permission denied", name)
    assert str(error.value) == f"{name} cannot be used (Permission denied): mend that, and start again"


@pytest.mark.parametrize("name", ["out", "out/a/b.png", ".out-1234", b"out/x", 3, None, ".", "/", "original"])
def test_what_is_written_is_told_by_what_was_asked_for(name):
    told = "cannot write out: No space left on device; free some space"
    with pytest.raises(UserError, match=told), write_errors(Path("out")):
        raise OSError(28, "No space left on device", name)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EMFILE, "allow more open files (ulimit -n)"), (errno.EFBIG, "allow larger files")]
)
def test_another_place_is_no_remedy_for_limits(number, remedy):
    with pytest.raises(UserError, match=re.escape(remedy)), write_errors(Path("out")):
        raise OSError(number, "a limit", "out/a")


def test_a_lock_leaves_nothing_behind(tmp_path):
    with locked(Path("new/deep/run")):
        told = Path("new/deep/.run.lock").read_text()
        assert told.startswith(f"process {os.getpid()} on ")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_taken(tmp_path):
    with taken(Path("runs/a")), pytest.raises(UserError) as error, locked(Path("runs/a"), "wait"):
        pass
    assert str(error.value) == "runs/a is in use by process 123 on there since 12:00:00: wait"
    with taken(Path("runs/a")), locked(Path("runs/b")):
        pass


def test_a_lock_that_ends_while_it_is_looked_at(monkeypatch):
    """Its holder removes the file between two looks. That is no folder, pipe or link in the way."""
    Path(".run.lock").touch()
    usual = Path.stat

    def look(path: Path, **how: bool) -> os.stat_result:
        found = usual(path, **how)
        if path.name == ".run.lock":
            path.unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", look)
        with locked(Path("run")):
            assert Path(".run.lock").is_file()


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)], ids=["folder", "pipe", "loop"]
)
def test_what_is_in_the_way_of_a_lock_is_named(make):
    make(Path(".run.lock"))
    with (
        pytest.raises(UserError, match=r"\.run\.lock is in the way.* who writes run .*: remove it"),
        locked(Path("run")),
    ):
        pass


def test_the_lock_of_a_killed_process_does_not_block():
    code = """
import os
from pathlib import Path
from nerf_pl.writing import locked
with locked(Path("run")):
    os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -9
    assert Path(".run.lock").is_file()
    with locked(Path("run")):
        pass
    assert not Path(".run.lock").exists()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(monkeypatch):
    """Its holder removes the file between the opening and the locking here."""
    take, tries = writing._take, []

    def late(handle: int) -> None:
        if not tries:
            Path(".run.lock").unlink()
        tries.append(handle)
        take(handle)

    monkeypatch.setattr(writing, "_take", late)
    with locked(Path("run")):
        assert Path(".run.lock").is_file()
    assert len(tries) == 2


def test_files_that_are_written_at_once_wait_for_each_other(monkeypatch):
    with taken(Path("a.txt")):
        monkeypatch.setattr(writing, "PATIENCE", 0.0)
        with pytest.raises(UserError, match="in use"), replacing(Path("a.txt")):
            pass


def test_leftovers_are_those_of_the_path_alone():
    left = [".a-0123abcd.png", ".last-ffffffff.ckpt"]
    others = [".a-0123abcd.jpg", ".a-b.png", ".b-0123abcd.png", "a-0123abcd.png", ".a-0123abcd.png.old"]
    for name in [*left, *others]:
        Path(name).touch()
    remove_leftovers(Path("a.png"), Path("last.ckpt"), Path("gone/a.png"))
    assert sorted(os.listdir()) == sorted(others)
    remove_leftovers_in(Path())
    assert sorted(os.listdir()) == [".a-0123abcd.png.old", ".a-b.png", "a-0123abcd.png"]


def test_leftovers_have_the_names_of_temporary_files(monkeypatch):
    for path in (Path("a.tar.gz"), Path("b"), Path("c[1]*.png"), Path(".hidden.x")):
        with monkeypatch.context() as patch:  # as if the process were killed
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            patch.setattr(Path, "replace", lambda *_: None)
            with atomic_write(path) as temporary:
                temporary.touch()
        assert temporary.is_file()
        remove_leftovers(path)
        assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["train", "SCENE", *TRAIN], "runs/tiny"),
        (["train", "SCENE", *TRAIN, "--overwrite"], "runs/tiny"),
        (["train", "SCENE", *TRAIN, "--resume"], "runs/tiny"),
        (["eval", "runs/tiny"], "runs/tiny/renders/test"),
        (["render", "runs/tiny", "--path", "360"], "runs/tiny/renders/360"),
    ],
    ids=["train", "overwrite", "resume", "eval", "render"],
)
def test_two_commands_that_write_the_same(scene_dir, trained, capsys, words, path):
    shutil.copytree(trained, "runs/tiny")
    before = {file: file.read_bytes() for file in Path("runs/tiny").rglob("*") if file.is_file()}
    with taken(Path(path)):
        told = refused(capsys, *[scene_dir if word == "SCENE" else word for word in words])
    assert told.startswith(f"nerf: {path} is in use by process 123 on there since 12:00:00: wait for it")
    assert {file: file.read_bytes() for file in before} == before


def test_eval_while_a_training_goes_on(trained):
    """It reads whole checkpoints, and writes what the training does not."""
    shutil.copytree(trained, "runs/tiny")
    left = [Path("runs/tiny/renders/test/.000-0123abcd.png"), Path("runs/tiny/.metrics-0123abcd.json")]
    kept = Path("runs/tiny/checkpoints/.last-0123abcd.ckpt")  # the training may be about to write it
    for file in (*left, kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with taken(Path("runs/tiny")):
        nerf("eval", "runs/tiny")
    assert kept.is_file()
    assert not any(file.exists() for file in left)


def test_a_training_removes_what_a_killed_one_left(scene_dir):
    left = [Path("runs/tiny/checkpoints/.last-0123abcd.ckpt"), Path("runs/tiny/checkpoints/.best-0123abcd.ckpt")]
    left += [Path("runs/tiny/.settings-0123abcd.json"), Path("runs/tiny/.report-0123abcd.html")]
    left[0].parent.mkdir(parents=True)
    for file in left:
        file.touch()
    nerf("train", scene_dir, *TRAIN)
    assert not any(file.exists() for file in left)
    assert not [file for file in Path("runs").rglob(".*")]


def test_prepare_is_not_kept_out_by_a_killed_one():
    Path("photos").mkdir()
    (Path("out") / ".prepare-x1y2z3_4" / "stage").mkdir(parents=True)
    with pytest.raises(UserError, match="has no photos"):
        prepare(Path("photos"), Path("out"))
    assert not list(Path("out").glob("*"))
    with taken(Path("out")), pytest.raises(UserError, match=r"out is in use by process 123 .*give another --out"):
        prepare(Path("photos"), Path("out"))


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("transforms_train.json", "a scene of the layout blender (transforms_train.json and so on)"),
        ("poses_bounds.npy", "a scene of the layout llff"),
        ("sparse/0/images.bin", "a scene of the layout colmap"),
        ("images/photo.jpg", "images"),
        ("transforms.json", "transforms.json"),
    ],
)
def test_prepare_replaces_no_scene_of_others(file, told):
    """Its photos would be lost, or its poses would be read in place of the new ones."""
    Path("photos").mkdir()
    for name in (file, *(f"sparse/0/{each}.bin" for each in ("cameras", "points3D") if "sparse" in file)):
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_bytes(b"")
    with pytest.raises(UserError) as error:
        prepare(Path("photos"), Path("out"), overwrite=True)
    assert str(error.value).startswith(f"--out out holds {told}")
    if file == "images/photo.jpg":
        Path("out/cameras.png").touch()  # which every prepared scene has
        with pytest.raises(UserError, match="photos has no photos"):
            prepare(Path("photos"), Path("out"), overwrite=True)


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_all_devices_have_the_weights_of_one_file(trained, trained_ngp, monkeypatch, method):
    """A training replaces its checkpoint while it is read: after one model is made, and once all is read."""
    last = shutil.copy((trained if method == "nerf" else trained_ngp) / "checkpoints" / "last.ckpt", "last.ckpt")
    weights = "model.fine.params" if method == "nerf" else "model.field.params"
    reads, make = [], METHODS[method].make

    def read(path: Path) -> dict:
        reads.append(read_checkpoint(path))
        return reads[-1]

    def train_on(*given):
        if len(reads) < 3:
            content = read_checkpoint(last)
            content["state_dict"][weights] += 1
            write_checkpoint(content, Path(last))
        return make(*given)

    monkeypatch.setattr(models, "read_checkpoint", read)
    monkeypatch.setitem(METHODS, method, replace(METHODS[method], make=train_on))
    run = open_run(Path(last), CPU, others=[CPU, CPU])
    assert len(reads) == 3
    assert len(run.others) == 2
    assert all(equal(other.state_dict(), run.model.state_dict()) for other in run.others)
    assert equal(run.model.state_dict()[weights.removeprefix("model.")], read_checkpoint(last)["state_dict"][weights])
    assert run.stamp == stamp_of(Path(last))
    assert open_run(Path(last), CPU).others == ()


def test_old_photos_are_out_of_the_way_before_they_are_removed(tmp_path, monkeypatch):
    """Else a kill while many are removed would leave neither the old scene nor the new one."""
    out, work = tmp_path / "out", tmp_path / "out" / ".prepare-1"
    for folder in (out / "images", work / "images"):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (work / "images" / "new.txt").touch()
    monkeypatch.setattr(shutil, "rmtree", lambda *_: pytest.fail("killed while photos are removed"))
    _replace(work / "images", out / "images", work)
    assert sorted(file.name for file in (out / "images").iterdir()) == ["a.jpg", "new.txt"]
    assert (work / "old-images" / "a.jpg").is_file()


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_work_in_threads_comes_in_order(threads):
    """However long each piece takes; and little is begun before somebody asks."""
    begun = []

    def items():
        for i in range(20):
            begun.append(i)
            yield i

    def work(i: int) -> int:
        time.sleep(0.01 * (i % 3 == 0))
        return i * i

    results = in_threads(work, items(), threads)
    assert next(results) == 0
    assert len(begun) == threads + 1
    assert list(results) == [i * i for i in range(1, 20)]


@pytest.mark.parametrize("threads", [0, 3])
def test_an_error_in_a_thread_comes_in_its_turn(threads):
    done = []

    def work(i: int) -> int:
        if i == 4:
            raise UserError("the disk is full")
        done.append(i)
        return i

    results = in_threads(work, range(100), threads)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(UserError, match="the disk is full"):
        next(results)
    assert len(done) == 4 + threads  # what was begun is finished, and no more begins


@pytest.mark.parametrize("threads", [1, 3])
def test_what_was_begun_is_finished_and_no_thread_is_left(threads):
    """Whether nobody asks for more, or an item cannot be had."""
    done = []

    def items(end: int):
        yield from range(end)
        raise UserError("the GPU is full")

    def work(i: int) -> None:
        time.sleep(0.01)
        done.append(i)

    results = in_threads(work, items(100), threads)
    next(results)
    results.close()
    assert sorted(done) == list(range(threads + 1))
    done.clear()
    with pytest.raises(UserError, match="the GPU is full"):
        list(in_threads(work, items(2), threads))
    assert sorted(done) == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


@pytest.mark.parametrize(
    ("cores", "side", "threads"),
    [(1, 800, 1), (2, 800, 1), (6, 800, 5), (64, 800, writing.MOST_THREADS), (64, 2880, 2), (64, 2**13, 1)],
)
def test_threads_write_while_a_gpu_renders(monkeypatch, cores, side, threads):
    """Fewer write large pictures, which would fill the memory."""
    monkeypatch.setattr(writing, "cores", lambda: cores)
    assert writing_threads(on_gpu=True, pixels=side * side) == threads
    assert writing_threads(on_gpu=False, pixels=side * side) == 0
