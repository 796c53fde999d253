"""Trainings whose processes torchrun or srun starts, on several machines."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from tiny import NGP_FLAGS, PROJECT, config, content, make, nerf

from nerf_pl.errors import Interrupted, UserError
from nerf_pl.scenes import load_scene
from nerf_pl.training import machines
from nerf_pl.training.callbacks import Agreement, Interrupt
from nerf_pl.training.devices import devices_of
from nerf_pl.training.machines import (
    Watch,
    adopt_slurm,
    difference,
    process,
    process_here,
    require_whole_environment,
    watched,
)
from nerf_pl.training.system import NeRFSystem

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "node[07-08]", "SLURM_JOB_ID": "123456",
}  # fmt: skip


@pytest.fixture
def started(monkeypatch):
    def by(values: dict[str, str]) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    for name in (*TORCHRUN, machines.FIRST, *SRUN):
        monkeypatch.delenv(name, raising=False)
    return by


def test_what_srun_starts_is_as_what_torchrun_starts():
    adopt_slurm(found := dict(SRUN))
    assert {name: found[name] for name in TORCHRUN} == TORCHRUN
    assert (found["NODE_RANK"], found["MASTER_ADDR"], found["MASTER_PORT"]) == ("1", "node07", "21912")


@pytest.mark.parametrize(
    "changes",
    [{"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_STEP_NUM_TASKS": None}, {"SLURM_PROCID": None}, {"LOCAL_RANK": "0"}],
)
def test_one_task_is_a_training_as_elsewhere(changes):
    """As in a batch script, which starts its processes itself."""
    found = {name: value for name, value in {**SRUN, **changes}.items() if value is not None}
    before = dict(found)
    adopt_slurm(found)
    assert found == before


@pytest.mark.parametrize(("terminal", "task", "alone"), [(True, "1", True), (False, "1", False), (True, "", False)])
def test_a_shell_that_srun_opened_is_no_training_of_several(monkeypatch, terminal, task, alone):
    """What is typed there is one process; srun may start several from there. task: that of SLURM, or this process."""
    monkeypatch.setattr(os, "isatty", lambda _: terminal)
    adopt_slurm(found := {**SRUN, "SLURM_PTY_PORT": "41234", "SLURM_TASK_PID": task or str(os.getpid())})
    assert ("RANK" not in found) == alone


def test_machines_have_as_many_processes_each(started):
    with pytest.raises(UserError, match="--ntasks-per-node"):
        adopt_slurm({**SRUN, "SLURM_STEP_NUM_TASKS": "5"})
    started({**TORCHRUN, "WORLD_SIZE": "5"})
    with pytest.raises(UserError, match="start as many on each machine"):
        machines.machines()


def test_who_starts_the_processes_says_how_many_there_are(started, monkeypatch):
    assert (process(), process_here(), machines.machines()) == (0, 0, 1)
    started({"RANK": "3"})  # a cluster may say so of a container, in which one command trains
    assert (process(), machines.machines()) == (0, 1)
    started(TORCHRUN)
    assert (process(), process_here(), machines.machines()) == (3, 1, 2)
    assert devices_of(config(num_gpus=0)) == ("cpu", 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(config(num_gpus=1)) == ("gpu", 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 processes were started here, and each sees 1 GPU:"):
        devices_of(config(num_gpus=1))


class Memory:
    """A store in the memory of this process."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def add(self, key: str, amount: int, /) -> int:
        self.numbers[key] = self.numbers.get(key, 0) + amount
        return self.numbers[key]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(machines, "BEAT", 0.01)
    monkeypatch.setattr(machines, "SHORT_SILENCE", 0.1)


def watching(store: Memory, number: int, lost: list[tuple[int, int]], silence: float = 60.0) -> Watch:
    watch = Watch(number, 3, lambda other: lost.append((number, other)))
    watch.silence = silence
    threading.Thread(target=watch.run, args=(lambda: store,), daemon=True).start()
    return watch


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_process_that_is_lost_is_noticed_by_all_others(quick, ends_well):
    """One that has done its work is not lost, and one that has not begun is not either."""
    store, lost = Memory(), []
    other = watching(store, 1, lost)
    while not store.numbers.get(f"{machines.KEY}/1"):
        time.sleep(0.01)
    other.ends_well = ends_well
    other.over.set()
    assert other.ended.wait(5)
    watch = watching(store, 0, lost, silence=0.2)
    assert watch.ended.wait(0.5 if ends_well else 10) != ends_well
    assert lost == ([] if ends_well else [(0, 1)])
    watch.over.set()


def test_whoever_keeps_the_store_is_lost_with_it(quick):
    class Broken(Memory):
        def add(self, key: str, amount: int, /) -> int:
            raise RuntimeError("connection closed")

    lost: list[tuple[int, int]] = []
    assert watching(Broken(), 1, lost).ended.wait(5)
    assert lost == [(1, 0)]


