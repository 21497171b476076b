"""How help looks: plain text in two columns, the docstring as it was written.

    Usage: whence score [OPTIONS] RUN

      Rank training documents by their influence on each question.

    Options:
      --by [layer|token]  Also split scores this way; repeatable

The same text serves the terminal, a pipe and the reference page in docs.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

WIDTH = 100
NO_BREAK = "\N{NO-BREAK SPACE}"
LABELS = 26
"""Columns that flags may take before their text; a longer flag gets a line of its own."""


def help_of(command: Callable[..., Any]) -> str:
    """A command's docstring, indentation of its examples kept."""
    return inspect.cleandoc(command.__doc__ or "")


class PlainHelp:
    """A formatter for cyclopts: usage, description, then flags and their texts in two columns.

    Args:
        description: Printed as it stands; cyclopts would drop a docstring's examples.
    """

    def __init__(self, description: str) -> None:
        self.description = description

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        if usage:
            words = str(getattr(usage, "plain", usage)).strip().replace("[ARGS]", "[RUN]")  # the one there is
            _print(console, words if words.startswith("Usage:") else f"Usage: {words}")
            _print(console, "")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        _print(console, textwrap.indent(self.description, "  "))
        _print(console, "")

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        entries = [entry for entry in panel.entries if entry.display_labels]
        if not entries:
            return
        labels = [_label(entry) for entry in entries]
        column = min(LABELS, max(len(label) for label in labels)) + 2
        _print(console, f"{panel.title}:")
        for label, entry in zip(labels, entries, strict=True):
            lines = textwrap.wrap(_explanation(console, entry), min(console.width, WIDTH) - column - 2) or [""]
            if len(label) > column - 2:
                _print(console, f"  {label}")
                label = ""
            _print(console, f"  {label:<{column}}{lines[0]}".rstrip())
            for line in lines[1:]:
                _print(console, " " * (column + 2) + line)
        _print(console, "")


def _label(entry: HelpEntry) -> str:
    """``--by [layer|token]``: names, then the shape of the value."""
    if entry.positional_label:
        return entry.positional_label
    names = ", ".join(entry.positive_shorts + entry.positive_names)
    shape = f"[{'|'.join(entry.choices)}]" if entry.choices else entry.metavar
    return f"{names} {shape}" if shape else names


def _explanation(console: Console, entry: HelpEntry) -> str:
    words = _text(console, entry.description).split()
    if entry.default is not None:
        words.append(f"[default:{NO_BREAK}{entry.default}]")
    return " ".join(words)


def _text(console: Console, rich_text: Any) -> str:
    """The characters of whatever cyclopts made of a docstring, with no markup read into them."""
    if rich_text is None:
        return ""
    if isinstance(rich_text, str) or hasattr(rich_text, "plain"):
        return str(getattr(rich_text, "plain", rich_text)).rstrip()
    with console.capture() as capture:
        console.print(rich_text, markup=False, highlight=False, soft_wrap=True)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def _print(console: Console, text: str) -> None:
    print(text.replace(NO_BREAK, " "), file=console.file)  # not by rich, which turns a closed pipe into exit code 1
