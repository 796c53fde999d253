"""What is left to look at where photos could not be placed: all of them on one sheet, framed by what became of each."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nerf_pl.media import write_png

TILE, GAP, TEXT, MOST = 160, 6, 16, 200  # pixels; most photos on a sheet
PLACED, MISSING, INK = (58, 140, 70), (196, 62, 32), (60, 60, 60)


def sheet_of(out: Path) -> Path:
    """Where the sheet of a scene that could not be made lies: beside it."""
    return out.with_name(f"{out.name}_not_placed.png")


def write_sheet(out: Path, stage: Path, names: Sequence[str], placed: Sequence[str]) -> Path:
    """Write the sheet of the photos `names` in the folder `stage`, of which those in `placed` (without their suffix)
    have a green frame and the others a red one. Returns its path."""
    shown = names[:: math.ceil(len(names) / MOST)]
    across = min(len(shown), 10)
    high = -(-len(shown) // across) * (TILE + TEXT + GAP) + TEXT + 2 * GAP
    sheet = Image.new("RGB", (max(across * (TILE + GAP) + GAP, 600), high), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), f"green: {len(placed)} of {len(names)} photos placed; red: not placed", fill=INK)
    for i, name in enumerate(shown):
        x, y = GAP + i % across * (TILE + GAP), 2 * GAP + TEXT + i // across * (TILE + TEXT + GAP)
        with Image.open(stage / name, formats=("PNG",)) as picture:
            small = picture.convert("RGB")
        small.thumbnail((TILE - 8, TILE - 8))
        colour = PLACED if Path(name).stem in placed else MISSING
        draw.rectangle([x, y, x + TILE - 1, y + TILE - 1], outline=colour, width=4)
        sheet.paste(small, (x + (TILE - small.width) // 2, y + (TILE - small.height) // 2))
        draw.text((x, y + TILE + 1), Path(name).stem[:24], fill=colour)
    path = sheet_of(out)
    write_png(path, np.asarray(sheet))
    return path
