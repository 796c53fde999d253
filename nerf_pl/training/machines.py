"""Trainings whose processes somebody else starts, on one machine or on several: torchrun, or srun of SLURM.

Each process says every two seconds that it is there, and notices when another one no longer does. A library that waits
for that one would not: it waits for minutes, or for ever.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Protocol, runtime_checkable

from nerf_pl.console import doing, errors, now
from nerf_pl.errors import Interrupted, NothingToDo, UserError, reason
from nerf_pl.signals import described

FIRST = "NERF_PL_FIRST_PROCESS"  # environment variable of processes that this program started; see `processes`
BEAT = 2.0  # seconds between two signs of life
SILENCE = 22.0  # seconds without one after which a process is lost
SHORT_SILENCE = 7.0  # the same after a process has failed, for it may be because of another one
GONE = 2**40  # signs of a process that has ended as it should
KEY = "nerf_pl/alive"
ARRIVED = "nerf_pl/arrived"  # how many processes are there to begin; with the number of torchrun's attempt
GLANCE = 0.1  # seconds between two looks at who is there
WAIT = 1800.0  # seconds that one waits for the others
MOST_PORT = 65535
NUMBERS = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # variables that say that another program has started processes


@runtime_checkable
class Store(Protocol):
    """What processes share, as torch.distributed.TCPStore does it: numbers that can be added to."""

    def add(self, key: str, amount: int, /) -> int: ...


def process() -> int:
    """The number of this process among all that train together. The user started process 0, or sees what it prints."""
    return int(os.environ["RANK"]) if started_elsewhere() else process_here()


def process_here() -> int:
    """The number of this process among those on this machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def started_elsewhere() -> bool:
    """Whether another program has started the processes that train together, and says how many there are."""
    # Lightning removes WORLD_SIZE in the end
    return all(os.environ.get(name, "").isdecimal() for name in NUMBERS) and FIRST not in os.environ


def processes_here() -> int:
    return int(os.environ["LOCAL_WORLD_SIZE"])


def machines() -> int:
    """The number of machines. Raises UserError if they have different numbers of processes."""
    if not started_elsewhere():
        return 1
    world, here = int(os.environ["WORLD_SIZE"]), processes_here()
    if world % here:
        raise UserError(f"{world} processes train together, {here} of them here: start as many on each machine")
    return world // here


def left_to_first(command: str) -> str | None:
    """What ends a command that works in one process, if this is not the first of several that another program has
    started: they would all write the same files. None if it is to work here."""
    if process() == 0 or not started_elsewhere():
        return None
    told = (
        f"process {process() + 1} of {os.environ.get('WORLD_SIZE', '?')}, as RANK={process()} in the environment says"
    )
    return f"{told}, leaves {command} to the first one (--num_gpus shares GPUs; unset RANK if there is no other)"


