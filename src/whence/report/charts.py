"""The tail of one question's influences, drawn as SVG: readable without a script, coloured by the style sheet.

Both axes are logarithmic, because a heavy tail is a straight line there: x is influence, y the share of all documents
that have at least as much. The shaded part is the top 1 % of documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

from whence.report.model import Tail
from whence.report.numbers import count, percent, plain

WIDTH, HEIGHT = 340.0, 216.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 10.0, 38.0
DECADES = 5
"""Decades of influence drawn below the largest: what is smaller cannot be told from nothing."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def tail_chart(tail: Tail, label: str) -> Markup:
    """The complementary cumulative distribution of positive influence; empty when there is nothing to draw."""
    points = [(value, rank / tail.n) for value, rank in zip(tail.values, tail.ranks, strict=True) if value > 0]
    if len(points) < 2 or points[0][0] <= points[-1][0]:
        return Markup("")
    high = points[0][0]
    low = max(points[-1][0], high / 10**DECADES)
    points = [point for point in points if point[0] >= low]
    x = _axis(low, high * 1.15, LEFT, WIDTH - RIGHT)
    y = _axis(min(0.8 / tail.n, 0.008), 1.0, HEIGHT - BOTTOM, TOP)

    across, floor, middle = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    curve = _steps([(x(value), y(share)) for value, share in points])
    parts = [
        f'<rect class="band" x="{LEFT}" y="{y(0.01):.1f}" width="{across}" height="{floor - y(0.01):.1f}"/>',
        *_ticks(low, high * 1.15, x, y, tail.n),
        f'<path class="curve" d="{curve}"/>',
        *(f'<circle class="dot" cx="{x(value):.1f}" cy="{y(share):.1f}" r="2.2"/>' for value, share in points[:10]),
        _text("top 1 % of documents", f'class="note" x="{LEFT + 6}" y="{floor - 7}"'),
        _text("influence, nats per copy", f'x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle"'),
        _text("share with at least this", f'transform="translate(10 {middle}) rotate(-90)" text-anchor="middle"'),
    ]
    spoken = Markup.escape(
        f"{label}: {count(tail.positive)} of {count(tail.n)} documents have positive influence, the largest "
        f"{plain(high)} nats per copy; the top 1 % hold {percent(tail.share_top_1pct)} of it."
    )
    picture = "".join(parts)  # numbers and our own words only
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return Markup(f'<svg class="tail" viewBox="{box}" role="img" aria-label="{spoken}">{picture}</svg>')


def _text(words: str, attributes: str) -> str:
    return f"<text {attributes}>{words}</text>"


def _axis(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = math.log(high / low)
    return lambda value: start + (stop - start) * math.log(value / low) / span


def _ticks(low: float, high: float, x: Callable[[float], float], y: Callable[[float], float], n: int) -> list[str]:
    parts = []
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        at = x(10.0**power)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        name = f"10{str(power).translate(_SUPERSCRIPT)}"
        parts.append(_text(name, f'x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle"'))
    for power in range(0, -math.floor(math.log10(max(n, 100))) - 1, -1):
        share = 10.0**power
        parts.append(f'<path class="grid" d="M{LEFT} {y(share):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(f"{100 * share:g} %", f'x="{LEFT - 5}" y="{y(share) + 3.5:.1f}" text-anchor="end"'))
    return parts


def _steps(points: list[tuple[float, float]]) -> str:
    """A polyline through points at least half a unit apart."""
    kept = [points[0]]
    for point in points[1:]:
        if abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) >= 0.5:
            kept.append(point)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in kept)
