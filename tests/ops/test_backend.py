"""Which path runs where."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nerf_pl.ops import backend
from nerf_pl.ops.backend import FAMILIES, Backend, choose, describe, precision_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")
EVERYWHERE = ("rays", "pixels", "adam")  # families whose kernels run in every precision


@pytest.fixture(autouse=True)
def _hopper(monkeypatch):
    """A GPU for which there is Triton, whatever the machine."""
    monkeypatch.delenv("NERF_PL_OPS", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(backend, "_has", lambda package: package == "triton")
    monkeypatch.setattr(backend, "_numba_fails", lambda: "No module named 'numba'")


def kernels(chosen: Backend) -> set[str]:
    return {family for family in FAMILIES if getattr(chosen, family) == "triton"}


def test_a_cpu_runs_the_twins():
    assert choose(CPU) == Backend()
    assert choose(CPU, "bf16") == Backend(dtype=torch.bfloat16)
    assert not choose(CPU).uses_kernels
    assert describe(choose(CPU), CPU) == "plain PyTorch"


def test_a_cpu_runs_what_numba_compiles(monkeypatch):
    monkeypatch.setattr(backend, "_numba_fails", lambda: "")
    chosen, families = choose(CPU), ("hash_field", "march", "adam")
    assert chosen == Backend(**dict.fromkeys(families, "numba"))
    assert describe(chosen, CPU) == "compiled by Numba"
    assert describe(chosen, CPU, "rays", "mlp") == "plain PyTorch"
    assert choose(torch.device("mps")) == Backend()
    monkeypatch.setenv("NERF_PL_OPS", "reference")
    assert choose(CPU) == Backend()


def test_a_numba_that_does_not_work_is_told(monkeypatch):
    monkeypatch.setattr(backend, "_numba_fails", lambda: "Numba needs NumPy 2.4 or less")
    monkeypatch.setattr(backend, "_has", lambda package: True)
    assert choose(CPU) == Backend()
    assert describe(choose(CPU), CPU) == "plain PyTorch (Numba does not work: Numba needs NumPy 2.4 or less)"
    monkeypatch.setenv("NERF_PL_OPS", "reference")
    assert describe(choose(CPU), CPU) == "plain PyTorch"


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_gpu_runs_the_kernels(precision):
    chosen = choose(GPU, precision)
    assert kernels(chosen) == set(FAMILIES)
    assert chosen.dtype == torch.bfloat16
    assert describe(chosen, GPU) == "Triton kernels"


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_the_field_needs_half_precision_for_its_kernels(precision):
    chosen = choose(GPU, precision)
    assert kernels(chosen) == set(EVERYWHERE)
    assert chosen.dtype == torch.float32


@pytest.mark.parametrize(("capability", "fused"), [((8, 9), False), ((9, 0), True), ((10, 3), True), ((12, 0), False)])
def test_the_fused_network_runs_where_it_fits(capability, fused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert kernels(choose(GPU)) == set(FAMILIES) - (set() if fused else {"mlp"})


def test_without_triton(monkeypatch):
    monkeypatch.setattr(backend, "_has", lambda package: False)
    chosen = choose(GPU)
    assert not kernels(chosen)
    assert chosen.dtype == torch.bfloat16
    assert describe(chosen, GPU) == "plain PyTorch (Triton is not installed: pip install triton)"


def test_the_choice_can_be_forced(monkeypatch):
    monkeypatch.setenv("NERF_PL_OPS", "reference")
    assert not kernels(choose(GPU))
    assert describe(choose(GPU), GPU) == "plain PyTorch"
    monkeypatch.setenv("NERF_PL_OPS", "kernel")
    assert kernels(choose(CPU)) == set(EVERYWHERE)
    assert kernels(choose(CPU, "bf16")) == set(FAMILIES)
    monkeypatch.setenv("NERF_PL_OPS", "fast")
    with pytest.raises(ValueError, match="NERF_PL_OPS='fast'"):
        choose(GPU)


def test_a_deterministic_gpu_runs_the_twins(monkeypatch):
    for asked in ("", "kernel"):
        monkeypatch.setenv("NERF_PL_OPS", asked)
        assert choose(GPU, deterministic=True) == Backend(dtype=torch.bfloat16)
    monkeypatch.delenv("NERF_PL_OPS")
    monkeypatch.setattr(backend, "_numba_fails", lambda: "")
    assert choose(CPU, deterministic=True) == choose(CPU) != Backend(), "a CPU repeats itself anyway"


def test_precision(monkeypatch):
    assert [precision_of(name, GPU) for name in ("auto", "fp32", "tf32", "bf16")] == ["bf16", "fp32", "tf32", "bf16"]
    assert precision_of("auto", CPU) == "fp32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert precision_of("auto", GPU) == "fp32"
    with pytest.raises(ValueError, match="precision='fp16'"):
        precision_of("fp16", GPU)


def test_modules_are_those_of_the_backend():
    pytest.importorskip("triton")
    for family in FAMILIES:
        assert Backend().module(family).__name__ == f"nerf_pl.ops.{family}.reference"
        other = replace(Backend(), **{family: "triton"})
        assert other.uses_kernels
        assert other.module(family).__name__ == f"nerf_pl.ops.{family}.triton"


def test_importing_the_ops_leaves_compilers_alone():
    code = "import sys, nerf_pl.ops as ops; ops.Backend().module('march')"
    code += "; assert not {'triton', 'numba'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_numba_keeps_may_be_damaged(tmp_path, monkeypatch):
    """A machine that is lost may leave files empty, and a disk may be full; neither ends a training."""
    numba = pytest.importorskip("numba")
    from nerf_pl.ops.numba_jit import _Kept, compiled

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def twice(x: float) -> float:
        return 2 * x

    def compiles() -> int:
        made = compiled(twice)
        assert made(2.0) == 4.0
        return sum(made.stats.cache_misses.values())

    assert [compiles(), compiles()] == [1, 0]
    for suffix, content in (("nbi", b""), ("nbi", b"cut"), ("nbc", b"cut")):
        (file,) = tmp_path.rglob(f"*.{suffix}")
        file.write_bytes(content)
        assert [compiles(), compiles()] == [1, 0]
    (file,) = tmp_path.rglob("*.nbi")
    file.unlink()
    file.mkdir()  # nothing can be kept
    assert [compiles(), compiles()] == [1, 1]
    monkeypatch.setattr(_Kept, "__init__", lambda self, function: exec("raise RuntimeError"))
    assert compiles() == 1
