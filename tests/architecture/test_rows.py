"""Imports point down the rows of the design, never up; files stay small enough to read; nothing is called utils."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "whence"
FILES = sorted(PACKAGE.rglob("*.py"))

ROWS = [
    {"types", "errors", "counted"},
    {"linalg", "artifacts", "world"},
    {"layers", "tasks", "data", "models", "solvers"},
    {"capture"},
    {"curvature"},
    {"influence", "index"},
    {"evaluate", "report", "demo"},
    {"jobs"},
    {"cli", "api"},
]
"""From the bottom up: a package imports from rows below its own, and from inside itself."""
ROW = {package: number for number, row in enumerate(ROWS) for package in row}
OUTSIDE = {"testing", "__init__", "__main__"}
"""Beside the rows: oracles and tiny models for tests; the front doors, of which ``__init__`` is lazy."""

MOST_LINES = 350
ONLY_IN = {
    "transformers": {"models/hf.py", "testing"},
    "peft": {"models/lora.py", "testing"},
    "datasets": {"data/hub.py"},
    "cyclopts": {"cli"},
    "playwright": set(),
    "PIL": {"data/images.py"},
}
"""Libraries that one file or package may import."""


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def package_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Every module imported in a file, inside functions too: ``(line, dotted name)``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno} imports relatively"
            yield node.lineno, node.module
            if node.module == "whence":  # a module, or a word of the front door such as __version__
                names = [alias.name for alias in node.names if not alias.name.startswith("__")]
                yield from ((node.lineno, f"whence.{name}") for name in names)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_point_down(path):
    here = package_of(path)
    if here in OUTSIDE:
        return
    assert here in ROW, f"{here} has no row: give it one in DESIGN and here"

    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "whence" or len(parts) == 1 or parts[1] == here:
            continue
        there = parts[1]
        assert there not in OUTSIDE, f"{relative(path)}:{line} imports {module}, which is for tests"
        assert ROW[there] < ROW[here], f"{relative(path)}:{line} imports {module}, which is no row below {here}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_library_is_imported_where_it_belongs(path):
    for line, module in imports(path):
        allowed = ONLY_IN.get(module.split(".")[0])
        if allowed is not None:
            where = {relative(path), package_of(path)}
            assert where & allowed, f"{relative(path)}:{line} imports {module}; only {sorted(allowed)} may"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_is_pickled(path):
    """Files of others are opened here: unpickling one is running it."""
    assert "pickle" not in {module.split(".")[0] for _, module in imports(path)}
    assert "torch.load(" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_can_be_read_at_one_sitting(path):
    text = path.read_text(encoding="utf-8")

    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(ast.parse(text)), f"{relative(path)} does not open by saying what it is"


def test_nothing_is_called_utils():
    vague = {"utils", "util", "helpers", "common", "misc"}

    assert [relative(path) for path in FILES if vague & set(path.relative_to(PACKAGE).with_suffix("").parts)] == []


def test_packages_import_one_another_in_no_circle():
    """Inside a row too: data may use nothing of models if models uses data."""
    uses = {}
    for path in FILES:
        here = package_of(path)
        for _, module in imports(path):
            if module.startswith("whence.") and module.split(".")[1] != here and here not in OUTSIDE:
                uses.setdefault(here, set()).add(module.split(".")[1])

    def reachable(start, seen):
        for there in uses.get(start, ()):
            if there not in seen:
                seen.add(there)
                reachable(there, seen)
        return seen

    assert [package for package in uses if package in reachable(package, set())] == []


def test_no_committed_file_names_a_machine_s_folders():
    """A path of the machine it was written on helps nobody else and ages badly."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile(rb"(?<![\w.:/])/(?:work|root|home/\w+|Users/\w+)/")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".safetensors", ".gz", ".png", ".parquet"}:
            found += [f"{name}: {match.group().decode()}" for match in [machine.search(path.read_bytes())] if match]

    assert found == []


@pytest.mark.parametrize("module", ["whence", "whence.cli.app", "whence.jobs.settings", "whence.jobs.log"])
def test_help_needs_no_torch(module):
    """`whence --help` answers in under half a second because these import nothing heavy."""
    code = f"import sys, {module}; print(*sorted({{'torch', 'transformers', 'pyarrow', 'pandas'}} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == ""
