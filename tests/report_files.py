"""Folders of runs, written by hand: what a report is made of. And what is in a report."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from nerf_pl.media import write_mp4, write_png
from nerf_pl.report import write_report

SIZE = (24, 32)  # height and width of the pictures


def write_run(folder: Path, psnr: list[float], names: list[str] | None = None, split: str = "test", **more) -> Path:
    """A run with settings and scored views. Their pictures differ from those of the scene by as many levels as the
    number of the view. more: further entries of the metrics."""
    names = names or [f"v{i}" for i in range(len(psnr))]
    rows = [
        {"name": name, "psnr": value, "ssim": 0.9, "depth": [2.0, 6.5]} for name, value in zip(names, psnr, strict=True)
    ]
    write_json(folder / "settings.json", {"scene": "somewhere/toys", "method": "ngp", "train": {"seconds": 5.0}})
    file = "metrics.json" if split == "test" else f"metrics_{split}.json"
    write_json(folder / file, {"psnr": sum(psnr) / len(psnr), "ssim": 0.9, "split": split, **more, "views": rows})
    for i in range(len(psnr)):
        write_pictures(folder / "renders" / split, i)
    return folder


def write_json(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def write_pictures(folder: Path, i: int) -> None:
    target = np.full((*SIZE, 3), 100, np.uint8)
    write_png(folder / f"{i:03d}_target.png", target)
    write_png(folder / f"{i:03d}.png", target + np.uint8(i))
    write_png(folder / f"{i:03d}_depth.png", np.full((*SIZE, 3), 200, np.uint8))


def write_film(path: Path, frames: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, [np.full((*SIZE, 3), 40 * i, np.uint8) for i in range(frames)])


def write_curves(folder: Path) -> None:
    """What a training logs."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as log:
        for step in (10, 20):
            for name in ("train/psnr", "val/psnr", "train/seconds"):
                log.add_scalar(name, step / 2, step)
    (written,) = folder.iterdir()
    written.rename(folder / "events.out.tfevents.1")


VOID = {"meta", "link", "img", "input", "br"}  # elements that have no end


class Page(HTMLParser):
    """The elements of a page. Fails if they are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.open, self.tags, self.told = path.read_text(encoding="utf-8"), [], [], ""
        self.feed(self.text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & {*self.open}:
            self.told += data

    def all(self, tag: str, **attributes: str) -> list[dict]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]

    @property
    def headings(self) -> list[str]:
        return re.findall(r"<h2>(.*?)</h2>", self.text)


def report(folder: Path) -> Page:
    return Page(write_report(folder))


def requires_nothing_else(shown: Page) -> None:
    """No address of the page leads out of it, but for links that are clicked."""
    sources = [value for tag, found in shown.tags for key, value in found.items()
               if key in ("src", "poster", "srcset", "data") or (key == "href" and tag == "link")]  # fmt: skip
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"@import|url\(", shown.text)
    assert "default-src 'none'" in shown.text
