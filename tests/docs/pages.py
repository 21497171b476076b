"""Pages of the documentation as programs: their Python blocks in order, and what they print at the end of each."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```$|^<!-- run\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Code:
    """One block, and the line of the page that it begins on."""

    text: str
    line: int


def python_blocks(page: Path) -> list[Code]:
    """Blocks that a reader sees, and those in comments that check them."""
    text = page.read_text(encoding="utf-8")
    found = _BLOCK.finditer(text)
    return [Code(match[1] or match[2], text.count("\n", 0, match.start()) + 2) for match in found]


def commands(page: Path) -> list[str]:
    """Every ``$ whence …`` of a page, continuation lines joined."""
    lines = []
    for match in _CONSOLE.finditer(page.read_text(encoding="utf-8")):
        joined = match[1].replace("\\\n", " ")
        lines += [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ whence")]
    return lines


def execute(page: Path) -> dict[str, object]:
    """Run a page from top to bottom. A block's last expression is shown as a notebook would show it.

    A traceback names the page and its line.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    for code in python_blocks(page):
        tree = ast.parse(code.text, str(page))
        ast.increment_lineno(tree, code.line - 1)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(page), "exec"), names)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), str(page), "eval"), names)
            assert repr(shown)
            if hasattr(shown, "_repr_html_"):
                assert "<script" not in shown._repr_html_()
    return names
