"""What is shown, drawn for a terminal of any width; plain where there are no colours, as in a log.

scored tokens      bold cyan          ⟦in these brackets⟧
the rest           dim                as it is
special tokens     reversed           spelled out, either way
line breaks        ⏎                  and then a new line
sequences          ┆                  where another begins, of a document longer than the context
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from whence.counted import counted
from whence.data.shapes import shown as columns_of
from whence.jobs.show.documents import ShownDocument
from whence.jobs.show.layers import ShownLayers
from whence.jobs.show.state import Done
from whence.report.pieces import visible

OPEN, CLOSE = "⟦", "⟧"
BREAK, WINDOW = "⏎", "┆"
_STYLES = {
    (True, False): "bold cyan",
    (True, True): "bold cyan reverse",
    (False, False): "dim",
    (False, True): "dim magenta",
}
"""(scored, special) → how a token looks."""
MOST, HEAD, TAIL = 240, 140, 60
"""A run of tokens alike in whether they are scored is shortened beyond this many: to so many, and so many."""


def draw(
    documents: Sequence[ShownDocument] | None,
    layers: ShownLayers | None,
    stages: Sequence[Done] | None,
    console: Console,
) -> None:
    """Print each part that was asked for."""
    parts = [
        *([_state(stages)] if stages is not None else []),
        *([_layers(layers)] if layers is not None else []),
        *([_documents(documents, colours(console))] if documents is not None else []),
    ]
    with console.capture() as captured:  # rich would turn a pipe that was closed into a failure
        for number, part in enumerate(parts):
            if number:
                console.print()
            for line in part:
                console.print(line)
    lines = captured.get().splitlines()
    console.file.write("".join(f"{line if colours(console) else line.rstrip()}\n" for line in lines))


def colours(console: Console) -> bool:
    """Whether marks may be colours alone."""
    return console.is_terminal and not console.no_color and console.color_system is not None


def _documents(documents: Sequence[ShownDocument], coloured: bool) -> Iterator[Text]:
    yield _legend(coloured)
    if shapes := dict.fromkeys(one.shape for one in documents if one.shape is not None):
        yield Text("rows: " + ", ".join(map(columns_of, shapes)))
    for document in documents:
        yield Text()
        yield from _document(document, coloured)


def _legend(coloured: bool) -> Text:
    scored = Text("scored", _STYLES[True, False]) if coloured else Text(f"{OPEN}scored{CLOSE}")
    rest = Text("read, not scored", _STYLES[False, False] if coloured else "")
    special = Text("<special>", _STYLES[False, True] if coloured else "")
    marks = Text(f"{BREAK} line break  · a later byte of a character  {WINDOW} another sequence begins")
    return Text("  ").join([scored, rest, special, marks])


def _document(document: ShownDocument, coloured: bool) -> Iterator[Text]:
    count, scored = len(document.tokens), sum(document.scored)
    says = f"{counted(count, 'token')}, " + (f"{scored:,} scored" if scored else "nothing scored")
    title = Text(visible(document.name), "bold")
    title.append(f"  {says}", "" if scored else "bold red")
    if document.windows:
        title.append(f"  {len(document.windows) + 1} sequences")
    yield title
    if fields := [_field(name, value) for name, value in document.metadata.items() if value is not None]:
        yield Text(", ".join(fields), "italic")
    for notice in document.noticed:
        yield Text(notice, "yellow")
    yield _marked(document, coloured)


def _field(name: str, value: object) -> str:
    text = " ".join(visible(f"{name} = {value}").split())
    return text if len(text) <= 80 else text[:79] + "…"


def _marked(document: ShownDocument, coloured: bool) -> Text:
    """The tokens with their marks, runs alike in being scored one after another."""
    text = Text(overflow="fold")
    places = range(len(document.tokens))
    for scored, run in groupby(places, lambda place: document.scored[place]):
        members = list(run)
        if scored and not coloured:
            text.append(OPEN)
        shown = members if len(members) <= MOST else [*members[:HEAD], *members[-TAIL:]]
        for number, place in enumerate(shown):
            if len(shown) < len(members) and number == HEAD:
                text.append(f" … {len(members) - len(shown):,} tokens … ", "italic" if coloured else "")
            if place in document.windows:
                text.append(WINDOW, "bold red" if coloured else "")
            _append(text, document, place, coloured)
        if scored and not coloured:
            text.append(CLOSE)
    return text


def _append(text: Text, document: ShownDocument, place: int, coloured: bool) -> None:
    style = _STYLES[document.scored[place], document.special[place]] if coloured else ""
    # the brackets are ours: where the text itself holds one, it is spelled
    said = "".join(f"⟨U+{ord(char):04X}⟩" if char in (OPEN, CLOSE) else char for char in document.tokens[place])
    text.append(said.replace("\n", f"{BREAK}\n"), style)


@dataclass(frozen=True)
class _Dotted:
    """A layer's name, broken before its dots where it is wider than the column: words stay whole."""

    name: str

    @property
    def words(self) -> list[str]:
        return re.split(r"(?=\.)", self.name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self.words)), len(self.name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines = [""]
        for word in self.words:
            if lines[-1] and len(lines[-1] + word) > options.max_width:
                lines.append("")
            lines[-1] += word
        yield Text("\n".join(lines), overflow="fold")


def _layers(layers: ShownLayers) -> Iterator[Text | Table]:
    yield Text(f"tracked {layers.share:.1%} of {layers.total:,} parameters", "bold")
    rows = [(one.names, f"{one.count}", f"{one.outputs:,} × {one.inputs:,}", one.parameters) for one in layers.tracked]
    table = _table("layer", "layers", "out × in", "parameters", "share")
    for name, count, size, parameters in rows:
        table.add_row(_Dotted(name), count, size, f"{parameters:,}", f"{parameters / layers.total:.1%}")
    yield table
    yield Text()
    yield Text("left out" if layers.left_out else "nothing is left out", "bold")
    if layers.left_out:
        table = _table("kind", "parameters", "share", "because", right=(1, 2))
        for row in layers.left_out:
            table.add_row(row.kind, f"{row.parameters:,}", f"{row.share:.1%}", Text(row.reason, overflow="fold"))
        yield table
    for note in layers.notes:
        yield Text(note)


def _table(*columns: str, right: Sequence[int] | None = None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(columns):
        aligned = number in right if right is not None else number > 0
        table.add_column(name, justify="right" if aligned else "left", no_wrap=aligned)
    return table


def _state(stages: Sequence[Done]) -> Iterator[Table]:
    table = Table(box=None, pad_edge=False, show_header=False)
    for one in stages:
        table.add_row(Text("done" if one.finished else "–", "green" if one.finished else "dim"), one.stage, one.says)
    yield table
