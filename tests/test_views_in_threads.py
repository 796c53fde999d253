"""Pictures and frames that threads write while the next ones are rendered: what interrupts and errors leave."""

import errno
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_films import Grey, path_of, shoot
from tiny import CPU

from nerf_pl import media
from nerf_pl.checkpoints import open_run
from nerf_pl.errors import UserError
from nerf_pl.evaluation import views
from nerf_pl.evaluation.views import Output, evaluate


class OnGPU(Grey):
    """As if a GPU rendered it: in a thread, and several views together."""

    def __init__(self) -> None:
        super().__init__()
        del self.step
        self.step = SimpleNamespace(is_cuda=True, device=CPU)


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    for module in ("evaluation.views", "films.frames"):
        monkeypatch.setattr(f"nerf_pl.{module}.writing_threads", lambda *_: 3)


def none_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_frames_that_were_rendered_are_in_after_an_interrupt(tmp_path, capsys):
    """It comes to the main thread, while others write."""
    model, out = Grey(), tmp_path / "turn"
    with pytest.raises(KeyboardInterrupt, match=r"5 of 9 frames are in .*: the same command goes on"):
        shoot(model, path_of(9), out, stop=5)
    assert none_left()
    assert len(list((out / "frames").iterdir())) == 2 * 5 + 1
    shoot(model, path_of(9), out)
    assert model.done == [5, 6, 7, 8]
    assert "resuming at frame 6 of 9" in capsys.readouterr().out


def test_an_interrupt_while_a_gpu_renders(tmp_path):
    """Five frames have room in its first group, and Ctrl-C comes in the second."""
    model, out = OnGPU(), tmp_path / "turn"
    with pytest.raises(KeyboardInterrupt, match=r"5 of 9 frames are in .*: the same command goes on"):
        shoot(model, path_of(9), out, stop=1)
    assert none_left()
    shoot(model, path_of(9), out)
    assert model.done == [5]  # the first of the four that are rendered together


def test_a_full_disk_in_a_thread_is_one_line_and_the_film_goes_on(tmp_path, monkeypatch):
    model, out, write = Grey(), tmp_path / "turn", media.Image.Image.save

    def save(picture, file: Path, **how: object) -> None:
        if "00004" in Path(file).name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(picture, file, **how)

    with monkeypatch.context() as patch:
        patch.setattr(media.Image.Image, "save", save)
        with pytest.raises(UserError, match=r"^cannot write .*00004.*: No space left on device; free some space.*$"):
            shoot(model, path_of(9), out)
    assert none_left()
    assert not list((out / "frames").glob(".*"))
    assert len(shoot(model, path_of(9), out)) == 3
    assert model.done == [4, 5, 6, 7, 8]  # those after the gap are rendered again
    assert not out.exists()


@pytest.fixture
def run(trained_ngp):
    return open_run(trained_ngp, CPU)


def test_an_evaluation_that_fails_leaves_no_thread(run, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(views, "_psnr_and_ssim", fail)
    scene = run.scene("train")
    with pytest.raises(KeyboardInterrupt) as stop:
        evaluate(run.model, scene, Output(tmp_path, tmp_path / "metrics.json", "train"), 1000, {}, [run.model])
    assert none_left()
    assert stop.tb is not None  # which keeps what is not closed


def test_a_model_that_trained_is_in_evaluation_mode_all_the_while(run, tmp_path, monkeypatch):
    """The next views are rendered in a thread, while cameras are aligned here: neither may end the other's mode."""
    modes, score = [], views._psnr_and_ssim

    def noted(*given: object) -> tuple[float, float]:
        modes.append(run.model.training)
        return score(*given)

    monkeypatch.setattr(views, "_psnr_and_ssim", noted)
    run.model.train()
    evaluate(run.model, run.scene("test"), Output(tmp_path, tmp_path / "metrics.json", "test"), 1000, {})
    assert modes
    assert not any(modes)
    assert run.model.training
