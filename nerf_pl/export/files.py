"""Meshes and clouds of points on disk, in the coordinates of the scene's own file."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from nerf_pl.cameras import up_direction
from nerf_pl.extras import extra
from nerf_pl.scenes import Scene, frame_of
from nerf_pl.writing import atomic_write, replacing

AXES = ("+x", "+y", "+z", "-x", "-y", "-z")


@dataclass(frozen=True)
class Geometry:
    """A mesh, or a cloud of points, which has no faces. colours: sRGB. normals: of unit length, outwards. uv: places in
    the texture, in [0, 1], v upwards."""

    vertices: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    colours: UInt8[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"] | None = None
    texture: UInt8[np.ndarray, "H W 3"] | None = None


def in_file(geometry: Geometry, scene: Scene) -> Geometry:
    """Geometry of a scene's world in the coordinates of its file."""
    frame = frame_of(scene).numpy()
    to_file = np.linalg.inv(frame)
    rotation = to_file[:3, :3] / np.linalg.norm(to_file[0, :3])
    vertices = geometry.vertices @ to_file[:3, :3].T + to_file[:3, 3]
    return replace(geometry, vertices=vertices, normals=geometry.normals @ rotation.T)


def up_of(scene: Scene) -> Float[Tensor, "3"]:
    """The direction in the world that is up for the cameras of a scene."""
    if scene.ndc is None and scene.orbit is not None:
        return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return up_direction(scene.cameras.c2w)


def up_axis(scene: Scene) -> str:
    """The axis of the scene's file, such as +z, that is nearest to what is up for the cameras."""
    up = np.linalg.inv(frame_of(scene).numpy())[:3, :3] @ up_of(scene).numpy()
    return AXES[int(np.argmax(np.concatenate([up, -up])))]


def write_geometry(path: Path, geometry: Geometry, up: str) -> None:
    """Write a .ply, .obj or .glb. up: see `up_axis`. A glTF file has y up by definition, so the node of a .glb, and not
    its vertices, turns `up` to y. Far from the origin it also moves them there: see `_is_coarse`. A texture goes into
    the .glb or, of an .obj, beside it into a .mtl and a .png of its name. Raises UserError if a file cannot be
    written."""
    trimesh = extra("trimesh", str(path))
    suffix, name = path.suffix.lower(), "_".join(path.stem.split())  # a .mtl has no way to write blanks in names
    middle = geometry.vertices.mean(0) if suffix == ".glb" and _is_coarse(geometry.vertices) else np.zeros(3)
    places = geometry.vertices - middle
    shape = trimesh.Trimesh(places, geometry.faces, vertex_normals=geometry.normals, process=False)
    shape.visual = _looks(geometry, name, shiny=suffix == ".glb")
    files = {}
    if suffix == ".glb":
        scene, place = trimesh.Scene(), upright(up)
        place[:3, 3] = place[:3, :3] @ middle
        scene.add_geometry(shape, node_name="mesh", geom_name="mesh", transform=place)
        content = scene.export(file_type="glb", include_normals=True)
    elif suffix == ".obj":
        export = extra("trimesh.exchange.obj", str(path)).export_obj
        content, files = export(
            shape, include_normals=True, return_texture=True, mtl_name=f"{name}.mtl", header=f"{up} is up"
        )
    else:
        content = _ply(geometry, up)
    contents = {path: content, **{path.with_name(file): value for file, value in files.items()}}
    with replacing(*contents), ExitStack() as stack:  # all of them or none
        for file, value in contents.items():
            temporary = stack.enter_context(atomic_write(file))
            temporary.write_bytes(value if isinstance(value, bytes) else value.encode())


def _looks(geometry: Geometry, name: str, shiny: bool) -> Any:
    """What trimesh calls visuals: colours of vertices, or a texture. shiny: by glTF's model of materials, as matt."""
    visual = extra("trimesh.visual", name)
    if geometry.texture is None:
        opaque = np.full((len(geometry.colours), 1), 255, np.uint8)
        return visual.ColorVisuals(vertex_colors=np.concatenate([geometry.colours, opaque], 1))
    image = Image.fromarray(geometry.texture)
    if shiny:
        material = visual.material.PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0)
    else:
        white, black = [255] * 4, [0, 0, 0, 255]
        parts = {"ambient": white, "diffuse": white, "specular": black, "glossiness": 0.0}
        material = visual.material.SimpleMaterial(image=image, name=name, **parts)
    return visual.TextureVisuals(uv=geometry.uv, material=material)


def write_points(path: Path, cloud: Geometry, up: str) -> None:
    """Write the vertices as a binary .ply with normals and colours. up: see `up_axis`. Raises UserError if the file
    cannot be written."""
    with replacing(path), atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_ply(cloud, up))
        file.flush()
        os.fsync(file.fileno())


def _ply(geometry: Geometry, up: str) -> bytes:
    """A binary PLY file. Places are in double precision where single precision is too coarse."""
    columns = [(name, "<f8" if _is_coarse(geometry.vertices) else "<f4") for name in "xyz"]
    columns += [(name, "<f4") for name in ("nx", "ny", "nz")] + [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(geometry.vertices), np.dtype(columns))
    parts = (*geometry.vertices.T, *geometry.normals.T, *geometry.colours.T)
    for (name, _), part in zip(columns, parts, strict=True):
        rows[name] = part
    faces = np.empty(len(geometry.faces), np.dtype([("corners", "u1"), ("numbers", "<i4", (3,))]))
    faces["corners"], faces["numbers"] = 3, geometry.faces
    kinds = {"<f8": "double", "<f4": "float", "u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0", f"comment {up} is up", f"element vertex {len(rows)}"]
    lines += [f"property {kinds[kind]} {name}" for name, kind in columns]
    if len(faces):
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    return "\n".join([*lines, "end_header", ""]).encode() + rows.tobytes() + faces.tobytes()


def _is_coarse(vertices: Float[np.ndarray, "V 3"]) -> bool:
    """Whether single precision would lose more than a millionth of the size, as in the coordinates of a map."""
    extent = float((vertices.max(0) - vertices.min(0)).max())
    return bool(np.abs(vertices).max() * 2**-24 > 1e-6 * extent > 0)


def upright(up: str) -> Float[np.ndarray, "4 4"]:
    """The rotation that takes an axis, such as +z, to y. For +z it is the one between Blender's axes and glTF's."""
    sign, axis = (-1.0 if up[0] == "-" else 1.0), "xyz".index(up[1])
    turn = np.eye(4)
    if axis != 1:
        turn[:3, :3] = 0
        side = 3 - 1 - axis  # of x and z the one that is not turned
        turn[1, axis], turn[axis, 1], turn[side, side] = sign, -sign, 1
    elif sign < 0:
        turn[1, 1] = turn[2, 2] = -1
    return turn
