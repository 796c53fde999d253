"""What Windows and macOS lack is used with a fallback alone. Where a training runs is chosen without the hardware."""

import ast

import pytest
import torch
from tiny import PACKAGE, PROJECT, config

from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.ops import choose
from nerf_pl.training.devices import devices_of

FILES = {file.relative_to(PACKAGE.parent).as_posix(): file for file in sorted(PACKAGE.rglob("*.py"))}
FILES |= {name: PROJECT / name for name in ("train.py", "eval.py")}
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "getgid", "killpg", "getpgid", "setsid", "mkfifo", "mknod", "chown",
           "uname", "wait", "waitpid", "statvfs", "nice", "sched_setaffinity", "O_NONBLOCK", "getgroups",
           "getpgrp", "getsid", "setpgid", "setuid", "setgid",
           "fchmod", "fchown", "lchown", "chroot", "posix_spawn", "register_at_fork", "sync", "ttyname", "WNOHANG",
           "wait3", "wait4", "pipe2", "openpty", "getresuid", "pread", "pwrite", "sendfile",
           "rename"},  # which replaces no file on Windows: os.replace does
    "select": {"poll", "epoll", "kqueue"},
    "socket": {"AF_UNIX", "socketpair"},
    "time": {"tzset", "clock_gettime"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGCHLD", "SIGPIPE", "SIGQUIT",
               "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGWINCH", "SIGTTIN", "SIGTTOU", "SIGBUS",
               "alarm", "setitimer", "pause", "sigwait", "pthread_kill"},
}  # fmt: skip
KEYWORDS = {"preexec_fn", "pass_fds"}  # of a process that is started
GUARDED = {
    "os": {"symlink", "sysconf", "sched_getaffinity", "link", "getloadavg", "posix_fallocate"},
    "signal": {"pthread_sigmask"},
}
"""Only where an error or `hasattr` is answered."""
PLACES = ("/tmp", "/dev/null", "/dev/shm", "/usr", "/etc", "/bin", "/var")
OF_LINUX = ("/proc", "/sys", "/dev")  # read where they are there
MAY_READ_LINUX = {"nerf_pl/scenes/memory.py", "nerf_pl/report/history.py", "nerf_pl/doctor/findings.py"}
HAS_OTHER_PLACES = {"nerf_pl/scenes/store.py"}  # the first of several folders that is there


def unfit(source: str, file: str = "nerf_pl/x.py") -> list[str]:
    """What in a module would fail on another system."""
    tree, found = ast.parse(source), []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in names if name in MODULES and not is_guarded(node, parents)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, name = node.value.id, node.attr
            if name in NAMES.get(owner, ()) or (name in GUARDED.get(owner, ()) and not is_guarded(node, parents)):
                found.append(f"{owner}.{name}")
        elif isinstance(node, ast.Call):
            found += [keyword.arg for keyword in node.keywords if keyword.arg in KEYWORDS]
            found += [f"{ast.unparse(node.func)} without an encoding"] if is_text_in_any_encoding(node) else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_place = node.value.startswith(PLACES) and file not in HAS_OTHER_PLACES
            if node.value in ("fork", "forkserver") or is_place:
                found.append(repr(node.value))
            if node.value.startswith(OF_LINUX) and file not in MAY_READ_LINUX:
                found.append(repr(node.value))
    return found


