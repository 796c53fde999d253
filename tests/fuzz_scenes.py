"""Small valid scenes of every layout and of every program that can be imported, to be damaged by `fuzz`."""

import json
from collections.abc import Callable
from pathlib import Path

import colmap_files
import llff_files
import numpy as np
import photo_world
import test_import_metashape as metashape
import test_importers as importers
from PIL import Image
from test_formats import write_linear

from nerf_pl.scenes.sightings import write_sightings

SIZE = (12, 8)


def write_picture(file: Path, seed: int = 0, size: tuple[int, int] = SIZE, **how: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file, **how)


def poses_of(n: int, name: str = "images/{}.png") -> list[dict]:
    rows = [[*pose.tolist(), [0.0, 0.0, 0.0, 1.0]] for pose in photo_world.poses(n)]
    return [{"file_path": name.format(i), "transform_matrix": rows[i]} for i in range(n)]


def write_json(file: Path, values: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


def blender(root: Path) -> None:
    for i in range(3):
        write_picture(root / "train" / f"r_{i}.png", i)
    for split in ("train", "test"):
        write_json(root / f"transforms_{split}.json", {"camera_angle_x": 0.7, "frames": poses_of(3, "./train/r_{}")})


LENS = {
    "fl_x": 14.0,
    "fl_y": 14.5,
    "cx": 6.0,
    "cy": 4.0,
    "w": 12,
    "h": 8,
    "k1": 0.02,
    "k2": -0.01,
    "p1": 1e-3,
    "p2": 0.0,
}


def transforms(root: Path) -> None:
    frames = poses_of(3)
    for i, frame in enumerate(frames):
        write_picture(root / frame["file_path"], i)
        frame["mask_path"] = f"masks/{i}.png"
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full(SIZE[::-1], 255, np.uint8)).save(root / frame["mask_path"])
    frames[0] |= {"fl_x": 14.0, "camera_model": "OPENCV"}
    shared = {**LENS, "clear_distance": 0.2, "aabb_scale": 4, "applied_scale": 1.0, "ply_file_path": "points.ply"}
    points = np.random.default_rng(0).normal(size=(5, 3))
    write_sightings(root / "points.ply", {f["file_path"]: points for f in frames})
    write_json(
        root / "transforms.json", {**shared, "train_filenames": [f["file_path"] for f in frames], "frames": frames}
    )


def with_depths(root: Path) -> None:
    frames = poses_of(3)
    for i, frame in enumerate(frames):
        write_picture(root / frame["file_path"], i)
        frame["depth_file_path"] = f"depth/{i}.{'npy' if i else 'png'}"
        (root / "depth").mkdir(exist_ok=True)
        depth = np.full((6, 8), 4000, np.uint16)
        (np.save if i else lambda file, pixels: Image.fromarray(pixels).save(file))(
            root / frame["depth_file_path"], depth
        )
    points = np.random.default_rng(0).normal(size=(40, 3)) * 0.3 + [2.0, 1.0, -3.0]
    head = "ply\nformat {} 1.0\nelement vertex 40\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    (root / "points.ply").write_bytes(head.format("binary_little_endian").encode() + points.astype("<f4").tobytes())
    write_json(root / "transforms.json", {**LENS, "k1": 0.0, "ply_file_path": "points.ply", "frames": frames})


