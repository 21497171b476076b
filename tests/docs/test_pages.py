"""The documentation is true: its programs run, its commands parse, its pages are all there and so is what they name."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml
from tests.docs.pages import DOCS, commands, execute

import whence as wh
from whence.cli.app import build

ROOT = DOCS.parent
PAGES = sorted(DOCS.rglob("*.md"))
VALIDATE = DOCS / "validate.md"
RUN = [*sorted((DOCS / "tutorials").glob("*.md")), VALIDATE]


def name(page):
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_runs_as_it_is_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # where a reader's own modules lie
    execute(page)


def test_every_recipe_that_is_shown_is_read_and_every_key_is_explained(tmp_path):
    from whence.evaluate.training import Recipe
    from whence.jobs.validation.protocol import Protocol

    text = VALIDATE.read_text(encoding="utf-8")
    shown = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for recipe in shown:
        (tmp_path / "recipe.toml").write_text(recipe)
        Protocol.read(tmp_path / "recipe.toml")
    keys = {field.name for of in (Protocol, Recipe) for field in fields(of)} - {"recipe"}
    assert keys <= set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert len(shown) == 2


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


def test_the_figures_of_the_page_on_accuracy_are_those_that_were_measured():
    measured = json.loads((ROOT / "bench/results/accuracy.json").read_text())["tasks"]
    columns = ["gradient_dot", "kfac", "ekfac", "ekfac_refined", "lissa", "exact"]
    page = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \w.*\d\.\d\d.*$", page, re.MULTILINE)
    shown = [re.findall(r"diverged|\d\.\d\d", row)[-6:] for row in rows]
    wanted = [[task["pearson_with_pbrf"].get(name) for name in columns] for task in measured]
    assert shown == [["diverged" if one is None else f"{one:.2f}" for one in row] for row in wanted]


def test_the_figures_of_the_page_on_damping_are_those_that_were_measured():
    measured = {
        of["task"]: of["lds"] for of in json.loads((ROOT / "bench/results/accuracy.json").read_text())["retrained"]
    }
    page = (DOCS / "damping.md").read_text(encoding="utf-8")
    for title, task, ruled in [
        ("Energy", "energy", 10),
        ("Parkinsons", "parkinsons", 10),
        ("MNIST, MLP", "mnist_mlp", 100),
        ("TinyStories", "tinystories_lm", 10),
    ]:
        row = next(line for line in page.splitlines() if line.startswith(f"| {title}"))
        lds = {name: of["value"] for name, of in measured[task].items()}
        fitted, refined = lds["ekfac 0.1"], lds[f"ekfac_refined {ruled:.1f}"]
        lost = (
            max(value for name, value in lds.items() if name.startswith(f"{of} ")) - chosen
            for of, chosen in (("ekfac", fitted), ("ekfac_refined", refined))
        )
        told = [f"{one:.3f}" for one in (fitted, next(lost), refined, next(lost), lds["ekfac_refined 0.1"])]
        assert re.findall(r"\d\.\d{3}", row) == told, task
