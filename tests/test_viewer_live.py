"""A training that is looked at: the same result, time that is shared, pauses, and an end."""

import signal
import threading
from itertools import count

import pytest
from fake_page import Server
from tiny import CPU, config, content, equal, refused

from nerf_pl.checkpoints import open_run
from nerf_pl.errors import Interrupted
from nerf_pl.options import RunFolders
from nerf_pl.training.run import train
from nerf_pl.viewer.live import Live


class Looker(Live):
    """A page whose client does something before each step: `act` gets its number."""

    def __init__(self, folder, act, **values) -> None:
        super().__init__(Server(), folder, 4096, True, **values)
        self.steps, self.act, self.seconds = count(), act, []

    def begin(self, model, scene) -> None:
        super().begin(model, scene)
        self.client = self.server.connect(size=(24, 24))

    def look(self) -> float:
        self.act(self, next(self.steps))
        self.seconds.append(super().look())
        return self.seconds[-1]


def turn(live: Looker, step: int) -> None:
    """The user moves all the time, and looks at all there is to see."""
    live.due = 0.0  # a picture after each step
    live.client.gui.handles["show"].set(("colour", "depth", "opacity", "normals")[step % 4])
    live.client.move([4.0, 0.1 * step, 0.5], [0.5, 0.5, 0.5, 0.5], 0.7)


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_a_training_has_the_same_result_looked_at_or_not(method, scene_dir, tmp_path):
    options = config(method, max_steps=20)
    train(options, scene_dir, RunFolders.modern(tmp_path / "alone"))
    live = Looker(tmp_path / "seen", turn)
    train(options, scene_dir, RunFolders.modern(tmp_path / "seen"), watcher=live)
    assert len(live.client.pictures) > 20
    a, b = (content(tmp_path / name) for name in ("alone", "seen"))
    for part in ("state_dict", "optimizer_states"):
        assert equal(a[part], b[part])
    assert b["train_seconds"] < sum(live.seconds) + a["train_seconds"] + b["train_seconds"]


def test_nobody_who_looks_costs_nothing_and_a_closed_browser_changes_nothing(scene_dir, tmp_path):
    def leave(live: Looker, step: int) -> None:
        turn(live, step)
        if step == 5:
            live.server.disconnects[0](live.client)
            live.shown = len(live.client.pictures)

    live = Looker(tmp_path / "run", leave)
    train(config("ngp"), scene_dir, RunFolders.modern(tmp_path / "run"), watcher=live)
    assert live.shown == len(live.client.pictures) > 3
    assert set(live.seconds[5:]) == {0.0}


def test_time_is_shared_as_the_slider_says(trained_ngp, tmp_path):
    now = [0.0]
    live = Looker(tmp_path, lambda live, step: None, clock=lambda: now[0])
    run = open_run(trained_ngp, CPU)

    def picture(*_: object) -> bool:
        now[0] += 0.1
        return True

    live.begin(run.model, run.scene("train"))
    live.is_warm, live.loop.step = True, picture
    for share in (0.2, 0.5, 0.9):
        live.share.value, spent, start = share, 0.0, now[0]
        for _ in range(2000):
            now[0] += 0.01  # a step
            spent += live.look()
        assert spent / (now[0] - start) == pytest.approx(1 - share, abs=0.05)


def test_a_resting_camera_leaves_nine_tenths_to_the_training(trained_ngp, tmp_path):
    now = [0.0]
    live = Looker(tmp_path, lambda live, step: None, clock=lambda: now[0])
    run = open_run(trained_ngp, CPU)
    live.begin(run.model, run.scene("train"))
    live.is_warm, spent = True, 0.0
    step = live.loop.step

    def picture() -> bool:
        now[0] += 0.2
        return step()

    live.loop.step = picture
    for _ in range(4000):
        now[0] += 0.01
        spent += live.look()
    assert 0.05 < spent / now[0] <= 0.11
    assert len(live.client.pictures) > 10
    assert {quality for _, quality in live.client.pictures} == {75}  # none has all rays of its pixels


def test_a_paused_training_gets_sharp_pictures_and_goes_on(scene_dir, tmp_path):
    told = []

    def pause(live: Looker, step: int) -> None:
        turn(live, step)
        if step == 3:
            live.button.click()
            told.append(live.button.label)

    class Paused(Looker):
        def hold(self, is_over) -> None:
            def sharp() -> bool:
                if self.client.pictures and self.client.pictures[-1][1] > 75:
                    self.button.click()
                return is_over()

            super().hold(sharp)

    live = Paused(tmp_path / "run", pause)
    train(config("ngp"), scene_dir, RunFolders.modern(tmp_path / "run"), watcher=live)
    assert told == ["go on with the training"]
    assert live.button.label != told[0] or live.button.is_removed
    assert any(quality > 75 for _, quality in live.client.pictures)
    assert content(tmp_path / "run")["global_step"] == 12
    assert live.loop.most_seconds is None
    live.client.pictures.clear()
    while live.loop.step():
        pass
    assert live.client.pictures[-1][1] > 75  # of the trained model


def test_ctrl_c_ends_a_paused_training_which_can_be_resumed(scene_dir, tmp_path):
    def pause(live: Looker, step: int) -> None:
        if step == 3:
            live.button.click()
            threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()

    folders = RunFolders.modern(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(config("ngp", max_steps=400), scene_dir, folders, watcher=Looker(tmp_path / "run", pause))
    step = content(tmp_path / "run")["global_step"]
    assert 0 < step < 400
    train(config("ngp", max_steps=step + 2), scene_dir, folders, resume=True)


def test_the_page_says_how_far_the_training_is(scene_dir, tmp_path):
    live = Looker(tmp_path / "run", turn)
    live.told_at = -1e9
    train(config("ngp"), scene_dir, RunFolders.modern(tmp_path / "run"), watcher=live)
    assert live.told.content == "The training has ended."
    live.told_at = -1e9
    live.tell("50%  step 6")
    assert live.told.content == "50% · step 6"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--port", "8081"), "add --view"),
        (("--host", "0.0.0.0"), "add --view"),
        (("--view", "--port", "0"), "--port"),
        (("--view", "--num_gpus", "2", "--accelerator", "cpu"), "--view"),
    ],
)
def test_what_cannot_be_shown_is_refused(scene_dir, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, "train", scene_dir, *words)
