"""Portable scenes: the same pictures from a small file, for both methods and every layout, and what can go wrong."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_kept_views import LAYOUTS, all_equal, kept_run
from tiny import CPU, PROJECT, config, make, nerf, refused, with_model

from nerf_pl.checkpoints import open_run, read_checkpoint
from nerf_pl.checkpoints.portable import read_portable
from nerf_pl.errors import UserError
from nerf_pl.methods.ngp.field import HashField
from nerf_pl.methods.ngp.portable import from_bytes, take_field, to_bytes, used_entries
from nerf_pl.ops import Backend, FieldLayout, GridLayout, pack_bits
from nerf_pl.ops.hash_field.reference import vertices
from nerf_pl.rendering import render_view
from nerf_pl.scenes import load_scene

PAGE = PROJECT / "docs" / "portable.md"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["nerf", "ngp"])
def run(request) -> Path:
    """A folder of each method's run."""
    return Path(
        shutil.copytree(request.getfixturevalue("trained" if request.param == "nerf" else "trained_ngp"), "run")
    )


def export(run: Path, out: str = "out.nerf", *words: object) -> Path:
    nerf("export", run, "--scene", out, "--num_gpus", 0, *words)
    return Path(out)


# ---- the same pictures -----------------------------------------------------------------------------------------------


def test_every_command_takes_it_in_place_of_the_run(run, capsys):
    """Where neither the run nor, but for scores, the scene is there."""
    nerf("eval", run, "--num_gpus", 0)
    file = export(run)
    assert re.search(r"scene out.nerf \(0.\d MB, \d+% of run\)", capsys.readouterr().out)
    whole = json.loads((run / "metrics.json").read_text())
    shutil.rmtree(run)
    nerf("eval", file, "--num_gpus", 0)
    assert "out.nerf is a portable scene: results go to out" in capsys.readouterr().out
    again = json.loads(Path("out/metrics.json").read_text())
    assert again["psnr"] == pytest.approx(whole["psnr"], abs=0.02)
    assert {key: again[key] for key in ("method", "checkpoint", "scene")} == {
        key: whole[key] for key in ("method", "checkpoint", "scene")
    }
    nerf("render", file, "--frames", 1, "--depth", "none", "--num_gpus", 0)
    assert Path("out/renders/360.mp4").is_file()
    told = open_run(file, CPU).told
    assert (told["psnr"], told["method"], told["steps"]) == (
        whole["psnr"],
        whole["method"],
        12 if whole["method"] == "nerf" else 20,
    )
    second = export(file, "second.nerf")
    pictures = [render_view(each.model, each.scene("test", pictures=False).view(0)).rgb for each in
                (open_run(file, CPU), open_run(second, CPU))]  # fmt: skip
    assert torch.equal(*pictures)
    assert open_run(second, CPU).told == told


def test_results_do_not_mix_with_those_of_a_run_or_a_scene(run, scene_dir, capsys):
    export(run, "run.nerf")
    nerf("render", "run.nerf", "--frames", 1, "--depth", "none", "--num_gpus", 0)
    assert "results go to run_results" in capsys.readouterr().out
    assert not (run / "renders").exists()
    assert Path("run_results/renders/360.mp4").is_file()
    shutil.copytree(scene_dir, "toys")
    export(run, "toys.nerf")
    nerf("eval", "toys.nerf", "--scene", "toys", "--num_gpus", 0)
    assert Path("toys_results/metrics.json").is_file()


KINDS = {
    "box": {}, "parts": {"seen_detail": 2}, "photos": {"unbounded": True, "extended": True}, "side": {"extended": True},
    "without mirrored directions": {"mirror": False},
}  # fmt: skip


