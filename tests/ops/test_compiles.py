"""Every kernel compiles for every GPU, without one, and fits on its chip."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from nerf_pl.doctor.compiles import CHIPS, Compiled, compile_for, table
from nerf_pl.doctor.launches import launch_all, pretending
from nerf_pl.errors import UserError

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
OPS = Path(__file__).resolve().parent.parent.parent / "nerf_pl" / "ops"
KNOWN_STACK = {  # bytes of a thread at most, as docs/speed.md has them
    "field_backward_kernel": 1040, "field_kernel": 64, "resample_kernel": 16, "forward_kernel": 184,
    "backward_kernel": 392, "weight_gradient_kernel": 128,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))


def trees() -> list[ast.Module]:
    return [ast.parse(file.read_text(encoding="utf-8")) for file in OPS.rglob("*.py")]


@cache
def launched_in_source() -> set[str]:
    """The kernels that are launched anywhere in ops, as `name[grid](...)`."""
    nodes = [node for tree in trees() for node in ast.walk(tree)]
    marked = (node for node in nodes if isinstance(node, ast.FunctionDef) and node.decorator_list)
    kernels = {node.name for node in marked if any("triton.jit" in ast.unparse(mark) for mark in node.decorator_list)}
    launches = (
        node.func.value for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)
    )
    return kernels & {ast.unparse(value).split(".")[-1] for value in launches}


def test_no_kernel_is_missed(monkeypatch):
    """What is compiled is what is launched while both methods train and render on a large GPU."""
    from nerf_pl.ops.adam.triton import adam_kernel

    found: set[str] = set()
    monkeypatch.setattr(type(adam_kernel), "run", lambda self, *_, **__: found.add(self.fn.__name__))
    with pretending((9, 0)):
        launch_all()
    assert len(found) > 20
    assert found == launched_in_source()


def test_a_kernel_compiles_for_a_gpu_that_is_not_there():
    found = {each.kernel: each for each in compile_for(["sm_86"], ["scan_kernel", "field_kernel"])}
    assert set(found) == {"scan_kernel", "field_kernel"}
    assert not any(each.wrong for each in found.values())
    assert found["scan_kernel"].warps == 16
    assert found["scan_kernel"].registers > 16
    assert found["field_kernel"].shared > 10_000


def test_what_does_not_fit_is_told():
    fits, too_large = (Compiled("sm_86", "k", 8, shared, 255, 40) for shared in (99 * 1024, 100 * 1024))
    assert not fits.wrong
    assert too_large.wrong == "takes 100 KB of shared memory, of 99"
    assert not Compiled("sm_90", "k", 8, 227 * 1024).wrong
    columns = Compiled("sm_100", "k", columns=656)
    assert columns.wrong == "takes 656 columns of tensor memory, of 512"
    broken = Compiled("sm_75", "k", failed="ValueError: no bf16")
    assert "ValueError" in broken.wrong
    shown = table([fits, broken, Compiled("sm_86", "other", 4, 512, 32)])
    assert "| `k` | 255 / 99 / 40 | does not compile |" in shown
    assert "| `other` | 32 / <1 | – |" in shown


def test_an_unknown_gpu_is_refused():
    with pytest.raises(UserError, match="--compile sm_70 is unknown: give sm_75, "):
        list(compile_for(["sm_70"]))


@pytest.mark.slow
@pytest.mark.parametrize("chip", CHIPS)
def test_every_kernel_compiles_and_fits(chip):
    found = list(compile_for([chip]))
    assert not [f"{each.kernel} {each.wrong}" for each in found if each.wrong]
    more = [each for each in found if each.stack > KNOWN_STACK.get(each.kernel, 0)]
    assert not more, "these spill more than is known"
    capability = CHIPS[chip].capability
    assert len({each.kernel for each in found}) >= (6 if capability < (8, 0) else 17)
