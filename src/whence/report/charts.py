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

    parts = [
        f'<rect class="band" x="{LEFT}" y="{y(0.01):.1f}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - BOTTOM - y(0.01):.1f}"/>',
        *_ticks(low, high * 1.15, x, y, tail.n),
        f'<path class="curve" d="{_steps([(x(value), y(share)) for value, share in points])}"/>',
        *(f'<circle class="dot" cx="{x(value):.1f}" cy="{y(share):.1f}" r="2.2"/>' for value, share in points[:10]),
        f'<text class="note" x="{LEFT + 6}" y="{HEIGHT - BOTTOM - 7}">top 1 % of documents</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">influence, nats per copy</text>',
        f'<text transform="translate(10 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">share with at least this</text>',
    ]
    spoken = (
        f"{label}: {count(tail.positive)} of {count(tail.n)} documents have positive influence, the largest {plain(high)} "
        f"nats per copy; the top 1 % hold {percent(tail.share_top_1pct)} of it."
    )
    return Markup(  # numbers and our own words only
        f'<svg class="tail" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{Markup.escape(spoken)}">{"".join(parts)}</svg>'
    )


def _axis(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = math.log(high / low)
    return lambda value: start + (stop - start) * math.log(value / low) / span


def _ticks(low: float, high: float, x: Callable[[float], float], y: Callable[[float], float], n: int) -> list[str]:
    parts = []
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        at = x(10.0**power)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">10{str(power).translate(_SUPERSCRIPT)}</text>')
    for power in range(0, -math.floor(math.log10(max(n, 100))) - 1, -1):
        share = 10.0**power
        parts.append(f'<path class="grid" d="M{LEFT} {y(share):.1f}H{WIDTH - RIGHT}"/>')
        name = f"{100 * share:g} %"
        parts.append(f'<text x="{LEFT - 5}" y="{y(share) + 3.5:.1f}" text-anchor="end">{name}</text>')
    return parts


def _steps(points: list[tuple[float, float]]) -> str:
    """A polyline through points at least half a unit apart."""
    kept = [points[0]]
    for point in points[1:]:
        if abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) >= 0.5:
            kept.append(point)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in kept)
