"""Small pieces of HTML for a notebook's cells: a table, and a text coloured token by token.

They are written into a page that is not ours, so they bring no script, no style sheet and no colour of ink: colours
are washes that both a light and a dark page show through. Text that came from outside is made inert (`pieces.visible`)
and escaped, as in the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from whence.report.numbers import LEVELS, count, largest, level, percent, plain, signed
from whence.report.pieces import display, visible

Kind = Literal["influence", "number", "count", "share", "text", "word"]
"""How a column is printed: an influence has a sign and a bar, a text may be long, a word is not."""

RAISES, LOWERS = "240, 116, 31", "63, 155, 224"
"""The report's vermilion and blue, which stay apart for every common colour blindness."""
STRONGEST = 0.55
"""Opacity of the strongest wash: ink stays legible on it."""

_CELL = "padding: 0.15em 0.6em; vertical-align: top; text-align: {align}"
_TEXT = "; max-width: 46em; white-space: normal; overflow-wrap: anywhere"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view: where its value lies in a row, what stands above it, and how it is printed."""

    key: str
    heading: str
    kind: Kind = "text"


def cell(value: Any, kind: Kind) -> str:
    """A value as plain text.

    Example:
        >>> cell(0.01234, "influence"), cell(1234.0, "number"), cell(None, "text"), cell(["a", 1], "text")
        ('+0.0123', '1230', '–', 'a, 1')
    """
    if value is None:
        return "–"
    if kind in ("influence", "number", "share") and isinstance(value, int | float):
        return {"influence": signed, "number": plain, "share": percent}[kind](value)
    if kind == "count" and isinstance(value, int):
        return count(value)
    if isinstance(value, list | tuple):
        return ", ".join(cell(item, "word") for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {cell(item, 'word')}" for key, item in value.items())
    return plain(value) if isinstance(value, float) else str(value)


def table(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an HTML table, influences with a bar as long as they are large."""
    tops = {
        column.key: largest(row[column.key] for row in rows if isinstance(row.get(column.key), int | float))
        for column in columns
        if column.kind == "influence"
    }
    head = Markup("").join(
        Markup('<th style="{}">{}</th>').format(_CELL.format(align=_align(column.kind)), column.heading)
        for column in columns
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                _table_cell(row.get(column.key), column.kind, tops.get(column.key, 0.0)) for column in columns
            )
        )
        for row in rows
    )
    caption = Markup('<div style="margin: 0.4em 0"><b>{}</b></div>').format(_inert(title))
    return str(caption + Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body))


def text_heat(title: str, tokens: Sequence[str], values: Sequence[float], unit: str) -> str:
    """A text whose tokens are coloured by a value each; hovering one tells it.

    Args:
        tokens: Surface text of each token.
        values: As many, of the token they are drawn on.
    """
    top = largest(values)
    spans = []
    for piece, value in zip(display(tokens), values, strict=True):
        step = level(value, top)
        wash = f"background: {_wash(step)}; " if step else ""
        tip = f"{signed(value)} {unit}" + (f" · bytes {piece.raw}" if piece.raw else "")
        spans.append(Markup('<span style="{}border-radius: 2px" title="{}">{}</span>').format(wash, tip, piece.text))
    caption = Markup('<div style="margin: 0.4em 0"><b>{}</b></div>').format(_inert(title))
    style = "white-space: pre-wrap; overflow-wrap: anywhere; max-width: 60em; line-height: 1.6"
    return str(caption + Markup('<div style="{}" dir="auto">{}</div>').format(style, Markup("").join(spans)))


def facts(title: str, pairs: Iterable[tuple[str, Any]], link: tuple[str, str] | None = None) -> str:
    """Names and values, and perhaps a link to a file beside the notebook.

    Args:
        link: Relative address and text.
    """
    rows = Markup("").join(
        Markup('<tr><td style="{}">{}</td><td style="{}">{}</td></tr>').format(
            _CELL.format(align="left"), _inert(name), _CELL.format(align="left") + _TEXT, _inert(cell(value, "text"))
        )
        for name, value in pairs
    )
    end = Markup("") if link is None else Markup('<p><a href="{}" target="_blank">{}</a></p>').format(*link)
    caption = Markup('<div style="margin: 0.4em 0"><b>{}</b></div>').format(_inert(title))
    return str(caption + Markup("<table><tbody>{}</tbody></table>").format(rows) + end)


def loglog(
    points: Sequence[tuple[float, float]], line: Sequence[tuple[float, float]] | None, *, across: str, up: str
) -> str:
    """Points on two logarithmic axes as SVG, and a straight line through some of them; nothing where there are too few.

    Args:
        points: Pairs of positive numbers.
        line: Two ends, dashed.
        across, up: What the axes measure.
    """
    if len({x for x, _ in points}) < 2 or len({y for _, y in points}) < 2:
        return ""
    spans = [[math.log10(point[axis]) for point in points] for axis in (0, 1)]
    (left, right), (low, high) = ((min(span), max(span)) for span in spans)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = (math.log10(point[0]) - left) / (right - left)
        y = (math.log10(point[1]) - low) / (high - low)
        return 12 + 316 * x, 196 - 176 * y

    dots = "".join('<circle cx="{:.1f}" cy="{:.1f}" r="2"/>'.format(*place(point)) for point in points)
    ends = " ".join("{:.1f},{:.1f}".format(*place(point)) for point in line or [])
    dashed = f'<polyline points="{ends}" stroke="rgb({LOWERS})" stroke-width="2" stroke-dasharray="6 4" fill="none"/>'
    texts = Markup(
        '<text x="12" y="211">{}</text><text x="328" y="211" text-anchor="end">{}</text>'
        '<text x="170" y="211" text-anchor="middle">{}</text><text x="12" y="8">{}: {} to {}</text>'
    ).format(plain(10**left), plain(10**right), across, up, percent(10**low), percent(10**high))
    return (
        '<svg viewBox="0 0 340 216" width="510" role="img" style="font: 9px sans-serif" fill="currentColor">'
        f'<g fill="rgb({RAISES})">{dots}</g>{dashed if line else ""}{texts}</svg>'
    )


def _table_cell(value: Any, kind: Kind, top: float) -> Markup:
    shown = escape(visible(cell(value, kind)))
    style = _CELL.format(align=_align(kind)) + (_TEXT if kind == "text" else "; white-space: nowrap")
    if kind == "influence" and top and isinstance(value, int | float):
        width = round(60 * min(1.0, abs(value) / top)) if value == value else 0
        colour = RAISES if value > 0 else LOWERS
        bar = f"display: inline-block; width: {width}px; height: 0.7em; background: rgb({colour})"
        room = "display: inline-block; width: 60px; text-align: left; margin-left: 0.5em"
        shown = Markup('{}<span style="{}"><span style="{}"></span></span>').format(shown, room, bar)
    return Markup('<td style="{}">{}</td>').format(style, shown)


def _align(kind: Kind) -> str:
    return "left" if kind in ("text", "word") else "right"


def _wash(step: int) -> str:
    return f"rgba({RAISES if step > 0 else LOWERS}, {STRONGEST * abs(step) / LEVELS:.2f})"


def _inert(text: str) -> Markup:
    return escape(visible(text))
