"""The documentation is true: its programs run, its commands parse, its pages are all there and so is what they name."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import pytest
import yaml
from tests.docs.pages import DOCS, commands, execute

import whence as wh
from whence.cli.app import build

ROOT = DOCS.parent
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))


def name(page):
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", TUTORIALS, ids=name)
def test_a_tutorial_runs_as_it_is_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(page)


@pytest.mark.parametrize(
    "page", [page for page in [*PAGES, ROOT / "README.md"] if commands(page)], ids=lambda p: p.name
)
def test_every_command_that_is_shown_can_be_understood(page):
    """Only parsed: flags that were renamed, or a command that is gone, are refused."""
    import shlex

    for line in commands(page):
        build().parse_args(shlex.split(line, comments=True)[1:], exit_on_error=False, print_error=False)


def test_the_site_builds_strictly_and_asks_the_network_for_nothing(tmp_path):
    """Warnings are errors: links that lead nowhere, pages left out, docstrings that cannot be read."""
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    made = subprocess.run(
        build, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert loaded == [], f"{page.name} loads {loaded}"


def test_every_page_is_in_the_navigation():
    """The strict build says so too; this is fast."""
    text = re.sub(r"!!\w\S*", "", (ROOT / "mkdocs.yml").read_text())

    def listed(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in listed(part)]

    pages = listed(yaml.safe_load(text)["nav"])
    assert sorted(page for page in pages if (DOCS / page).exists()) == [name(page) for page in PAGES]
    assert all((DOCS / page).exists() or (ROOT / page).exists() for page in pages)


def test_the_python_reference_names_everything_there_is():
    named = re.findall(r"^::: whence\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(set(wh.__all__) - {"__version__"})


@pytest.mark.parametrize("public", sorted(set(wh.__all__) - {"__version__"}))
def test_what_is_public_explains_itself(public):
    thing = getattr(wh, public)
    assert (thing.__doc__ or "").strip()
    assert importlib.import_module(thing.__module__)
