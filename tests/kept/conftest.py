"""Finished runs to look into: of the miniature checkpoint, with rows that would act where they are shown."""

import json
import shutil

import pytest
from tests.jobs.conftest import toy

import whence as wh
from whence.jobs.run import run
from whence.jobs.settings import RunSettings

__all__ = ["toy"]

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
FORMULA = "=HYPERLINK(1)"


@pytest.fixture(scope="session")
def home(toy, tmp_path_factory):
    """A folder with the run ``a``, of three questions, and the data that it read; self-influence is there too."""
    folder = tmp_path_factory.mktemp("kept")
    shutil.copytree(toy / "model", folder / "model")
    rows = [json.loads(line) for line in (toy / "train.jsonl").read_text().splitlines()]
    rows[5] |= {"note": FORMULA, "nested": {"a": [1, 2]}}
    rows[6] |= {"note": HOSTILE}
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(toy / "ask.jsonl", folder / "ask.jsonl")
    settings = RunSettings(
        model=str(folder / "model"),
        train=str(folder / "train.jsonl"),
        query=str(folder / "ask.jsonl"),
        top=4,
        batch_tokens=64,
    )
    run(folder / "a", settings)
    run(folder / "a", settings, stop_after="self")
    return folder


@pytest.fixture(scope="session")
def opened(home):
    return wh.open(home / "a")


@pytest.fixture
def whence_command(capsys):
    """The command in this process: exit code, stdout, stderr."""
    from whence.cli import main

    def call(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return ended.value.code, *capsys.readouterr()

    return call
