"""Memory: what is free is known, and pictures that do not fit are refused, or kept on a disk, before they are read."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import NGP_FLAGS, nerf, refused

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, load_scene, memory, store
from nerf_pl.scenes.memory import GB, free_memory, in_gb

SHAPE = (800, 3000, 4000, 3)  # 800 photos of 12 megapixels


@pytest.fixture
def room(monkeypatch):
    """Sets what is free: in memory, and on the disk of temporary files."""

    def set_free(in_memory: float, on_disk: float = 0) -> None:
        monkeypatch.setattr(store, "free_memory", lambda: int(in_memory))
        monkeypatch.setattr(store, "_file_system", lambda folder: "ext4")
        monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: SimpleNamespace(free=int(on_disk)))

    return set_free


def test_what_does_not_fit_is_refused_in_one_line(room):
    room(20 * GB)
    with pytest.raises(UserError) as caught:
        store.empty_pictures(SHAPE, told="photos: 800 pictures of 4000x3000 pixels")
    told = "photos: 800 pictures of 4000x3000 pixels need 29 GB of memory, and 20 GB are free: give --downscale 2"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("free", "downscale", "remedy"),
    [(20, 1, "--downscale 2"), (4, 1, "--downscale 4"), (15, 2, "--downscale 3"), (0.001, 1, "fewer pictures")],
)
def test_the_advice_fits(room, free, downscale, remedy):
    assert remedy in store.smaller(SHAPE, 28.8 * GB, free * GB, downscale)


def test_masks_count_too(room):
    room(40 * GB)
    with pytest.raises(UserError, match="need 115 GB"):
        store.empty_pictures(SHAPE, told="photos", beside=9 * 9_600_000_000)


def test_pictures_without_room_in_memory_are_kept_on_a_disk(scene_dir, room, capsys, tmp_path, monkeypatch):
    """The same pictures, and the same training, with one line; nothing is left of the file."""
    before = load_scene(scene_dir, Request("train"))
    room(2000, on_disk=10 * GB)
    monkeypatch.setattr(store.tempfile, "gettempdir", lambda: str(tmp_path))
    scene = load_scene(scene_dir, Request("train"))
    assert torch.equal(scene.images, before.images)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"kept in a temporary file in {tmp_path}" in lines[0]
    monkeypatch.chdir(tmp_path)
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0, "--exp_name", "t")
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_a_gpu_has_to_hold_a_copy():
    images = torch.zeros(1, dtype=torch.uint8).expand(SHAPE)
    store.require_gpu_memory(images, 40 * GB, told="photos", masked=False, downscale=1)
    told = "photos need 29 GB of GPU memory, and 20 GB are free: give --downscale 2"
    with pytest.raises(UserError, match=told):
        store.require_gpu_memory(images, 20 * GB, told="photos", masked=False, downscale=1)
    with pytest.raises(UserError, match="need 115 GB of GPU memory"):
        store.require_gpu_memory(images, 40 * GB, told="photos", masked=True, downscale=1)


def test_a_command_without_room_ends_with_one_line(scene_dir, room, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    room(2000)
    message = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0, "--exp_name", "t")
    assert "4 pictures of 16x16 pixels need 0 MB of memory, and 0 MB are free: use fewer pictures" in message


def test_factors_of_reduced_pictures():
    assert store.reduced(Path("images/a.png"), (400, 300), (200, 150)) == 2
    assert store.reduced(Path("images_4/a.png"), (400, 300), (200, 150)) == 8
    assert store.reduced(Path("images/a.png"), (400, 300), (300, 400)) == 1


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """A machine with 20 GB, 12 of which are free."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    write(tmp_path / "proc", meminfo="MemTotal: 20000000 kB\nMemFree: 100 kB\nMemAvailable:   12000000 kB\nOdd:\n")
    return tmp_path


def test_what_the_machine_has(system):
    assert free_memory() == 1024 * 12_000_000


def test_what_a_container_may_take(system):
    """The least of a group and those around it; what the system can drop counts as free."""
    group = {"memory.max": "9000000000", "memory.current": "5000000000"}
    group["memory.stat"] = "anon 5\ninactive_file 1000000000"
    write(system / "proc" / "self", cgroup="0::/box/inner\n")
    for name, text in group.items():
        write(system / "cgroup" / "box", **{name: text})
    write(system / "cgroup" / "box" / "inner", **{"memory.max": "max\n", "memory.current": "4000000000\n"})
    assert free_memory() == 5_000_000_000


@pytest.mark.parametrize("place", ["memory/docker/1", "memory"])
def test_what_an_older_container_may_take(system, place):
    write(system / "proc" / "self", cgroup="5:cpu,cpuacct:/\n4:memory:/docker/1\n")
    group = {"memory.limit_in_bytes": "3000000000", "memory.usage_in_bytes": "2000000000"}
    write(system / "cgroup" / place, **group)
    assert free_memory() == 1_000_000_000


def test_a_group_that_uses_more_than_it_may(system):
    write(system / "proc" / "self", cgroup="0::/\n")
    write(system / "cgroup", **{"memory.max": "1000", "memory.current": "2000"})
    assert free_memory() == 0


def test_sizes_in_messages():
    assert [in_gb(size) for size in (28.8 * GB, 2.26 * GB, 9.96 * GB, 1e7)] == ["29 GB", "2.3 GB", "10 GB", "10 MB"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_limits_of_the_shell_count(system, monkeypatch):
    import resource

    write(system / "proc" / "self", statm="1000 200 3 4\n")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (5_000_000_000, -1))
    assert free_memory() == 5_000_000_000 - 1000 * resource.getpagesize()