def require_whole_environment() -> None:
    """Raises UserError if variables say that another program has started processes, but not all that it would, as those
    that somebody has set by hand."""
    if FIRST in os.environ or not set(NUMBERS) <= set(os.environ):
        return
    remedy = "let torchrun start the processes, or unset RANK to train in one alone"
    for name in (*NUMBERS, "WORLD_SIZE", "MASTER_PORT"):
        value = os.environ.get(name)
        if value is None or not value.isdecimal():
            told = f"{name} is not" if value is None else f"{name}={value} in the environment is no number"
            raise UserError(f"{told}{', but RANK is, in the environment' if value is None else ''}: {remedy}")
    if "MASTER_ADDR" not in os.environ:
        raise UserError(f"MASTER_ADDR is not, but RANK is, in the environment: {remedy}")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if not 0 < (port := int(os.environ["MASTER_PORT"])) < MOST_PORT:
        raise UserError(
            f"MASTER_PORT={port} in the environment: give one from 1 to {MOST_PORT - 1}, free with the next one"
        )
    if rank >= world:
        raise UserError(f"RANK={rank} in the environment, of WORLD_SIZE={world}: it counts from 0; {remedy}")


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """If srun has started several processes of this command, set the variables that torchrun would.

    A batch script that starts one process has SLURM's variables, too, but not those of a step of several tasks. A shell
    that srun opened has all of them, but what is started there is one process. Raises UserError if the machines have
    different numbers of tasks.
    """
    tasks, nodes = (int(environment.get(f"SLURM_STEP_NUM_{name}", 1)) for name in ("TASKS", "NODES"))
    if tasks == 1 or "SLURM_PROCID" not in environment or "LOCAL_RANK" in environment or _is_typed(environment):
        return
    if tasks % nodes:
        raise UserError(f"srun starts {tasks} tasks on {nodes} machines: give --ntasks-per-node, the same on each")
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    listed = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST") or "127.0.0.1"
    job = int(environment.get("SLURM_JOB_ID", 0))
    found = {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "NODE_RANK": environment["SLURM_NODEID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(listed),
        "MASTER_PORT": str(15000 + 2 * (job % 10000)),  # of this job; the next port is for the signs of life
    }
    environment.update({name: value for name, value in found.items() if name not in environment})


def _is_typed(environment: Mapping[str, str]) -> bool:
    """Whether somebody types commands in a shell that `srun --pty` opened: that is SLURM's task, and not this process.

    What srun starts from such a shell has its variables, too, but no terminal.
    """
    is_task = environment.get("SLURM_TASK_PID") == str(os.getpid())
    return "SLURM_PTY_PORT" in environment and not is_task and os.isatty(0)


@contextmanager
def watched(saved: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """While the block runs in a process that somebody else started, end it if another process is lost, with one line
    for each machine. saved: what there is to go on from.

    What is yielded waits until all processes are there, and raises UserError if they do not come. Libraries would wait
    for them as well, but answer no signal meanwhile.
    """
    world = processes_here() * machines() if started_elsewhere() else 1
    if world == 1:
        yield lambda: None
        return
    watch = Watch(process(), world, lambda lost: _end(lost, world, saved()))
    threading.Thread(target=watch.run, args=(_store,), daemon=True).start()
    try:
        yield lambda: _gather(watch)
        watch.ends_well = True
    except (Interrupted, NothingToDo, SystemExit):
        watch.ends_well = True
        raise
    except UserError:
        raise
    except Exception:
        watch.silence = SHORT_SILENCE  # a library says in its own words that another process is gone
        time.sleep(SHORT_SILENCE + 2 * BEAT)
        raise
    finally:
        watch.over.set()
        if watch.is_connected:
            watch.ended.wait(BEAT)


def _gather(watch: "Watch") -> None:
    """Wait for all processes, and say for whom."""
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    begin, tells = time.monotonic(), process_here() == 0
    if process() == 0 and not _has_agent():
        _require_free(int(os.environ["MASTER_PORT"]))
    watch.is_ready.set()
    try:
        with doing(f"waiting at {where}") if tells else nullcontext():
            while watch.arrived < watch.world:
                others = f"waiting for the other processes at {where}: {watch.arrived} of {watch.world} are there"
                now(others if watch.is_connected else f"waiting for the first of {watch.world} processes at {where}")
                if watch.failure or time.monotonic() - begin > WAIT:
                    why = watch.failure or f"{watch.arrived} of {watch.world} processes came in {WAIT / 60:.0f} minutes"
                    raise UserError(f"{where}: {why}; start all, with the same MASTER_ADDR and a free MASTER_PORT")
                time.sleep(GLANCE)
    except Interrupted as stop:
        if tells and process() > 0:  # the first process, which tells it otherwise, may not be there
            errors.print(f"nerf: {described(stop.number)}; {stop}")
        raise


class Watch:
    """The signs of life of all processes. end: called with the number of one that is lost."""

    def __init__(self, own: int, world: int, end: Callable[[int], None]) -> None:
        self.own, self.world, self.end = own, world, end
        self.over, self.ended = threading.Event(), threading.Event()
        self.ends_well = False  # else the others are to end, too
        self.silence = SILENCE
        self.is_ready, self.is_connected = threading.Event(), False
        self.arrived, self.failure = 0, ""  # how many are ready, if this one is; why there is no store

    def run(self, connect: Callable[[], Store]) -> None:
        """Until the work is over or a process is lost. One that has not begun yet is not lost."""
        try:
            store = connect()
        except RuntimeError as error:
            self.failure = f"the processes cannot meet there ({reason(error)})"
            self.ended.set()
            return
        self.is_connected = True
        try:
            self._watch(store)
        except RuntimeError:  # of the store: who keeps it is gone, and mostly with the first process
            if not self.over.is_set():
                self.end(0)
        finally:
            self.ended.set()

    def _watch(self, store: Store) -> None:
        seen = dict.fromkeys(range(self.world), 0)
        when = dict.fromkeys(range(self.world), time.monotonic())
        while not self._meets(store, BEAT):
            store.add(f"{KEY}/{self.own}", 1)
            for other in range(self.world):
                signs = store.add(f"{KEY}/{other}", 0)
                if signs != seen[other] or signs == 0 or signs >= GONE:
                    seen[other], when[other] = signs, time.monotonic()
                elif time.monotonic() - when[other] > self.silence:
                    self.end(other)
                    return
        if self.ends_well:
            store.add(f"{KEY}/{self.own}", GONE)

    def _meets(self, store: Store, seconds: float) -> bool:
        """Count who is ready, for some seconds. Whether the work is over."""
        end, key = time.monotonic() + seconds, f"{ARRIVED}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        while self.arrived < self.world and time.monotonic() < end and not self.over.wait(min(GLANCE, seconds)):
            if self.is_ready.is_set():
                self.arrived = store.add(key, 0 if self.arrived else 1)
        return self.over.wait(max(end - time.monotonic(), 0))


def _has_agent() -> bool:
    """Whether torchrun keeps a store for the processes."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _require_free(port: int) -> None:
    """Raises UserError if the first process cannot listen at a port, of which PyTorch would tell with a traceback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"MASTER_PORT={port} in the environment cannot be used ({reason(error)}): give another"
            ) from error


def _store() -> Store:
    """The store of torchrun, or one beside it that the first process keeps."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    wait = timedelta(seconds=WAIT)
    if _has_agent():
        return TCPStore(address, port, is_master=False, timeout=wait)
    return TCPStore(address, port + 1, is_master=process() == 0, wait_for_workers=False, timeout=wait)


def _end(lost: int, world: int, saved: str) -> None:
    """End this process, which may wait for the other one in a library. One on each machine says why."""
    first_here = process() - process_here()
    if process() == first_here or (lost == first_here and process() == first_here + 1):
        told = f"process {lost + 1} of {world} is gone, so the training ends"
        errors.print(f"nerf: {told}; {saved}", style="red")
    os._exit(2)


def difference(facts: Sequence[Mapping[str, object]]) -> str | None:
    """What one of the processes trains on or with that the first one does not; None if all agree. facts: what each
    knows, by what it is called."""
    for number, each in enumerate(facts):
        for name, value in facts[0].items():
            if each.get(name) != value:
                return f"process {number + 1} of {len(facts)} has {name} {each.get(name)}, the first one {value}"
    return None
