"""Help is for reading: every command has it, at once, and the reference page says the same."""

import importlib.util
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import INSTALLED

from whence.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]


def test_help_answers_in_under_half_a_second():
    """Processor time, which other work on the machine does not lengthen; the best of three."""

    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([INSTALLED, "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    seconds()
    assert min(seconds() for _ in range(3)) < 0.5


def test_the_overview_names_every_command(whence):
    shown = whence("--help")

    assert shown.code == 0
    assert shown.err == ""
    for name in COMMANDS:
        assert re.search(rf"^  {name}  +\S", shown.out, re.MULTILINE)


def test_no_arguments_is_a_request_for_help(whence):
    assert whence().out == whence("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself(whence, name):
    shown = whence(name, "--help")

    assert shown.code == 0
    assert f"Usage: whence {name} [OPTIONS]" in shown.out
    assert re.search(rf"^  Examples?:\n    whence {name}", shown.out, re.MULTILINE)
    assert "--json" in shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_stay_few_and_each_says_what_it_does(whence, name):
    """About fifteen flags and a settings file; a flag more needs a reason that two users would give."""
    shown = whence(name, "--help").out.partition("Options:\n")[2]
    flags = re.findall(r"^  (--[a-z-]+)(.*)(?:\n {20,}(.*))?$", shown, re.MULTILINE)

    assert 1 <= len(flags) <= 23  # `plan` takes those of `run` and more
    for flag, beside, below in flags:
        assert len(f"{beside} {below}".split()) > 2, f"{flag} is not explained"


def test_flags_show_the_defaults_of_the_settings(whence):
    shown = " ".join(whence("run", "--help").out.split())

    assert "[default: ekfac]" in shown
    assert "abs:FLOAT for an absolute value [default: 0.1]" in shown
    assert "[default: float32]" in shown


def test_the_reference_page_is_what_the_commands_say():
    """`make docs` writes it."""
    spec = importlib.util.spec_from_file_location("commands", ROOT / "docs" / "commands.py")
    commands = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(commands)

    assert commands.page() == (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def test_the_version_is_the_package_s(whence):
    import whence as package

    assert whence("--version").out == f"whence {package.__version__}\n"


def test_help_into_a_closed_pipe_is_no_error():
    command = f"'{INSTALLED}' --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("columns", ["60", "200"])
def test_help_fits_the_terminal(columns):
    shown = subprocess.run(
        [INSTALLED, "run", "--help"],
        env=os.environ | {"COLUMNS": columns},
        capture_output=True,
        text=True,
        check=True,
    )
    options = shown.stdout.partition("Options:\n")[2]

    assert max(map(len, options.splitlines())) <= min(int(columns), 100)
