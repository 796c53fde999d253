"""The optimizer's step: the kernel against its twin in float64, the twin against PyTorch's."""

import pytest
import torch

from nerf_pl.ops import AdamStep, Backend, adam

pytest.importorskip("triton")

from inputs import BOTH, DEVICE, FUSED, TWINS, uniform


@pytest.mark.parametrize("pull", [0.0, 0.2])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("fused", FUSED)
def test_adam(fused, sparse, pull):
    def run(backend: Backend, number: torch.dtype) -> list[torch.Tensor]:
        p = (uniform(1500) - 0.5).to(number)
        half = p.half()
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        for step in range(1, 5):
            g = ((uniform(1500, seed=step) - 0.5) * (uniform(1500, seed=10 + step) < 0.5)).to(number)
            ok = torch.tensor(0.0 if step == 3 else 1.0, device=DEVICE)
            before = p.clone()
            how = AdamStep(0.01, 0.1, (0.9, 0.99), step, 1e-15, sparse, pull)
            adam(p, g, m, v, half, ok, how, backend=backend)
            assert torch.equal(before, p) == (step == 3)
            if sparse and not pull:
                assert torch.equal(before[g == 0], p[g == 0])
        return [value.double() for value in (p, m, v, half)]

    for own, truth in zip(run(FUSED[fused], torch.float32), run(TWINS, torch.float64), strict=True):
        assert torch.allclose(own, truth, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", BOTH)
def test_a_copy_is_not_needed(kind):
    results = []
    for half in (None, torch.zeros(5, dtype=torch.float16, device=DEVICE)):
        p, m, v = uniform(5), torch.zeros(5, device=DEVICE), torch.zeros(5, device=DEVICE)
        how = AdamStep(0.01, 0.0, (0.9, 0.99), 1, 1e-15, False)
        adam(p, uniform(5, seed=1), m, v, half, torch.tensor(1.0, device=DEVICE), how, backend=BOTH[kind])
        results.append(p)
    assert torch.equal(*results)
    assert torch.equal(half, p.half())


def test_a_pull_is_a_part_of_the_gradient():
    """That of a loss: half of it times the squared length of the parameter."""
    found = []
    for pull in (0.3, 0.0):
        p, m, v = uniform(5), torch.zeros(5, device=DEVICE), torch.zeros(5, device=DEVICE)
        g = uniform(5, seed=1) + (0 if pull else 0.3 * p)
        how = AdamStep(0.01, 0.0, (0.9, 0.99), 1, 1e-15, True, pull)
        adam(p, g, m, v, None, torch.tensor(1.0, device=DEVICE), how, backend=TWINS)
        found.append(torch.cat([p, m, v]))
    torch.testing.assert_close(*found)


def test_dense_adam_is_pytorchs():
    p = uniform(50).double().requires_grad_()
    own, m, v = p.detach().clone(), torch.zeros_like(p).detach(), torch.zeros_like(p).detach()
    theirs = torch.optim.AdamW([p], lr=0.02, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.3)
    for step in range(1, 6):
        p.grad = uniform(50, seed=step).double() - 0.5
        theirs.step()
        how = AdamStep(0.02, 0.3, (0.9, 0.99), step, 1e-15, False)
        adam(own, p.grad, m, v, None, torch.tensor(1.0, device=DEVICE), how, backend=TWINS)
    # PyTorch decays before the step and we after the moments: the same up to lr^2
    assert torch.allclose(own, p.detach(), atol=1e-3)
