"""The pages: complete, in the site's menu, and built without a warning."""

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny import PACKAGE

import nerf_pl
from nerf_pl.scenes.importers import IMPORTERS

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"
MOST_LINES = 120  # of the README


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    if name == "messages":
        found.PACKAGE = PACKAGE
    return found


@cache
def table() -> str:
    messages = module("messages")
    return messages.table_of_messages() + messages.table_of_messages(messages.WARNING)


def entries(menu: object) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    parts = menu.values() if isinstance(menu, dict) else menu
    return [entry for part in parts for entry in entries(part)]


def test_every_page_is_in_the_menu_once():
    menu = entries(yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(menu) == sorted(["changelog.md", *(page.name for page in DOCS.glob("*.md"))])


def test_the_search_takes_nothing_from_the_network():
    settings = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))
    (script,) = settings["extra"]["polyfills"]
    assert "iframe-worker" in script  # by this name the theme knows that it needs no other
    assert (DOCS / script).is_file()


def test_the_readme_is_short():
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    "told",
    [
        "… is no scene folder: ",
        "--accelerator gpu: PyTorch sees no CUDA GPU here",
        "… needs …: pip install",
        "… has …, too few to place them",  # its parts have names
        "--resume goes on with a run and --overwrite starts again: give one of them",
        "--… … cannot work: give … or more",  # the ranges of options
        "checkpoint … is empty: the copy or download failed, fetch it again",  # other classes of errors
        "… is damaged (…): ",  # whatever readers of files meet
        "port … is taken: the viewer uses …",  # warnings
    ],
)
def test_the_table_has_the_messages_of_the_code(told):
    assert told in table()


def test_no_message_is_missing_in_the_table():
    texts = [file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py")]
    found = list(module("messages").messages())
    for kind, call in (("error", "raise UserError("), ("warning", " warn(")):
        calls = sum(len(re.findall(rf"(?<!def){re.escape(call)}", text)) for text in texts)
        assert calls <= sum(message.kind == kind for message in found)


def test_the_toy_of_the_page_is_that_of_the_tests():
    pytest.importorskip("mkdocs")
    toy = module("hooks").toy()
    compile(toy, "toy", "exec")
    assert "class Fog" in toy


def test_versions_agree():
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == nerf_pl.__version__


def test_figures_are_drawn():
    figures = module("figures")
    assert figures.captures().size == (1260, 460)
    assert figures.axes().size == (1080, 660)


def test_the_figures_of_the_mathematics_show_what_is_computed():
    pytest.importorskip("matplotlib")
    figures = module("math_figures")
    _, coarse, samples, fine = figures.along_the_ray(24, 32)
    opacity = 1 - np.exp(-sum((high - low) * sigma for low, high, sigma in (figures.MIST, figures.WALL)))
    assert [float(weights.sum()) for weights in (coarse, fine)] == pytest.approx([opacity, opacity], abs=0.01)
    assert int((figures.density(samples.t) > 0).sum()) > 24  # most of the 32 are where something is
    assert len(figures.contraction().axes) == 2
    figures.plt.close("all")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_pictures_have_a_text_in_place_of_them(page):
    assert not re.findall(r"!\[\W*\]\(.*", page.read_text(encoding="utf-8"))


def test_formulas_become_what_browsers_show():
    formulas = module("formulas")
    text, found = (DOCS / "math.md").read_text(encoding="utf-8"), []
    left = formulas.taken_out(text, found)
    assert "$" not in re.sub(formulas.CODE, "", left, flags=re.M | re.S)
    assert len(found) > 100
    assert all(latex.count("{") == latex.count("}") and len(latex) < 500 for latex, _ in found)
    assert formulas.taken_out("`$DIR` costs\n```bash\necho $A $B\n```\n", []) == (
        "`$DIR` costs\n```bash\necho $A $B\n```\n"
    )
    assert (
        formulas.mathml("a_x\n< b", True, lambda latex, display: f"<math {display}>{' '.join(latex.split())}")
        == '<math title="a_x &lt; b" block>a_x < b'
    )


def test_bad_captures_are_drawn(monkeypatch):
    captures = module("captures")
    monkeypatch.setattr(captures, "SIDE", 16)
    assert captures.sheet([captures.BAD[2]]).size == (2 * (3 * 20 + 16), 60)
    near, far = (np.stack(captures.photos(each, 2, 16)) for each in (captures.GOOD[0], captures.BAD[0]))
    assert np.abs(far[0] - far[1]).mean() > np.abs(near[0] - near[1]).mean() > 0
    assert np.ptp(captures.poses(captures.BAD[1], 4)[:, :, 3], 0).max() == 0


def test_the_gallery_shows_every_picture_with_its_command():
    gallery, page = module("gallery"), (DOCS / "gallery.md").read_text(encoding="utf-8")
    for name, words in gallery.FILMS.items():
        assert f"images/gallery/{name}.webp" in page
        assert " ".join(words) in page
    pictures = [file for file in (DOCS / "images").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in pictures) < gallery.MOST_BYTES
    for file in gallery.IMAGES.iterdir():
        assert f"images/gallery/{file.name}" in page


def test_frames_of_films_stand_in_rows():
    pictures = [np.full((2, 3, 3), i, np.uint8) for i in range(20)]
    rows = np.asarray(module("gallery").sheet(pictures))
    assert rows.shape == (4, 30, 3)
    assert rows[::2, ::3, 0].tolist() == [list(range(10)), list(range(10, 20))]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "troubleshooting.html").read_text(encoding="utf-8")
    assert "is no scene folder" in page
    for file in (tmp_path / "site").glob("*.html"):
        loaded = re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"(https?:[^\"]*)", file.read_text(encoding="utf-8"))
        assert not loaded, f"{file.name} is not readable offline"
    page = (tmp_path / "site" / "math.html").read_text(encoding="utf-8")
    assert page.count("<math") > 100
    assert "FORMULA" not in page
    assert 'src="http' not in page


def test_every_program_that_is_imported_has_a_page():
    overview = (DOCS / "importing.md").read_text(encoding="utf-8")
    for name in IMPORTERS:
        assert f"](import_{name}.md) | `{name}` |" in overview
        assert "nerf import my_scene" in (DOCS / f"import_{name}.md").read_text(encoding="utf-8")
