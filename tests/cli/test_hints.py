"""A hint may only name a command and flags that there are."""

import ast
import re
from pathlib import Path

import pytest

import whence
from whence.cli.app import COMMANDS

SOURCES = sorted(Path(whence.__file__).parent.rglob("*.py"))


def texts():
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield f"{path.name}:{node.lineno}", node.value


@pytest.fixture(scope="module")
def flags():
    """Every command's flags, from the page that is made of their help."""
    page = Path(whence.__file__).parents[2] / "docs/commands.md"
    if not page.exists():
        pytest.skip("an installed package has no docs")
    found, command = {}, None
    for line in page.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## `?whence (\w+)`?", line):
            command = heading[1]
            found[command] = set()
        elif command:
            found[command] |= set(re.findall(r"--[a-z][a-z-]*", line))
    return found


def test_commands_named_in_messages_exist():
    named = [(where, name) for where, text in texts() for name in re.findall(r"`whence (\w+)", text)]

    assert [(where, name) for where, name in named if name not in COMMANDS] == []
    assert named


def test_flags_named_in_messages_exist(flags):
    every = {"--help", "--version"}.union(*flags.values())
    named = [(where, flag) for where, text in texts() for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)]

    assert set(flags) == set(COMMANDS)
    assert [(where, flag) for where, flag in named if flag not in every] == []
    assert len(named) > 10
