"""A page that shows the pictures and scores of an evaluation in any browser."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nerf_pl.media import atomic_write

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } img { width: 100%; background: #fff }
video { width: min(100%, 34rem); background: #fff }
.views { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem } figure { margin: 0 }
figcaption { font-size: 13px; color: #555 }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd } }
"""


@dataclass(frozen=True)
class ViewScore:
    """PSNR in dB and SSIM of the picture of a view, against the photograph.

    psnr_fitted: PSNR after an affine fit of the picture's colours, see `metrics.fitted`. floaters: the share of light
    from too near, see `floaters.floater_shares`. psnr_aligned: PSNR after the camera was moved to where the picture
    fits the photograph, see `alignment.align`. None if it was not measured.
    """

    name: str
    psnr: float
    ssim: float
    psnr_fitted: float
    floaters: float | None = None
    psnr_aligned: float | None = None


def write_page(path: Path, title: str, facts: Mapping[str, object], views: Sequence[ViewScore]) -> None:
    """Write the page: scores, the film, and for every view the picture, the photograph and the depth.

    The page shows the files beside it.
    """
    name = html.escape(title)
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{_number(v)}</td></tr>" for k, v in facts.items())
    scores = "".join(
        f"<tr><td>{html.escape(v.name)}</td><td>{v.psnr:.2f}</td><td>{v.ssim:.4f}</td></tr>" for v in views
    )
    pictures = "".join(
        _figure(f"{i:03d}.png", f"{v.name}: {v.psnr:.2f} dB")
        + _figure(f"{i:03d}_target.png", "photograph")
        + _figure(f"{i:03d}_depth.png", "depth")
        for i, v in enumerate(views)
    )
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<h1>{name}</h1>
<table>{rows}</table>
<p><video src="{name}.mp4" autoplay loop muted controls></video></p>
<h2>Views</h2><div class="views">{pictures}</div>
<h2>Scores</h2><table><tr><th>view</th><th>PSNR, dB</th><th>SSIM</th></tr>{scores}</table>
</body></html>
"""
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _figure(file: str, caption: str) -> str:
    return f'<figure><img src="{file}" alt="" loading="lazy"><figcaption>{html.escape(caption)}</figcaption></figure>'


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else html.escape(str(value))
