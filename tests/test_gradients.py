"""One batch and its gradients, as the training loop asks for them."""

import torch

from nerf_pl.data import PixelBatches
from nerf_pl.models import NeRF
from nerf_pl.scenes import load_scene
from nerf_pl.scenes.demo import make_demo
from nerf_pl.system import Gradients


def small(tmp_path) -> Gradients:
    scene = load_scene(make_demo(tmp_path / "scene", size=16, n_train=3, n_val=1, n_test=1))
    model = NeRF(4, 4, noise_std=0.0, net_depth=2, net_width=32, net_skip=1).train()
    if torch.cuda.is_available():
        model = model.cuda()
    return Gradients(model, PixelBatches(scene, 64, seed=0).to(model.step.device))


def test_a_call_counts_the_step_and_sums_the_error(tmp_path):
    gradients = small(tmp_path)
    gradients()
    first = gradients.error.item()
    gradients()
    assert gradients.model.step.item() == 2
    assert 0 < first < gradients.error.item()


def test_capture_leaves_no_trace(tmp_path):
    gradients = small(tmp_path)
    before = [p.detach().clone() for p in gradients.model.parameters()]
    gradients.model.step.fill_(7)
    assert gradients.capture() > 0
    assert gradients.model.step.item() == 7
    assert gradients.error.item() == 0
    assert all(torch.equal(p, b) for p, b in zip(gradients.model.parameters(), before, strict=True))


def test_gradients_come_back_after_somebody_took_them_off(tmp_path):
    """Lightning zeroes gradients before the first step and around validations, by taking them off the parameters; a
    CUDA graph, which writes to fixed places, does not put them on again."""
    gradients = small(tmp_path)
    gradients()
    truth = [p.grad.clone() for p in gradients.model.parameters()]
    places = [torch.zeros_like(g) for g in truth]

    class Graph:
        def replay(self):
            for place, value in zip(places, truth, strict=True):
                place.copy_(value)

    if gradients.error.is_cuda:
        gradients.model.step.zero_()
        gradients.capture()
    else:
        gradients.graph, gradients._grads = Graph(), places
    for _ in range(2):
        gradients.model.zero_grad(set_to_none=True)
        gradients.model.step.zero_()
        gradients()
        for p, g in zip(gradients.model.parameters(), truth, strict=True):
            assert torch.allclose(p.grad, g, rtol=1e-4, atol=1e-7)
