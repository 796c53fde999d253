"""What `nerf doctor` finds, on this machine and on others."""

import shutil
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import nerf

from nerf_pl.doctor import compare_gradients, compare_kernels, findings, gradients, kernels
from nerf_pl.doctor.findings import Finding
from nerf_pl.errors import UserError
from nerf_pl.methods.ngp.trust import require_right_gradients
from nerf_pl.ops import FAMILIES, Backend, FieldLayout
from nerf_pl.ops.hash_field import comparison

there = sys.modules["nerf_pl.doctor.findings"]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
KERNELS = Backend("triton", "triton", "triton", "triton", "triton", "triton")
needs_triton = pytest.mark.skipif(not there.importlib.util.find_spec("triton"), reason="needs triton")


def test_every_finding_is_a_line():
    found = list(findings(CPU))
    assert [finding.name for finding in found][:3] == ["nerf_pl", "command", "system"]
    assert {"GPU", "kernels", "C compiler", "memory", "disk", "extras", "environment"} <= {each.name for each in found}
    assert all("\n" not in each.value + each.advice and each.value for each in found)


@needs_triton
def test_every_family_agrees_with_its_twin():
    found = list(compare_kernels(KERNELS, DEVICE))
    assert [each.family for each in found] == list(FAMILIES)
    assert all(each.is_good for each in found), found


@pytest.mark.parametrize("family", ["adam", "rays"])
def test_twins_are_not_compared_with_themselves(family):
    backend = Backend(**{family: "triton"})
    patched = {family: (lambda backend, device: [torch.ones(2)], 0.0), "mlp": (lambda backend, device: 1 / 0, 0.0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "CHECKS", patched)
        assert [each.family for each in compare_kernels(backend, CPU)] == [family]


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        ([2.0, 1.0], ""),
        ([1.0], ""),
        ([1.0, float("nan")], ""),
        (RuntimeError("no\ncompiler"), "RuntimeError: no compiler"),
    ],
)
def test_a_kernel_that_is_wrong_is_told(monkeypatch, capsys, kernel, told):
    def run(backend: Backend, device: torch.device) -> list[torch.Tensor]:
        if not backend.uses_kernels:
            return [torch.ones(2)]
        if isinstance(kernel, Exception):
            raise kernel
        return [torch.tensor(kernel)]

    monkeypatch.setattr(kernels, "CHECKS", {"rays": (run, 1e-3)})
    monkeypatch.setattr("nerf_pl.doctor.findings", lambda device: iter([]))
    (found,) = compare_kernels(KERNELS, CPU)
    assert not found.is_good
    assert found.failed == told
    with pytest.raises(SystemExit) as stop:
        nerf("doctor")
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "DISAGREE" in out
    assert "NERF_PL_OPS=reference" in out
    assert told in out
    assert "1 is wrong" in out


def of_a_small_field(monkeypatch: pytest.MonkeyPatch) -> FieldLayout:
    monkeypatch.setattr(gradients, "WIDTHS", (32, 16))
    for name, value in (("RAYS", 5), ("PER_RAY", 27)):
        monkeypatch.setattr(comparison, name, value)
    return FieldLayout(gradients.GRID.width, 64, 16, 16, 16)


@needs_triton
def test_gradients_of_kernels_agree_with_the_twin(monkeypatch):
    if DEVICE != CUDA:
        of_a_small_field(monkeypatch)
    (found,) = compare_gradients(KERNELS, DEVICE)
    assert found.is_good, found
    assert DEVICE == CUDA or found.error < 1e-5


@pytest.mark.parametrize("name", ["density_0", "view", "table"])
def test_a_gradient_that_is_wrong_is_told(monkeypatch, name):
    """Also of one small matrix, whose norm is little of that of all."""
    layout = of_a_small_field(monkeypatch)
    truth = comparison.gradients(Backend(), gradients.GRID, layout, torch.float64, CPU, 0.0)
    own = tuple(each.float() for each in truth)
    assert comparison.error_of(own, truth, layout) < 1e-6
    parts = dict(zip(layout.shapes, own[1].split(layout.sizes), strict=True)) | {"table": own[0]}
    part = parts[name]
    part.mul_(0.5)
    assert comparison.error_of(own, truth, layout) > 2 * max(comparison.LIMIT.values())
    part.fill_(float("nan"))
    assert comparison.error_of(own, truth, layout) == float("inf")


