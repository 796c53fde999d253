"""Whether a training has learned the scene, or only its photos."""

GAP, POOR = 6.0, 22.0  # dB: between photos trained on and held out; below this the held-out ones look wrong
FEWEST_STEPS = 1000  # after fewer it is too early to judge
FAILED = 13.0  # dB: a picture of one plain colour often has as much


def verdict(steps: int, train_psnr: float | None, val_psnr: float | None) -> str | None:
    """What to tell, with advice, of a training that went wrong; None if it did not, or if there is nothing to tell it
    by. The PSNR, in dB, of the last pixels trained on, and of the views for validation."""
    if steps < FEWEST_STEPS or val_psnr is None or train_psnr is None:
        return None
    if train_psnr < FAILED:
        told = f"the training has learned little: the photos that it trained on have {train_psnr:.1f} dB"
        return f"{told}; check the poses (nerf info says where the cameras are), and train longer"
    if val_psnr < POOR and train_psnr - val_psnr > GAP:
        told = f"the views that were held out have {val_psnr:.1f} dB and those trained on {train_psnr:.1f} dB"
        causes = "the poses are wrong (try --refine_poses), or the photos are too few, too far apart or not alike"
        return f"{told}: the photos were learned, but not the scene. Mostly {causes}; a shorter training overfits less"
    return None
