"""Charts as SVG: lines over the training, and a histogram. Colours come from the page's style."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nerf_pl.console import short_number

WIDTH, HEIGHT = 340, 230  # of a chart, in the units of its SVG; on a phone these are pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34  # margins
COLOURS = 8  # in the page's style
MOST_BINS = 14


@dataclass(frozen=True)
class Line:
    """A line of a chart. dots: whether its points are marked, for lines of few points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dots: bool = False


@dataclass(frozen=True)
class Scale:
    """Values along an axis, from low to high, at the places start to end."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) for v in (self.low, self.high, value)) if self.is_log else (
            self.low, self.high, value,
        )  # fmt: skip
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within low to high, at equal distances: 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within low to high; with 2 and 5 times them if there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    tens = [10.0**i for i in range(first, last + 1) if low <= 10.0**i <= high]
    if len(tens) >= 3:
        return tens[:: math.ceil(len(tens) / 6)]
    return [k * 10.0**i for i in range(first, last + 1) for k in (1, 2, 5) if low <= k * 10.0**i <= high]


def _scales(lines: Sequence[Line], is_log: bool) -> tuple[Scale, Scale]:
    x = [value for line in lines for value in line.x]
    y = [value for line in lines for value in line.y]
    low, high = min(y), max(y)
    if is_log:
        low, high = low / 1.2, high * 1.2
    else:
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        low, high = (0.0 if 0 <= low < 0.3 * high else low - room), high + room
    right = max(x) if max(x) > min(x) else min(x) + 1
    begin = 0.0 if 0 <= min(x) < 0.3 * right else min(x)
    return Scale(begin, right, LEFT, WIDTH - RIGHT), Scale(low, high, HEIGHT - BOTTOM, TOP, is_log)


def line_chart(title: str, lines: Sequence[Line], axis: str, unit: str = "", is_log: bool = False) -> str:
    """A figure with lines over a common axis; "" without points. unit: of the values. is_log: of their scale."""
    lines = [_drawable(line, is_log) for line in lines]
    lines = [line for line in lines if line.x]
    if not lines:
        return ""
    across, up = _scales(lines, is_log)
    marks = log_ticks(up.low, up.high) if is_log else ticks(up.low, up.high)
    parts = [_row(up.at(value), short_number(value)) for value in marks]
    parts += [_column(across.at(value), short_number(value)) for value in ticks(across.low, across.high)]
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(axis)}</text>')
    for line in lines:
        points = [(across.at(x), up.at(y)) for x, y in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        kind = f"c{line.colour % COLOURS}{' dashed' if line.colour >= COLOURS else ''}"
        parts.append(f'<polyline class="{kind}{" thin" if not line.dots else ""}" points="{path}"/>')
        if line.dots or len(points) == 1:
            parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    told = f"{title}: " + "; ".join(
        f"{line.name} from {short_number(line.y[0])} to {short_number(line.y[-1])}" for line in lines
    )
    legend = _legend(lines) if len(lines) > 1 else ""
    head = f'<figcaption><b>{escape(title)}</b><span class="read" data-unit="{escape(unit)}">{escape(unit)}</span>'
    return f'<figure class="chart">{head}</figcaption>{_svg(told, parts, _hover(lines, across, up))}{legend}</figure>'


def _drawable(line: Line, is_log: bool) -> Line:
    kept = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x + y) and (y > 0 or not is_log)]
    return Line(line.name, [x for x, _ in kept], [y for _, y in kept], line.colour, line.dots)


def _row(y: float, told: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{told}</text>'


def _column(x: float, told: str) -> str:
    anchor = "end" if x > WIDTH - RIGHT - 8 else "middle"
    line = f'<line class="grid tick" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>'
    return f'{line}<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{told}</text>'


def _svg(told: str, parts: Sequence[str], hover: str = "") -> str:
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}"'
    return f'<svg {box}{hover}>{"".join(parts)}<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg>'


def _hover(lines: Sequence[Line], across: Scale, up: Scale) -> str:
    """What the page's script reads values from: for each line its name and its points, as places and values."""
    points = [
        {
            "name": line.name,
            "at": [round(across.at(x), 1) for x in line.x],
            "x": [short_number(x) for x in line.x],
            "y": [f"{y:.4g}" for y in line.y],
        }
        for line in lines
    ]
    return f' data-lines="{escape(json.dumps(points, separators=(",", ":")))}"'


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<li><i class="c{line.colour % COLOURS}{" dashed" if line.colour >= COLOURS else ""}"></i>{escape(line.name)}'
        "</li>"
        for line in lines
    )
    return f'<ul class="legend">{items}</ul>'


def histogram(title: str, values: Sequence[float], names: Sequence[str], unit: str) -> str:
    """A figure that counts values in bins of equal width; the names of those in a bin show when it is pointed at. ""
    without values."""
    pairs = [(value, name) for value, name in zip(values, names, strict=True) if math.isfinite(value)]
    if not pairs:
        return ""
    low, high = min(value for value, _ in pairs), max(value for value, _ in pairs)
    width = bin_width(low, high, len(pairs))
    first, last = math.floor(low / width), math.floor(high / width)
    bins: list[list[str]] = [[] for _ in range(first, last + 1)]
    for value, name in pairs:
        bins[math.floor(value / width) - first].append(f"{name} ({value:.4g})")
    most = max(map(len, bins))
    across = Scale(first * width, (last + 1) * width, LEFT, WIDTH - RIGHT)
    up = Scale(0, most * 1.08, HEIGHT - BOTTOM, TOP)
    parts = [_row(up.at(value), f"{value:g}") for value in ticks(0, up.high, 4) if value == round(value)]
    parts += [_column(across.at(value), f"{value:.4g}") for value in ticks(across.low, across.high, 5)]
    for i, found in enumerate(bins):
        left, right, top = across.at((first + i) * width), across.at((first + i + 1) * width), up.at(len(found))
        told = f"{(first + i) * width:.4g} to {(first + i + 1) * width:.4g} {unit}: {', '.join(found[:12])}"
        told += f" and {len(found) - 12} more" if len(found) > 12 else ""
        size = f'x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" height="{up.start - top:.1f}"'
        parts.append(f'<rect class="c0" {size}><title>{escape(told)}</title></rect>')
    mean = sum(value for value, _ in pairs) / len(pairs)
    x = across.at(mean)
    parts.append(f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(unit)}</text>')
    told = f"{title}: {len(pairs)} views from {low:.4g} to {high:.4g} {unit}, mean {mean:.4g}"
    head = f'<figcaption><b>{escape(title)}</b><span class="read">mean {mean:.4g} {escape(unit)}</span></figcaption>'
    return f'<figure class="chart">{head}{_svg(told, parts)}</figure>'


def bin_width(low: float, high: float, count: int) -> float:
    """A round width of bins that suits so many values."""
    rough = max((high - low) / min(max(math.ceil(2 * math.sqrt(count)), 4), MOST_BINS - 2), 0.01)
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * k for k in (1, 2, 5, 10) if size * k >= rough * (1 - 1e-9))
