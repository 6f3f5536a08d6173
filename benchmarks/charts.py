"""Charts as SVG, written by hand: a bar for each subject with every round as a dot, and all ratios at a glance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 860
_LINE: Final = 30
_BAR: Final = 14
_STYLE: Final = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.faint { fill: #59636e; font-size: 12px; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.ours { fill: #1f6feb; } .other { fill: #c6ccd3; } .met { fill: #1a7f5a; } .short { fill: #bc4c00; }
.round { fill: #1f2328; fill-opacity: .45; }
.grid { stroke: #d1d9e0; stroke-width: 1; } .reach { stroke: #1f2328; stroke-width: 1.5; }
.span { stroke-width: 3; stroke-linecap: round; stroke-opacity: .35; }
.span.met { stroke: #1a7f5a; } .span.short { stroke: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .faint { fill: #9198a1; } .other { fill: #4a525c; } .round { fill: #e6edf3; }
  .ours { fill: #4493f8; } .met { fill: #3fb984; } .short { fill: #f0883e; }
  .grid { stroke: #3d444d; } .reach { stroke: #e6edf3; }
  .span.met { stroke: #3fb984; } .span.short { stroke: #f0883e; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A subject's figures in one row."""

    label: str
    median: float
    rounds: Sequence[float]
    ours: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A ratio against its reach.

    Attributes:
        label: What is compared.
        score: How many times the reach it is; 1 is just reached, and more is better whatever the sense.
        low: The worst round's score.
        high: The best round's.
        told: The ratio and its bound in words.
        met: Whether it reaches.
    """

    label: str
    score: float
    low: float
    high: float
    told: str
    met: bool


def bars(title: str, unit: str, subjects: Sequence[Bar]) -> str:
    """Return a bar chart with the axis from zero: a bar is the median, a dot is a round."""
    left, right, top = 330, WIDTH - 96, 52
    most = max((max([*bar.rounds, bar.median]) for bar in subjects), default=1.0) or 1.0
    scale = (right - left) / most
    height = top + _LINE * len(subjects) + 12
    parts = [_text(16, 26, title, "title"), _text(WIDTH - 16, 26, unit, "faint end")]
    for number, bar in enumerate(subjects):
        middle = top + _LINE * number + _LINE / 2
        kind = "ours" if bar.ours else "other"
        parts.append(_text(left - 12, middle + 4, bar.label, "end"))
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{middle - _BAR / 2:.1f}" width="{max(bar.median * scale, 1):.1f}" '
            f'height="{_BAR}" rx="2"/>'
        )
        parts += [_dot(left + value * scale, middle, 2.4, "round") for value in bar.rounds]
        end = left + max([*bar.rounds, bar.median]) * scale
        parts.append(_text(end + 9, middle + 4, figure(bar.median), ""))
    return _svg(height, parts, f"{title} ({unit})")


def overview(title: str, marks: Sequence[Mark]) -> str:
    """Return all ratios on one logarithmic axis, each in multiples of its reach."""
    left, right, top = 300, WIDTH - 160, 64
    values = [value for mark in marks for value in (mark.low, mark.high, mark.score, 1.0)]
    low, high = _decades(values)
    width = right - left

    def place(score: float) -> float:
        inside = min(max(score, low), high)
        return left + width * (math.log10(inside) - math.log10(low)) / (math.log10(high) - math.log10(low))

    bottom = top + _LINE * len(marks)
    parts = [_text(16, 26, title, "title")]
    for tick in _ticks(low, high):
        x = place(tick)
        parts.append(_line(x, top - 6, x, bottom, "reach" if tick == 1 else "grid"))
        parts.append(_text(x, top - 14, "reach" if tick == 1 else f"{tick:g}x", "faint middle"))
    for number, mark in enumerate(marks):
        middle = top + _LINE * number + _LINE / 2
        kind = "met" if mark.met else "short"
        parts.append(_text(left - 16, middle + 4, mark.label, "end"))
        parts.append(_line(place(mark.low), middle, place(mark.high), middle, f"span {kind}"))
        parts.append(_dot(place(mark.score), middle, 5.5, kind))
        parts.append(_text(right + 16, middle + 4, mark.told, ""))
    return _svg(bottom + 16, parts, title)


def figure(value: float) -> str:
    """Return a number as people read it: three digits that count, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{digits}f}"


def _decades(values: Iterable[float]) -> tuple[float, float]:
    """Return the axis' ends; what lies further out is drawn at the end."""
    positive = [value for value in values if value > 0]
    return max(0.1, min(0.5, min(positive) / 1.1)), min(10.0, max(2.0, max(positive) * 1.1))


def _ticks(low: float, high: float) -> list[float]:
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    return [step for step in steps if low <= step <= high]


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, radius: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _svg(height: float, parts: list[str], title: str) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )
