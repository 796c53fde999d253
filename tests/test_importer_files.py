"""The pictures and masks of other programs' scenes, by the names that these programs write."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from nerf_pl.scenes.importers.files import Pictures, masks_of
from nerf_pl.scenes.importers.found import Source


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(file)


@pytest.mark.parametrize(
    ("told", "there"),
    [
        (r"D:\scans\chair\Büro 1.JPG", "photos/Büro 1.jpg"),
        (unicodedata.normalize("NFD", "Büro 1.jpg"), "photos/" + unicodedata.normalize("NFC", "Büro 1.jpg")),
        ("file:///home/me/B%C3%BCro%201.tif", "Büro 1.tiff"),
        ("IMG_7.DNG", "developed/IMG_7.png"),
        ("IMG_7", "output/IMG_7.jpeg"),
        ("IMG_7.5", "IMG_7.5.png"),
        ("left/IMG_7.png", "photos/left/IMG_7.png"),
        ("/volume/a/left/IMG_7.png", "photos/left/IMG_7.png"),
    ],
)
def test_a_picture_by_the_name_of_another_program(tmp_path, told, there):
    others = ["photos/right/IMG_7.png"] if "left" in told else ["photos/IMG_8.png"]
    put(tmp_path / there, *(tmp_path / other for other in others))
    put(tmp_path / "masks" / Path(there).name, tmp_path / "images_2" / Path(there).name)
    assert Pictures(tmp_path).find(told) == [tmp_path / there]


def test_what_a_name_may_mean(tmp_path):
    put(tmp_path / "scene" / "a" / "1.png", tmp_path / "scene" / "b" / "1.png", tmp_path / "elsewhere" / "2.png")
    pictures = Pictures(tmp_path / "scene")
    assert len(pictures.find("1.jpg")) == 2
    assert pictures.find("3.png") == []
    outside = tmp_path / "elsewhere" / "2.png"
    assert pictures.find(str(outside)) == [outside]
    put(tmp_path / "scene" / "a" / "2.png")
    assert Pictures(tmp_path / "scene").find(str(outside)) == [tmp_path / "scene" / "a" / "2.png"]


@pytest.mark.parametrize(
    "mask",
    [
        "photos/IMG_7_mask.png", "photos/IMG_7.jpg.mask.png", "photos/IMG_7-Mask.JPG", "masks/IMG_7.png",
        "mask/IMG_7.png", "masks/IMG_7.jpg.png", "Masks/IMG_7_mask.png", "photos/masks/mask_IMG_7.png",
        "masks/photos/IMG_7.tif",
    ],
)  # fmt: skip
def test_masks_by_the_names_of_programs(tmp_path, mask):
    photos = [tmp_path / "photos" / name for name in ("IMG_7.jpg", "IMG_8.jpg")]
    put(*photos, tmp_path / mask)
    assert masks_of(Source(tmp_path), photos) == [tmp_path / mask, None]
    assert Pictures(tmp_path).files == photos