def is_text_in_any_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in what the system takes for usual, which is not UTF-8 on Windows."""
    named = {keyword.arg for keyword in call.keywords}
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return "encoding" not in named and len(call.args) <= (call.func.attr == "write_text")
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        mode = next((k.value for k in call.keywords if k.arg == "mode"), call.args[1] if len(call.args) > 1 else None)
        is_binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        return "encoding" not in named and not is_binary
    return False


def is_guarded(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the node is in a try, under a condition that asks for the system, or after a return because of one."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.Try):
            return True
        if isinstance(node, ast.If | ast.IfExp) and asks(node.test):
            return True
        if isinstance(node, ast.FunctionDef) and any(
            isinstance(each, ast.If) and asks(each.test) for each in node.body
        ):
            return True
    return False


def asks(test: ast.expr) -> bool:
    text = ast.unparse(test)
    return "sys.platform" in text or "hasattr" in text or "len(pages)" in text


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_other_systems_lack(name):
    assert not unfit(FILES[name].read_text(encoding="utf-8"), name)


@pytest.mark.parametrize(
    ("source", "is_unfit"),
    [
        ("import fcntl", True),
        ("import sys\nif sys.platform != 'win32':\n    import fcntl", False),
        ("import os\nos.fork()", True),
        ("import os\nos.sysconf('x')", True),
        ("import os\ntry:\n    os.sysconf('x')\nexcept AttributeError:\n    pass", False),
        ("import signal\nsignal.SIGHUP", True),
        ("import signal\nsignal.pthread_sigmask(0, ())", True),
        ("import signal\nif hasattr(signal, 'pthread_sigmask'):\n    signal.pthread_sigmask(0, ())", False),
        ("import signal\ngetattr(signal, 'SIGHUP', None)", False),
        ("open('/tmp/x')", True),
        ("open('/proc/meminfo')", True),
        ("get_context('fork')", True),
        ("get_context('spawn')", False),
        ("import os\nos.rename('a', 'b')", True),
        ("import subprocess\nsubprocess.Popen('x', preexec_fn=print)", True),
        ("from pathlib import Path\nPath('x').read_text()", True),
        ("from pathlib import Path\nPath('x').write_text('é', encoding='utf-8')", False),
        ("open('x', 'w')", True),
        ("open('x', 'rb')", False),
    ],
)
def test_the_search_finds_what_it_is_for(source, is_unfit):
    assert bool(unfit(source)) == is_unfit


@pytest.fixture
def machine(monkeypatch):
    def has(gpus: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("gpus", "mps", "accelerator", "asked", "chosen"),
    [
        (0, True, "mps", 1, ("mps", 1)),
        (0, True, "mps", 0, ("cpu", 1)),
        (0, True, "auto", 1, ("cpu", 1)),
        (0, True, "cpu", 2, ("cpu", 2)),
        (0, False, "auto", 1, ("cpu", 1)),
        (2, False, "auto", 1, ("gpu", 1)),
        (2, False, "gpu", 2, ("gpu", 2)),
        (2, False, "cpu", 1, ("cpu", 1)),
    ],
)
def test_where_a_training_runs(machine, gpus, mps, accelerator, asked, chosen):
    machine(gpus, mps)
    assert devices_of(config("ngp", accelerator=accelerator, num_gpus=asked)) == chosen


@pytest.mark.parametrize(
    ("mps", "asked", "told"), [(False, 1, "--accelerator mps: PyTorch sees no GPU of Apple"), (True, 2, "--num_gpus 2")]
)
def test_a_gpu_of_apple_that_is_not_there(machine, mps, asked, told):
    machine(0, mps)
    with pytest.raises(UserError, match=told):
        devices_of(config("ngp", accelerator="mps", num_gpus=asked))


def test_a_deterministic_training_is_not_for_apples_gpu(machine):
    machine(0, mps=True)
    with pytest.raises(UserError, match="--deterministic"):
        devices_of(config("ngp", accelerator="mps", num_gpus=1, deterministic=True))
    assert devices_of(config("ngp", accelerator="cpu", num_gpus=1, deterministic=True)) == ("cpu", 1)


def test_apples_gpu_runs_plain_pytorch_with_the_sizes_of_a_cpu():
    assert not choose(torch.device("mps")).uses_kernels
    assert choose(torch.device("mps")).dtype == torch.float32
    for method in METHODS.values():
        sizes = [method.complete(method.preset, device) for device in ("mps", "cpu")]
        assert sizes[0] == sizes[1]