def mottled(seed: int, **values: object) -> tuple:
    """A model whose table is noise, and that shows some blocks of its cells; and another one of the same options. Their
    weights are in half precision, so nothing is lost."""
    options = with_model(config("ngp"), log2_size=13, finest_resolution=48, **values)
    model, other = make(options), make(replace(options, train=replace(options.train, seed=5)))
    g = torch.Generator().manual_seed(seed)
    grid = model.occupancy
    blocks = torch.rand(8, 8, 8, generator=g).repeat_interleave(4, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    state = model.state_dict()
    state["field.table"] = torch.randn(state["field.table"].shape, generator=g).half().float()
    state["field.params"] = state["field.params"].half().float()
    box = [[-1.0] * 3, [1.0] * 3] if grid.unbounded else [[-1.0, -0.6, -1.2], [1.0, 1.1, 1.2]]
    state["occupancy.aabb"] = torch.tensor(box)
    state["occupancy.bits"] = pack_bits(blocks.flatten() < 0.15)
    if "mirror.solid" in state:
        state["mirror.solid"] = torch.randint(0, 256, state["mirror.solid"].shape, generator=g, dtype=torch.uint8)
    state["occupancy.seen"] = 4000 * (torch.rand(state["occupancy.seen"].shape, generator=g) < 0.5).int()
    model.load_state_dict(state)
    return model.eval(), other.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_missing_where_something_shows(kind, scene_dir):
    model, other = mottled(3, **KINDS[kind])
    tensors = model.portable()
    used = from_bytes(tensors["field.used"], model.field.grid.total)
    assert 0.05 < used.float().mean() < 0.9
    assert len(tensors["field.entries"]) == int(used.sum())
    other.take_portable(tensors)
    scene = load_scene(scene_dir)
    pictures = [render_view(each, scene.view(1)) for each in (model, other)]
    assert torch.equal(pictures[0].rgb, pictures[1].rgb)
    assert torch.equal(pictures[0].depth, pictures[1].depth)
    assert pictures[0].opacity.std() > 0.03
    xyz = 3 * torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)) - 1.5
    dirs = torch.nn.functional.normalize(xyz, dim=1)
    shows = model.density(xyz) > 0
    assert bool(shows.any())
    for a, b in zip(model.radiance(xyz, dirs), other.radiance(xyz, dirs), strict=True):
        assert torch.equal(a[shows], b[shows])
    assert torch.equal(model.density(xyz), other.density(xyz))


def test_the_copy_that_kernels_read_is_that_of_the_file(trained_ngp):
    export(trained_ngp)
    tensors = read_portable(Path("out.nerf"))["portable"]
    grid, networks = GridLayout(4, 2, 12, 16, 32), FieldLayout(8, 32, 16, 32, 32)
    field = HashField(grid, networks, Backend(hash_field="triton"))
    take_field(field, tensors)
    used = from_bytes(tensors["field.used"], grid.total)
    assert field.values is not None
    assert torch.equal(field.values[used], tensors["field.entries"])
    assert torch.equal(field.values.float(), field.table)


def test_entries_are_those_that_the_field_reads():
    layout = GridLayout(5, 2, 10, 3, 40)
    corners = torch.randint(0, 3, (50, 3), generator=torch.Generator().manual_seed(1))
    for level, resolution in enumerate(layout.resolutions):
        read = vertices((corners + 0.5) / resolution, layout)[0][level]
        assert torch.equal(layout.entries(level, corners), read[:, 0].long())
        assert torch.equal(layout.entries(level, corners + 1), read[:, 7].long())


def test_where_all_shows_all_vertices_are_kept():
    model = make(config("ngp"))
    layout = model.field.grid
    used = used_entries(layout, model.occupancy)
    for level, resolution in enumerate(layout.resolutions):
        vertices = torch.cartesian_prod(*3 * [torch.arange(resolution + 1)])
        assert bool(used[layout.entries(level, vertices)].all())


@pytest.mark.parametrize("n", [1, 8, 13])
def test_bits_come_back(n):
    flags = torch.arange(n) % 3 == 0
    assert torch.equal(from_bytes(to_bytes(flags), n), flags)


def test_weights_beyond_the_range_of_half_precision_stay():
    model = make(config())
    with torch.no_grad():
        model.coarse.params[0] = 1e6
    tensors = model.portable()
    whole = {name for name, tensor in tensors.items() if tensor.dtype != torch.float16}
    assert whole == {"coarse.first"}
    other = make(config())
    other.take_portable(tensors)
    assert other.coarse.params[0] == 1e6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_keeps_cameras_and_coordinates(tmp_path, layout):
    run = kept_run(tmp_path / "scene", layout)
    file = export(run)
    shutil.rmtree(tmp_path / "scene")
    before, after = open_run(run, CPU), open_run(file, CPU)
    before.scene("train", pictures=False)
    assert before.config == after.config
    assert set(after.kept) == {"train", "test"}
    for split in after.kept:
        all_equal(before.kept[split], after.scene(split, pictures=False))
    assert torch.equal(before.frame, after.frame)
    assert before.model.ndc == after.model.ndc
    image = [render_view(each.model, each.kept["train"].view(0)).rgb for each in (before, after)]
    assert float((image[0] - image[1]).abs().max()) < 0.01


