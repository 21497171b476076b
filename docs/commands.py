"""Writes the reference of the commands from their own help: ``make docs``.

    python docs/commands.py > docs/commands.md

A test insists that the page is what this prints.
"""

from __future__ import annotations

import io
import os
from dataclasses import MISSING, fields

from rich.console import Console

from whence.cli.app import COMMANDS, build
from whence.jobs.settings import RunSettings, describe

INTRODUCTION = """\
# Commands

Made from the commands' own help by `make docs`; do not edit.

Data goes to stdout, everything else to stderr. Exit codes: 0 done; 1 an error of which whence says what, which
and what next; 2 a command line that cannot be understood; 130 interrupted, with what was finished kept.
`-` and `_` both work in flags. Nothing ever prompts.
"""

SETTINGS = """\
## Settings

What flags do not say, a settings file does: `whence run RUN --settings FILE`, or `whence run FILE.toml`. Every run
keeps the file it was made with in `RUN/settings.toml`. Flags win over the file, and the file over these defaults.
A key that is not in this table is an error.

| setting | default | meaning |
|---|---|---|
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [INTRODUCTION, _help("")]
    parts += [f"## whence {name}\n\n{_help(name)}" for name in COMMANDS]
    return "\n".join(parts) + "\n" + SETTINGS + "".join(_row(field) for field in fields(RunSettings))


def _help(name: str) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False, no_color=True)
    build().help_print([name] if name else [], console=console)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "\n".join(["```text", *lines]).rstrip() + "\n```\n"


def _row(field) -> str:  # type: ignore[no-untyped-def]
    default = "required" if field.default is MISSING else "" if field.default in (None, ()) else field.default
    shown = " ".join(default) if isinstance(default, tuple) else str(default)
    return f"| `{field.name}` | {f'`{shown}`' if shown not in ('', 'required') else shown} | {describe(field.name)} |\n"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    print(page(), end="")
