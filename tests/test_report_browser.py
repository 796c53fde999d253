"""Reports in a browser: nothing reaches beyond a narrow window, nothing is logged, dividers move. Skipped where there
is no browser."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_files import write_film, write_run

from nerf_pl.report import write_comparison, write_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=4000")
# a window is never as narrow as a phone, a frame is; what it finds is written where --dump-dom shows it
PROBE = """<!doctype html><title>probe</title><iframe width=WIDTH height=900 srcdoc="PAGE"></iframe><pre></pre><script>
document.querySelector("iframe").onload = ({target}) => {
  const page = target.contentDocument, told = {};
  told.width = page.documentElement.clientWidth;
  told.scrolls = page.documentElement.scrollWidth;
  const outside = (e) => e.getBoundingClientRect().right > told.width + 1 && !e.closest(".scroll");
  told.outside = [...page.querySelectorAll("body *")].filter(outside).map((e) => e.className || e.tagName);
  const input = page.querySelector(".pair input");
  if (input) {
    input.focus();
    input.stepUp(5);
    input.dispatchEvent(new Event("input"));
    told.divider = input.parentElement.style.getPropertyValue("--at");
    told.focus = page.activeElement === input;
  }
  const turn = page.querySelector(".turn input");
  if (turn) {
    turn.stepUp(2);
    turn.dispatchEvent(new Event("input"));
    told.turned = [...page.querySelectorAll(".turn img")].findIndex((each) => !each.hidden);
  }
  const dark = target.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches;
  told.dark = dark, told.paper = target.contentWindow.getComputedStyle(page.body).backgroundColor;
  document.querySelector("pre").textContent = JSON.stringify(told);
};
</script>"""


@pytest.fixture(scope="module")
def pages(trained_ngp, tmp_path_factory) -> dict[str, Path]:
    """A report with all there is, and a comparison."""
    root = tmp_path_factory.mktemp("pages")
    run = Path(shutil.copytree(trained_ngp, root / "run"))
    names = [f"a rather long name of a picture, IMG_{i}_0123456789_0123456789_0123456789.JPG" for i in range(8)]
    write_run(run, [20.0 + i for i in range(8)], names)
    shutil.copy(trained_ngp / "settings.json", run / "settings.json")
    write_film(run / "renders" / "360.mp4")
    try:
        import trimesh

        trimesh.creation.icosphere(subdivisions=1).export(run / "mesh.ply")
    except ImportError:
        pass  # the report is then without one
    others = [write_run(root / f"a longer name of a run {i}", [20.0 + j for j in range(8)], names) for i in range(4)]
    return {"report": write_report(run), "comparison": write_comparison([run, *others], root / "comparison.html")}


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt install chromium")
@pytest.mark.parametrize(("name", "width"), [("report", 360), ("report", 1280), ("comparison", 360)])
def test_pages_fit_and_log_nothing(pages, tmp_path, name, width):
    probe = tmp_path / "probe.html"
    text = pages[name].read_text(encoding="utf-8")
    probe.write_text(PROBE.replace("WIDTH", str(width)).replace("PAGE", html.escape(text)), encoding="utf-8")
    shades = ["--blink-settings=preferredColorScheme=0"] if width == 1280 else []
    words = [str(BROWSER), *WORDS, *shades, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{probe}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    (told,) = re.findall(r"<pre>({.*?})</pre>", done.stdout)
    found = json.loads(html.unescape(told))
    assert "CONSOLE" not in done.stderr, done.stderr
    assert width - 20 < found["width"] <= width  # less its scroll bar
    assert found["scrolls"] <= found["width"]
    assert found["outside"] == []
    if name == "report":
        assert (found["divider"], found["focus"]) == ("60%", True)
        assert found.get("turned", 2) == 2
    red = int(re.findall(r"\d+", found["paper"])[0])
    assert (red < 60) == found["dark"] == bool(shades)
