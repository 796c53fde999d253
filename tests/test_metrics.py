"""Metrics against closed forms and an independent computation."""

import math

import numpy as np
import pytest
import torch

from nerf_pl import metrics
from nerf_pl.evaluation import views
from nerf_pl.metrics import fitted, fitted_together, psnr, ssim


def test_psnr_of_a_constant_error():
    target = torch.rand(7, 5, 3) * 0.5
    assert psnr(target + 0.1, target).item() == pytest.approx(20, abs=1e-4)
    assert psnr(target, target).item() == math.inf


def test_psnr_of_black_and_white():
    assert psnr(torch.zeros(4, 4, 3), torch.ones(4, 4, 3)).item() == 0


def test_ssim_of_equal_pictures_is_one():
    image = torch.rand(24, 32, 3)
    assert ssim(image, image).item() == pytest.approx(1, abs=1e-5)


def test_ssim_of_constant_pictures_has_a_closed_form():
    a, b, c1 = 0.3, 0.7, 0.01**2
    value = ssim(torch.full((16, 20, 3), a, dtype=torch.float64), torch.full((16, 20, 3), b, dtype=torch.float64))
    assert value.item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)


def test_ssim_follows_its_definition():
    rng = np.random.default_rng(0)
    a = rng.random((19, 23, 3))
    b = np.clip(a + 0.2 * rng.standard_normal(a.shape), 0, 1)
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window /= window.sum()

    def mean(x):
        rows = np.apply_along_axis(np.convolve, 0, x, window, "valid")
        return np.apply_along_axis(np.convolve, 1, rows, window, "valid")

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert ssim(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(expected.mean(), abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_ssim_of_a_gpu_is_that_of_a_cpu():
    """Bright pictures of little contrast: TF32 would lose the variances."""
    torch.manual_seed(0)
    a = 0.9 + 0.01 * torch.rand(64, 80, 3)
    b = a + 0.003 * torch.randn(64, 80, 3)
    assert ssim(a.cuda(), b.cuda()).item() == pytest.approx(ssim(a, b).item(), abs=1e-4)


def test_ssim_of_a_picture_smaller_than_its_window_is_refused():
    assert torch.isfinite(ssim(torch.rand(11, 11, 3), torch.rand(11, 11, 3)))
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.rand(10, 30, 3), torch.rand(10, 30, 3))


def test_parts_of_a_photo_are_fitted_alike():
    """As the whole photo is; a part of its own would hide what the model has wrong there."""
    torch.manual_seed(0)
    photo, pred = torch.rand(16, 16, 3), torch.rand(16, 16, 3)
    mask = torch.rand(16, 16) > 0.3
    parts = (slice(None, 5), slice(5, None))
    for each in (None, mask):
        masks = [each if each is None else each[part] for part in parts]
        found = fitted_together([pred[part] for part in parts], [photo[part] for part in parts], masks)
        torch.testing.assert_close(torch.cat(found), fitted(pred, photo, each))
    assert psnr(found[0], photo[:5]) < psnr(fitted(pred[:5], photo[:5]), photo[:5])


def test_a_change_of_exposure_is_fitted_away():
    """And of white balance, also where only some pixels count; nothing else is."""
    torch.manual_seed(0)
    photo = torch.rand(16, 16, 3) * 0.6 + 0.1
    changed = photo * torch.tensor([0.8, 1.1, 1.0]) + 0.05
    assert psnr(fitted(changed, photo), photo) > 60 > 30 > psnr(changed, photo)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:, :9] = True
    broken = torch.where(mask[..., None], changed, torch.rand(16, 16, 3))
    assert psnr(fitted(broken, photo, mask), photo, mask) > 60
    assert psnr(fitted(photo, photo.flip(0)), photo.flip(0)) < 25
    grey = torch.full_like(photo, 0.5)  # of one colour: the fit has many solutions, and gives the mean of the photo
    assert psnr(fitted(grey, photo), photo) == pytest.approx(
        float(psnr(photo.mean((0, 1)).expand_as(photo), photo)), abs=0.1
    )


def test_masks_leave_the_rest_out():
    a, b = torch.rand(40, 30, 3), torch.rand(40, 30, 3)
    mask = torch.zeros(40, 30, dtype=torch.bool)
    mask[:20] = True
    assert psnr(a, b, mask).item() == pytest.approx(psnr(a[:20], b[:20]).item(), abs=1e-4)
    other = torch.where(mask[..., None], a, torch.rand(40, 30, 3))
    assert ssim(other, b, mask).item() == pytest.approx(ssim(a, b, mask).item(), abs=1e-6)
    # where windows do not reach over the edge of the mask, its values are those of the picture alone
    mask[15:] = False
    assert ssim(torch.cat([a[:20], b[20:]]), b, mask).item() == pytest.approx(ssim(a, b, mask).item(), abs=2e-2)
    assert ssim(a, b, torch.ones_like(mask)).item() == pytest.approx(ssim(a, b).item(), abs=1e-6)


def test_a_picture_for_which_a_gpu_has_no_room_is_scored_on_the_cpu(monkeypatch):
    picture, target, asked = torch.rand(16, 16, 3), torch.rand(16, 16, 3), []

    def full(*given):
        asked.append(given)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("no room")
        return ssim(*given)

    monkeypatch.setattr(metrics, "ssim", full)
    found = views._psnr_and_ssim(picture, target, None, torch.device("cpu"))
    assert found == (psnr(picture, target).item(), ssim(picture, target).item())
    assert len(asked) == 2
    assert asked[1][0] is picture
