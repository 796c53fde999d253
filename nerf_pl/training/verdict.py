"""Whether a training can learn the scene, and whether it has learned it, or only its photos."""

import math

import torch

from nerf_pl.options import Options
from nerf_pl.options.ranges import OfTransparent, marks
from nerf_pl.scenes import Scene, on_background
from nerf_pl.text import counted, typed

GAP, POOR = 6.0, 22.0  # dB: between photos trained on and held out; below this the held-out ones look wrong
FEWEST_STEPS = 1000  # after fewer it is too early to judge
FAILED = 13.0  # dB: a picture of one plain colour often has as much
FEW_STEPS = 20  # after which a training mostly is better than one colour
ENOUGH_STEPS = 200  # after which it always is, unless its steps are too large
NARROWEST, WIDEST = 2.5, 140.0  # degrees that lenses see across, straightened; phones 65 to 75
NOTHING = 0.5  # dB by which it must be worse to be said
SPOT = 1e-6  # cameras that are no farther apart, as a share of their distance from the origin, stand in one place
LOOKS, PIXELS = 16, 2**14  # views, and pixels of each, of which the one colour is the mean


def plain_psnr(scene: Scene) -> float:
    """The PSNR, in dB, that pictures of one colour would have: the mean colour of the training views."""
    step = max(len(scene) // LOOKS, 1)
    pixels = []
    for i in range(0, len(scene), step):
        width, height = scene.cameras.size(i)
        every = max(int((width * height / PIXELS) ** 0.5), 1)
        view = scene.images[i, :height:every, :width:every]
        pixels.append(on_background(view, scene.background).flatten(0, 1))
    error = float(torch.cat(pixels).var(0, unbiased=False).mean())
    return -10 * math.log10(max(error, 1e-12))


def alone(scene: Scene, val: Scene | None) -> str:
    """What to tell of a training on one photo, or on photos from one place; an empty text if there are others, or if
    they show all around."""
    if scene.cameras.panorama or scene.photos:
        return ""
    if len(scene) > 1:
        centres = scene.cameras.c2w[:, :, 3]
        if (centres - centres[0]).norm(dim=1).max() > SPOT * (1 + centres[0].norm()):
            return ""
        told = "all cameras stand in one place, which does not tell how far things are, so views from elsewhere will be"
        return f"{scene.root}: {told} wrong: are the positions in its file right?"
    remedy = "give --test_every 0, which holds none out, and take more photos" if val else "take more photos"
    return f"{scene.root}: one photo alone does not tell how far things are, so new views will be wrong: {remedy}"


def strange_lens(scene: Scene) -> str:
    """What to tell if cameras see as little or as much across as no lens does; an empty text if they do not."""
    if scene.cameras.panorama:
        return ""
    widths = torch.tensor([scene.cameras.size(i)[0] for i in range(len(scene))])
    across = float(torch.rad2deg(2 * torch.atan(widths / (2 * scene.cameras.K[:, 0, 0]))).median())
    if NARROWEST <= across <= WIDEST:
        return ""
    units = "a focal length belongs there in pixels, camera_angle_x in radians, x_fov in degrees"
    return f"{scene.root}: the cameras see {across:.3g} degrees across; is that right? In files of scenes {units}"


def idle(options: Options, scene: Scene) -> str:
    """What to tell of options that are given and change nothing, as all pictures are opaque; an empty text if there are
    none. No error: a sweep gives all scenes the same options."""
    if scene.images.shape[-1] == 4:
        return ""
    values = {name: getattr(options, name) for name, _ in marks(type(options), OfTransparent)}
    given = [typed(name, value) for name, value in values.items() if value is not None]
    return f"{' '.join(given)} changes nothing: the pictures of {scene.root} are opaque" if given else ""


def untrained(fields: int, steps: int | None, world: int = 1) -> str:
    """What to tell of a training with too few steps for all fields of an ensemble; an empty text if there are enough.
    steps: of each of `world` processes; None if it is not known how many there will be."""
    if steps is None or steps * world >= fields:
        return ""
    told = f"each step trains one field, and the training has {counted(steps, 'step')} for {fields} fields"
    return f"{told}: the others stay noise. Give {fields} steps or more, or --ensemble {max(steps, 1)}"


def verdict(steps: int, train_psnr: float | None, val_psnr: float | None, plain: float = -math.inf) -> str | None:
    """What to tell, with advice, of a training that went wrong; None if it did not, or if there is nothing to tell it
    by. The PSNR, in dB, of the last pixels trained on, of the views for validation, and of pictures of one colour."""
    if steps >= FEW_STEPS and train_psnr is not None and train_psnr < plain - NOTHING:
        told = f"the result is worse than one plain colour: {train_psnr:.1f} dB, where that has {plain:.1f} dB"
        return f"{told}; {'train longer' if steps < ENOUGH_STEPS else 'give a lower --lr, or train longer'}"
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