def with_points(root: Path) -> None:
    with_depths(root)
    points = np.random.default_rng(0).normal(size=(40, 3)) * 0.3 + [2.0, 1.0, -3.0]
    rows = "\n".join(" ".join(f"{x:.3f}" for x in row) for row in points)
    head = (
        "ply\nformat ascii 1.0\nelement vertex 40\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (root / "points.ply").write_text(head + rows + "\n")


def wide(model: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        frames = poses_of(3)
        for i, frame in enumerate(frames):
            write_picture(root / frame["file_path"], i, (16, 8))
        lens = {"w": 16, "h": 8, "camera_model": model}
        if model == "OPENCV_FISHEYE":
            lens |= {"fl_x": 4.0, "fl_y": 4.0, "cx": 8.0, "cy": 4.0, "k1": 0.01, "fisheye_crop_radius": 7.0}
        write_json(root / "transforms.json", {**lens, "frames": frames})

    return write


PICTURES = [
    "png",
    "jpg",
    "tif",
    "bmp",
    "webp",
    "ppm",
    "exr",
    "hdr",
    "heic",
    "avif",
    "16.png",
    "p.png",
    "mpo.jpg",
]


def one_picture(kind: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        name = f"images/0.{kind}"
        (root / "images").mkdir(parents=True)
        frames = poses_of(2, name)
        for i, frame in enumerate(frames):
            file = root / frame["file_path"].replace("/0.", f"/{i}.")
            frame["file_path"] = f"images/{i}.{kind}"
            rng = np.random.default_rng(i)
            if kind in ("exr", "hdr"):
                write_linear(file, rng.random((8, 12, 3)).astype(np.float32))
            elif kind == "16.png":
                Image.fromarray(rng.integers(0, 65536, (8, 12)).astype(np.uint16)).save(file)
            elif kind == "p.png":
                pixels = Image.fromarray(rng.integers(0, 256, (8, 12, 4), np.uint8), "RGBA") if i else None
                pixels = pixels or Image.new("P", SIZE, 3)
                pixels.save(file, **({} if i else {"transparency": 3, "icc_profile": b"\0" * 200, "exif": exif()}))
            elif kind in ("heic", "avif"):
                from pillow_heif import register_heif_opener

                register_heif_opener()
                write_picture(file, i, (64, 64))
            else:
                how = {"exif": exif()} if kind in ("jpg", "png", "tif") else {}
                write_picture(file, i, **how)
        write_json(root / "transforms.json", {"camera_angle_x": 0.7, "frames": frames})

    return write


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 1
    tags[0x920A] = 35.0
    return tags.tobytes()


def llff(root: Path) -> None:
    llff_files.write_scene(root, llff_files.facing(4))


def llff_around(root: Path) -> None:
    llff_files.write_scene(root, llff_files.around(5))


def colmap(text: bool) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        points = colmap_files.points(12)
        camera = ("OPENCV", [20.0, 20.0, 12.0, 8.0, 0.01, 0.0, 0.0, 0.0], colmap_files.SIZE)
        colmap_files.write_scene(root, n=3, text=text, xyz=points, cameras=(camera,))

    return write


def from_metashape(root: Path) -> None:
    tag, rotations, centres = metashape.transform()
    for i in range(len(centres)):
        write_picture(root / "images" / f"photo {i}.png", i, metashape.SIZE)
    inside = [metashape.camera(i, rotations[i], centres[i]) for i in range(len(centres))]
    metashape.write(root, metashape.sensor(metashape.calibration({"k1": 0.1})), "".join(inside), tag)


def polycam(root: Path) -> None:
    importers.write_polycam(root, "cameras", "images")


def record3d(root: Path) -> None:
    rotations, centres = importers.cameras()
    poses = [[*importers.quaternion(r), *c.tolist()] for r, c in zip(rotations, centres, strict=True)]
    for i in range(len(poses)):
        write_picture(root / "EXR_RGBD" / "rgb" / f"{i}.png", i, importers.SIZE)
    wide, high = importers.SIZE
    matrix = [importers.FX, 0, 0, 0, importers.FY, 0, importers.CX, importers.CY, 1]
    write_json(root / "EXR_RGBD" / "metadata.json", {"w": wide, "h": high, "K": matrix, "poses": poses})


def nsvf(root: Path) -> None:
    importers.write_nsvf(root, ["0_0", "0_1", "0_2", "1_0"], "16 numbers")
    (root / "bbox.txt").write_text("1.0 0.0 -4.0 3.0 2.5 -1.5 0.1\n")