@pytest.mark.parametrize(
    ("error", "well"),
    [(None, True), (Interrupted("", True), True), (UserError("no such folder"), False), (RuntimeError("x"), False)],
)
def test_an_error_of_one_process_ends_the_others(started, quick, monkeypatch, error, well):
    started(TORCHRUN)
    store = Memory()
    monkeypatch.setattr(machines, "_store", lambda: store)
    monkeypatch.setattr(machines, "_end", lambda *_: None)
    with suppress(type(error) if error else ()), watched(lambda: ""):
        time.sleep(0.05)
        if error is not None:
            raise error
    assert (store.numbers[f"{machines.KEY}/3"] >= machines.GONE) == well


HERE = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_each_waits_until_all_are_there(started, quick, monkeypatch):
    """They arrive one after the other, and none goes on before the last one has come."""
    started(HERE)
    monkeypatch.setattr(machines, "GLANCE", 0.01)
    store, lost, gone_on = Memory(), [], []
    watches = [watching(store, number, lost) for number in range(3)]
    for number, watch in enumerate(watches):
        assert not gone_on
        threading.Thread(target=lambda w=watch: (machines._gather(w), gone_on.append(w.own)), daemon=True).start()
        while store.numbers.get(f"{machines.ARRIVED}/0", 0) <= number:
            time.sleep(0.01)
        time.sleep(0.05)
    while len(gone_on) < 3:
        time.sleep(0.01)
    assert store.numbers[f"{machines.ARRIVED}/0"] == 3
    for watch in watches:
        watch.over.set()


@pytest.mark.parametrize(("rank", "told"), [("0", ""), ("2", "nerf: ended by SIGTERM; nothing was saved yet\n")])
def test_a_signal_ends_the_wait_for_others(started, quick, monkeypatch, capsys, tmp_path, rank, told):
    """A library that waits would not answer it. The first process tells it elsewhere; others may be without it."""
    started({**HERE, "RANK": rank})
    monkeypatch.setattr(machines, "_store", Memory)
    monkeypatch.setattr(machines, "_require_free", lambda port: None)
    interrupt = Interrupt(tmp_path)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with (
        pytest.raises(Interrupted, match="nothing was saved yet"),
        interrupt.listening(),
        watched(lambda: "") as gather,
    ):
        gather()
    assert capsys.readouterr().err == told


def test_processes_that_cannot_meet_are_told(started, quick, monkeypatch):
    started({**HERE, "RANK": "2"})

    def nowhere() -> machines.Store:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(machines, "_store", nowhere)
    with pytest.raises(UserError, match=r"127.0.0.1:29500: the processes cannot meet there \(.*no route to host\)"):  # noqa: SIM117
        with watched(lambda: "") as gather:
            gather()
    monkeypatch.setattr(machines, "_store", Memory)
    monkeypatch.setattr(machines, "WAIT", 0.1)
    with pytest.raises(UserError, match="1 of 4 processes came in 0 minutes; start all, with the same"):  # noqa: SIM117
        with watched(lambda: "") as gather:
            gather()
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        started({**HERE, "MASTER_PORT": str(other.getsockname()[1])})
        with pytest.raises(UserError, match=r"in the environment cannot be used .*: give another"):  # noqa: SIM117
            with watched(lambda: "") as gather:
                gather()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"RANK": "x"}, "RANK=x in the environment is no number: let torchrun start the processes, or unset RANK"),
        ({"WORLD_SIZE": None}, "WORLD_SIZE is not, but RANK is, in the environment: let torchrun start"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not, but RANK is, in the environment: let torchrun start"),
        ({"MASTER_PORT": "65535"}, "MASTER_PORT=65535 in the environment: give one from 1 to 65534"),
        ({"RANK": "4"}, "RANK=4 in the environment, of WORLD_SIZE=4: it counts from 0; let torchrun"),
        ({"RANK": "x", "LOCAL_RANK": None}, None),
    ],
)
def test_variables_that_were_set_by_hand(started, changes, told):
    started({name: value for name, value in {**HERE, **changes}.items() if value is not None})
    with nullcontext() if told is None else pytest.raises(UserError, match=told):
        require_whole_environment()
    assert process() == (4 if changes.get("RANK") == "4" else 0)


def test_what_one_process_does_is_left_to_the_first(trained_ngp, started, capsys):
    """torchrun starts as many as it is told to, and all would write the same files."""
    started({**HERE, "RANK": "3"})
    before = {file: file.stat().st_mtime_ns for file in trained_ngp.rglob("*")}
    nerf("eval", trained_ngp)
    told = (
        "process 4 of 4, as RANK=3 in the environment says, leaves nerf eval to the first one (--num_gpus shares GPUs"
    )
    assert told in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in trained_ngp.rglob("*")} == before
    started({"RANK": "0"})
    assert machines.left_to_first("nerf eval") is None