@needs_triton
def test_a_training_with_unusual_sizes_compares_its_gradients_first(monkeypatch):
    layout = of_a_small_field(monkeypatch)
    right = comparison.gradients

    def wrong(backend, grid, networks, *given):
        table, params = right(Backend(), grid, networks, *given)
        return table, params if backend == Backend() else params * 0.5

    require_right_gradients(gradients.GRID, layout, KERNELS, CPU)
    monkeypatch.setattr(comparison, "gradients", wrong)
    require_right_gradients(gradients.GRID, layout, Backend(), CPU)
    for usual in (64, 128):
        require_right_gradients(gradients.GRID, replace(layout, colour_hidden=usual), KERNELS, CPU)
    with pytest.raises(UserError, match=r"--colour_hidden 16 .* wrong .* Triton \d.*: leave out --colour_hidden 16,"):
        require_right_gradients(gradients.GRID, layout, KERNELS, CPU)


@needs_triton
@pytest.mark.parametrize(
    ("said", "raised"),
    [("Triton Error [CUDA]: an illegal memory access was encountered", UserError), ("out of memory", RuntimeError)],
)
def test_an_address_that_is_wrong_is_a_wrong_gradient(monkeypatch, said, raised):
    def fails(*_):
        raise RuntimeError(said)

    layout = of_a_small_field(monkeypatch)
    monkeypatch.setattr(comparison, "gradients", fails)
    with pytest.raises(raised) as error:
        require_right_gradients(gradients.GRID, layout, KERNELS, CPU)
    assert type(error.value) is raised


def test_a_gpu_without_room_for_the_wide_network_is_tested_with_the_other(monkeypatch):
    class OutOfResources(Exception):  # noqa: N818 - its name in Triton
        pass

    of_a_small_field(monkeypatch)
    found, right, room = [], comparison.gradients, [0]

    def run(backend, grid, layout, number, *given):
        found.append((layout.colour_hidden, number))
        if number == torch.float32 and layout.colour_hidden > room[0]:
            raise OutOfResources("shared memory")
        return right(backend, grid, layout, number, *given)

    monkeypatch.setattr(comparison, "gradients", run)
    for width, failed in ((16, ""), (8, "OutOfResources: shared memory")):
        found.clear()
        room[0] = width
        (compared,) = compare_gradients(Backend(), CPU)
        assert compared.failed == failed
        assert found[:2] == [(32, torch.float32), (16, torch.float32)]
        assert compared.is_good == (not failed)


def test_a_machine_without_faults(monkeypatch, capsys):
    monkeypatch.setattr(kernels, "CHECKS", {})
    monkeypatch.setattr("nerf_pl.doctor.findings", lambda device: iter([Finding("one", "two", "three")]))
    nerf("doctor")
    out = capsys.readouterr().out
    assert "one          two\n" in out
    assert "-> three\n" in out
    assert DEVICE == CUDA or "gradients    not compared: that takes a GPU" in out
    assert "nothing is wrong" in out


def test_a_driver_without_a_build_of_torch_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr(there, "DRIVERS", (str(tmp_path),))
    monkeypatch.setattr(torch.version, "cuda", None)
    found = there.gpu(CPU)
    assert found.is_wrong
    assert "install a CUDA build" in found.advice
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "check nvidia-smi" in there.gpu(CPU).advice


def test_no_compiler_matters_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert there.compiler(CUDA).is_wrong
    assert "gcc" in there.compiler(CUDA).advice
    assert not there.compiler(CPU).is_wrong
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setenv("CC", "my-cc")
    assert there.compiler(CUDA) == Finding("C compiler", "/bin/my-cc")


def test_little_memory_and_little_space(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    for free, is_little in ((10**8, True), (10**12, False)):
        monkeypatch.setattr(there, "free_memory", lambda free=free: free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: usage(free, 0, free))
        assert bool(there.memory().advice) == bool(there.disk(tmp_path).advice) == is_little
    monkeypatch.setattr(there, "free_memory", lambda: None)
    assert not there.memory().advice


def test_extras_that_are_missing_come_with_the_command(monkeypatch):
    monkeypatch.setattr(there, "EXTRAS", {"no_such_package": "mesh", "torch": "viewer", "nor_this": "colmap"})
    found = there.extras()
    assert found.value.startswith("torch ")
    assert 'pip install "nerf_pl[colmap,mesh]"' in found.advice


def test_a_command_beside_python_that_the_shell_does_not_find(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert there.command().value == "not installed"
    (tmp_path / "nerf").touch()
    found = there.command()
    assert "not on the PATH" in found.value
    assert f"source {Path(tmp_path / 'activate')}" in found.advice
