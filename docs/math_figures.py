"""The figures of docs/math.md: `make figures`. What they show is computed by the functions that the page explains."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nerf_pl.ops import Backend, composite, contract
from nerf_pl.sampling import hierarchical, stratified
from nerf_pl.types import Rays, Samples

IMAGES = Path(__file__).resolve().parent / "images"
RED, GREEN, BLUE, GREY = "#c43e20", "#3a8c46", "#285abe", "#969696"
NEAR, FAR = 2.0, 6.0
MIST, WALL = (2.7, 3.3, 0.6), (4.4, 4.8, 12.0)  # from, to, density: what the ray of the figures meets


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, draw in (("ray", ray), ("levels", levels), ("march", march), ("contraction", contraction)):
        figure = draw()
        figure.savefig(IMAGES / f"{name}.png", dpi=110, bbox_inches="tight", pad_inches=0.08)
        plt.close(figure)


def density(t: torch.Tensor) -> torch.Tensor:
    """A thin mist, and a wall behind it."""
    parts = [torch.where((t >= low) & (t < high), sigma, 0.0) for low, high, sigma in (MIST, WALL)]
    return parts[0] + parts[1]


def along_the_ray(n: int, m: int) -> tuple[Samples, torch.Tensor, Samples, torch.Tensor]:
    """n even samples with their weights, then those with m more where the weights are, with theirs."""
    ahead = torch.tensor([[0.0, 0.0, -1.0]])
    rays = Rays(torch.zeros(1, 3), ahead, ahead, torch.tensor([NEAR]), torch.tensor([FAR]))
    coarse = stratified(rays, n)
    weights = composite(density(coarse.t), None, coarse, backend=Backend()).weights
    fine = hierarchical(coarse, weights, torch.linspace(0, 1, m)[None], backend=Backend())
    return coarse, weights, fine, composite(density(fine.t), None, fine, backend=Backend()).weights


def ray() -> Figure:
    """Density, transmittance and weights along a ray; then the samples of the second pass."""
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(8.6, 5.2), sharex=True, height_ratios=(3, 2, 2))
    t = torch.linspace(NEAR, FAR, 2000)
    sigma = density(t)
    light = torch.exp(-torch.cumsum(sigma * (t[1] - t[0]), 0))
    top.fill_between(t, sigma / 12, color=GREY, alpha=0.5, lw=0, label="density σ, of at most 12")
    top.plot(t, light, color=BLUE, label="T, the light that gets here")
    top.set(ylabel="a thin mist, a wall")
    top.legend(loc="upper right", frameon=False)
    coarse, weights, fine, finer = along_the_ray(24, 32)
    for axes, samples, w, colour, told in (
        (middle, coarse, weights, RED, "24 even samples"),
        (bottom, fine, finer, GREEN, "and 32 more, where w is"),
    ):
        axes.vlines(samples.t, 0, w, color=colour, lw=2.5)
        axes.plot(samples.t, torch.zeros_like(samples.t), "|", color=colour, ms=7)
        axes.set(ylabel="weight w", ylim=(-0.15 * float(w.max()), 1.25 * float(w.max())))
        axes.text(0.99, 0.8, told, transform=axes.transAxes, ha="right", color=colour)
    bottom.set(xlabel="t, the distance from the camera", xlim=(NEAR, FAR))
    return tidy(figure)


def levels() -> Figure:
    """Three levels of a grid over the same square, with the corners that a point reads on each."""
    figure, panels = plt.subplots(1, 3, figsize=(8.6, 3.1))
    point = np.array([0.58, 0.66])
    for axes, n in zip(panels, (4, 9, 20), strict=True):
        at = np.linspace(0, 1, n + 1)
        axes.vlines(at, 0, 1, color=GREY, lw=0.6)
        axes.hlines(at, 0, 1, color=GREY, lw=0.6)
        low = np.floor(point * n)
        corners = np.array([[x, y] for x in (0, 1) for y in (0, 1)]) + low
        shares = np.abs(1 - np.abs(corners - point * n)).prod(1)
        axes.scatter(*(corners / n).T, s=30 + 170 * shares, color=BLUE, zorder=3)
        axes.plot(*point, "x", color=RED, ms=8, mew=2, zorder=4)
        table = f"{(n + 1) ** 2} vertices" if n < 20 else f"{(n + 1) ** 2} vertices share 256 entries"
        axes.set(title=f"{n} cells a side\n{table}", aspect="equal", xticks=[], yticks=[])
        axes.title.set_fontsize(10)
    return tidy(figure, boxes=False)


def march() -> Figure:
    """A ray through a grid of cells: steps of one length, of which those in occupied cells become samples."""
    figure, axes = plt.subplots(figsize=(8.6, 3.6))
    shape, occupied = (14, 6), {(4, 3), (5, 3), (5, 2), (6, 3), (6, 2), (6, 4), (10, 4), (11, 4), (11, 5), (11, 3)}
    for cell in np.ndindex(*shape):
        face = "#c9d6ef" if cell in occupied else "white"
        axes.add_patch(Rectangle(cell, 1, 1, facecolor=face, edgecolor=GREY, lw=0.5))
    start, ahead = np.array([-1.6, 1.3]), np.array([15.8, 4.0])
    ahead = ahead / np.linalg.norm(ahead)
    axes.plot(*np.stack([start, start + ahead * 14]).T, color=GREY, lw=1)
    steps = start + np.arange(1.9, 13.9, 0.35)[:, None] * ahead
    inside = np.array([tuple(np.floor(step).astype(int)) in occupied for step in steps])
    axes.plot(*steps[~inside].T, "|", color=GREY, ms=7)
    axes.plot(*steps[inside].T, "o", color=RED, ms=6)
    axes.plot(*start, "s", color="black", ms=9)
    axes.set(aspect="equal", xlim=(-2.1, 14.2), ylim=(-0.2, 6.2), xticks=[], yticks=[])
    return tidy(figure, boxes=False)


def contraction() -> Figure:
    """Rings of the world, and where the contraction takes them."""
    figure, (world, grid) = plt.subplots(1, 2, figsize=(8.6, 4.1))
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    for k, half in enumerate((0.5, 1.0, 2.0, 4.0, 8.0)):
        square = torch.tensor([[-half, -half], [half, -half], [half, half], [-half, half], [-half, -half]])
        taken, _ = contract(torch.cat([square, torch.zeros(5, 1)], 1), box)
        style = {"color": RED if half == 1 else BLUE, "lw": 2.2 if half == 1 else 1.1, "alpha": 1 - 0.12 * k}
        world.plot(*square.T, **style)
        grid.plot(*(4 * taken[:, :2] - 2).T, **style)
    for slope in (-0.6, -0.3, 0.0, 0.3, 0.6):  # rays of a camera beside the middle
        t = torch.linspace(0, 400, 20_000)
        line = torch.stack([t - 0.9, slope * t + 0.5], 1)
        taken, _ = contract(torch.cat([line, torch.zeros(len(line), 1)], 1), box)
        world.plot(*line[line[:, 0] < 8.6].T, color=GREEN, lw=1)
        grid.plot(*(4 * taken[:, :2] - 2).T, color=GREEN, lw=1)
    grid.add_patch(Rectangle((-2, -2), 4, 4, fill=False, ls=":", color=GREY))
    grid.text(1.96, 2.04, "infinitely far", ha="right", color=GREY, fontsize=9)
    world.set(title="the world", aspect="equal", xlim=(-8.6, 8.6), ylim=(-8.6, 8.6))
    grid.set(title="what the grid sees", aspect="equal", xlim=(-2.2, 2.2), ylim=(-2.2, 2.3), xticks=range(-2, 3))
    return tidy(figure)


def tidy(figure: Figure, boxes: bool = True) -> Figure:
    """No lines around what is drawn but the axes; none at all without boxes."""
    for axes in figure.axes:
        assert isinstance(axes, Axes)
        for side in ("top", "right", *(() if boxes else ("left", "bottom"))):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