def test_processes_that_differ_are_told():
    facts = [{"--lr": 1, "step": 0}, {"--lr": 1, "step": 0}, {"--lr": 1, "step": 5}]
    assert difference(facts[:2]) is None
    assert difference(facts) == "process 3 of 3 has step 5, the first one 0"


def test_what_differs_is_told_before_tensors_are_compared(scene_dir, monkeypatch):
    """Which DDP does after `setup`, and before `on_fit_start`."""
    options = config()
    ours = NeRFSystem(options, make(options), load_scene(scene_dir), world=2)

    def gathered(facts: list, own: dict) -> None:
        facts[:] = [own, own | {"pictures": "1 of 2x2"}]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    with pytest.raises(
        UserError, match="process 2 of 2 has pictures 1 of 2x2, the first one 4 of 16x16: give the same"
    ):
        Agreement().setup(Mock(spec=L.Trainer, world_size=2), ours, "fit")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Machines:
    """Two machines, as torchrun sees them, that train on a scene in this folder."""

    def __init__(self, words: list[str]) -> None:
        port = str(free_port())
        self.files = [Path(f"machine{i}.txt") for i in range(2)]
        common = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
        common += ["--master_addr", "127.0.0.1", "--master_port", port]
        training = ["-m", "nerf_pl", "train", *map(str, words)]
        self.agents = [
            self._started(file, [*common, "--node_rank", str(i), *training]) for i, file in enumerate(self.files)
        ]

    def _started(self, file: Path, words: list[str]) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
        with file.open("w") as out:
            return subprocess.Popen([sys.executable, *words], env=environment, stdout=out, stderr=subprocess.STDOUT)

    def worker(self, i: int) -> int:
        """The process that a machine trains in."""
        children = Path(f"/proc/{self.agents[i].pid}/task/{self.agents[i].pid}/children").read_text().split()
        return next(int(child) for child in children if b"nerf_pl" in Path(f"/proc/{child}/cmdline").read_bytes())

    def wait(self, seconds: float = 120) -> list[str]:
        for agent in self.agents:
            agent.wait(seconds)
        return [file.read_text() for file in self.files]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("rank", "number", "told"),
    [
        (
            0,
            signal.SIGTERM,
            "waiting for the other processes at 127.0.0.1:PORT: 1 of 2 are there\nnerf: ended by SIGTERM",
        ),
        (1, signal.SIGINT, "waiting for the first of 2 processes at 127.0.0.1:PORT\nnerf: interrupted"),
    ],
)
def test_a_process_whose_others_never_come(scene_dir, tmp_path, rank, number, told):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(min(probe.getsockname()[1], machines.MOST_PORT - 1))
    values = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_PORT": port}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "MASTER_ADDR": "127.0.0.1", **values}
    words = [sys.executable, "-m", "nerf_pl", "train", scene_dir, *NGP_FLAGS, "--num_gpus", 0, "--max_steps", 9]
    with (tmp_path / "told.txt").open("w") as out:
        alone = subprocess.Popen(list(map(str, words)), env=environment, stdout=out, stderr=out, cwd=tmp_path)
    while "waiting for" not in (tmp_path / "told.txt").read_text():
        assert alone.poll() is None, (tmp_path / "told.txt").read_text()
        time.sleep(0.1)
    alone.send_signal(number)
    assert alone.wait(20) == 128 + number
    end = f"{told}; nothing was saved yet\n".replace("PORT", port)
    assert (tmp_path / "told.txt").read_text().endswith(end)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_two_machines_lose_a_process_and_go_on_with_one(scene_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last = Path("runs/two/checkpoints/last.ckpt")
    words = [scene_dir, *NGP_FLAGS, "--num_gpus", 0, "--exp_name", "two", "--val_every", 20]
    two = Machines([*words, "--max_steps", 100_000])
    while not last.is_file():
        assert all(agent.poll() is None for agent in two.agents), [file.read_text() for file in two.files]
        time.sleep(0.1)
    os.kill(two.worker(1), signal.SIGKILL)
    told = two.wait(30)
    assert told[0].count("nerf: process 2 of 2 is gone, so the training ends") == 1
    assert "--resume goes on" in told[0]
    step = content(Path("runs/two"))["global_step"]
    one = [sys.executable, "-m", "nerf_pl", "train", *map(str, words), "--resume", "--max_steps", str(step + 20)]
    subprocess.run(one, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=True, capture_output=True, timeout=120)
    assert content(Path("runs/two"))["global_step"] == step + 20
    again = Machines([*words, "--resume", "--max_steps", step + 40])
    told = again.wait()
    assert content(Path("runs/two"))["global_step"] == step + 40
    assert "2 x CPU" in told[0]
    assert told[1].strip() == ""