def test_a_run_that_keeps_no_cameras_takes_them_from_its_scene(run, scene_dir, capsys):
    path = run / "checkpoints" / "last.ckpt"
    old = torch.load(path, weights_only=True)
    del old["views"], old["frame"]
    torch.save(old | {"scene": "gone"}, path)
    assert "which is gone: add --photos FOLDER" in refused(capsys, "export", run, "--scene", "a.nerf", "--num_gpus", 0)
    found = open_run(export(run, "a.nerf", "--photos", scene_dir), CPU)
    assert set(found.kept) == {"train", "test"}
    assert found.frame is None
    assert len(found.kept["train"]) == 4


def test_it_is_small(run):
    """Less its metadata, which are most of so small a scene: weights take half as much, and have no moments."""
    file = export(run)
    size = file.stat().st_size - int.from_bytes(file.read_bytes()[:8], "little")
    assert size < 0.2 * (run / "checkpoints" / "last.ckpt").stat().st_size


# ---- the page of the format ------------------------------------------------------------------------------------------


def test_the_reader_of_the_page_reads_it(trained_ngp, capsys):
    export(trained_ngp, "scene.nerf")
    (reader,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len([line for line in reader.splitlines() if line]) <= 22
    names: dict = {}
    exec(compile(reader, str(PAGE), "exec"), names)
    model = open_run(Path("scene.nerf"), CPU).model
    xyz = 3 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 1.5
    found, expected = names["density"](xyz), model.density(xyz)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_page_lists_what_is_in_a_file(run):
    """Each tensor and each key of the metadata."""
    from safetensors import safe_open

    with safe_open(export(run), "pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    page = PAGE.read_text(encoding="utf-8")
    names = {re.sub(r"^model\.(coarse|fine)\.", "model.NETWORK.", name) for name in names}
    general = {re.sub(r"^views\.\w+\.", "views.SPLIT.", name) for name in names}
    assert not {name for name in general | set(metadata) if f"`{name}`" not in page}


def test_each_field_of_an_ensemble_has_the_tensors_of_the_page():
    options = config("ngp")
    many = make(with_model(options, ensemble=2)).portable()
    assert many.keys() == {f"{i}.{name}" for i in range(2) for name in make(options).portable()}
    page = PAGE.read_text(encoding="utf-8")
    assert "`model.0.field.levels`" in page
    assert all(f"`model.{name}`" in page for name in make(options).portable())


# ---- what can go wrong -----------------------------------------------------------------------------------------------


def changed(file: Path, metadata: dict[str, str] | None = None, tensors: dict | None = None, drop: str = "") -> Path:
    """The file with other content, and without the checksum, as others may write it."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        told = {name: value for name, value in opened.metadata().items() if name != "crc32"}
    whole = {name: value for name, value in load_file(file).items() if name != drop}
    save_file(whole | (tensors or {}), "changed.nerf", {**told, **(metadata or {})})
    return Path("changed.nerf")


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.999])
def test_a_file_that_was_cut_short(run, capsys, share):
    content = export(run).read_bytes()
    Path("cut.nerf").write_bytes(content[: int(share * len(content))])
    for command in ("eval", "render", "mesh", "export"):
        more = ["--scene", "b.nerf"] if command == "export" else []
        told = refused(capsys, command, "cut.nerf", "--num_gpus", 0, *more)
        assert "cut.nerf is damaged, cut short or no .nerf file" in told
        assert "nerf export RUN --scene cut.nerf" in told


@pytest.mark.parametrize("part", ["metadata", "tensors"])
def test_a_file_whose_bytes_changed(run, capsys, part):
    file = export(run)
    content = bytearray(file.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")  # of the tensors
    at = content.index(b"pixel_offset") if part == "metadata" else (begin + len(content)) // 2
    content[at] ^= 1
    file.write_bytes(content)
    told = refused(capsys, "render", file, "--num_gpus", 0)
    assert "out.nerf is damaged, its bytes are not those that were written: copy it again" in told


def test_a_file_without_a_checksum_is_read(run):
    file = export(run)
    assert open_run(changed(file), CPU).config == open_run(file, CPU).config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metadata": {"nerf_pl_scene": "2", "nerf_pl_version": "9.1"}}, "has format 2, written by nerf_pl 9.1, and"),
        ({"metadata": {"views": "3"}}, "its metadata cannot be read"),
        ({"metadata": {"config": "{"}}, "its metadata cannot be read"),
        ({"metadata": {"views": '{"train": {}}'}}, "its views cannot be read"),
        ({"metadata": {"config": '{"method": "x"}'}}, "--method 'x' in the stored settings is no possible value"),
        ({"metadata": {"ndc": "[1]"}}, "is damaged, it has ndc"),
        ({"drop": "model.field.entries"}, "field.entries is missing"),
        ({"drop": "model.field.used"}, "field.used is missing"),
        ({"drop": "model.occupancy.shown"}, "occupancy.shown is missing"),
        ({"tensors": {"model.field.used": torch.zeros(3)}}, "is damaged"),
        ({"tensors": {"model.field.levels": torch.zeros(1, 4, dtype=torch.int32)}}, "field.levels"),
        ({"tensors": {"model.field.density_0": torch.full((32, 8), torch.nan)}}, "is not finite"),
        ({"tensors": {"model.occupancy.aabb": torch.zeros(2, 3)}}, "is no box"),
        ({"drop": "model.mirror.solid"}, "mirror.solid is missing"),
        ({"tensors": {"model.mirror.solid": torch.zeros(8, 8, 8)}}, "mirror.solid has the shape (8, 8, 8)"),
        ({"tensors": {"model.mirror.solid": torch.zeros(32, 32, 32)}}, "numbers of the type torch.float32"),
        ({"tensors": {"frame": torch.zeros(3)}}, "has frame"),
    ],
)  # fmt: skip
def test_a_damaged_or_later_file(trained_ngp, capsys, change, told):
    file = changed(export(trained_ngp), **change)
    assert told in refused(capsys, "render", file, "--num_gpus", 0)


def test_a_field_of_an_ensemble_that_does_not_fit_is_named():
    model = make(with_model(config("ngp"), ensemble=2))
    whole = model.portable()
    wrong = {"1.field.entries": "of field 1: field.entries is missing", "0.field.used": "of field 0: field.used is"}
    for name, told in wrong.items():
        with pytest.raises(ValueError, match=told):
            model.take_portable({key: value for key, value in whole.items() if key != name})
    for more in ("2.field.used", "field.used"):
        with pytest.raises(ValueError, match=f"{more} belongs to none of its 2 fields"):
            model.take_portable({**whole, more: whole["0.field.used"]})


def test_other_files(trained_ngp, capsys):
    save_file({"a": torch.zeros(3)}, "foreign.nerf")
    assert "not of a scene of nerf_pl" in refused(capsys, "eval", "foreign.nerf", "--num_gpus", 0)
    assert "gone.nerf does not exist" in refused(capsys, "render", "gone.nerf", "--num_gpus", 0)
    Path("folder.nerf").mkdir()
    assert "folder.nerf holds no checkpoint" in refused(capsys, "mesh", "folder.nerf", "--num_gpus", 0)
    assert "nothing to export" in refused(capsys, "export", trained_ngp)
    assert "name a .nerf file" in refused(capsys, "export", trained_ngp, "--scene", "a.zip")
    file = export(trained_ngp)
    assert "name another file" in refused(capsys, "export", file, "--scene", file)
    assert "holds the last weights alone" in refused(capsys, "eval", file, "--checkpoint", "best", "--num_gpus", 0)
    assert "needs no import" in refused(capsys, "import", file, "--scene", "x")
    with pytest.raises(UserError, match="too little to train on"):
        read_checkpoint(file)


def test_a_file_of_another_name_is_known_by_its_content(trained_ngp):
    export(trained_ngp).rename("scene.bin")
    assert open_run(Path("scene.bin"), CPU).config.method == "ngp"


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(descriptor: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fail", "code"), [(full, 2), (interrupted, 130)])
def test_nothing_half_written(trained_ngp, capsys, monkeypatch, fail: Callable, code: int):
    before = export(trained_ngp).read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    for name in ("out.nerf", "new.nerf"):
        told = refused(capsys, "export", trained_ngp, "--scene", name, "--num_gpus", 0, code=code)
        assert code == 130 or f"cannot write {name}: No space left on device; free some space" in told
    assert Path("out.nerf").read_bytes() == before
    assert os.listdir() == ["out.nerf"]
