"""``whence serve`` as it is called: it says its address, answers there, and ends on Ctrl-C."""

import json
import re
import signal
import subprocess
import urllib.request
from functools import partial

import pytest
from tests.cli.conftest import INSTALLED, installed

from whence.jobs.serve import explorer

__all__ = ["installed"]


@pytest.fixture
def start():
    """The command, begun; ended with the test."""
    begun = []

    def start(*arguments):
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are deaf to it
        process = subprocess.Popen(
            [str(INSTALLED), "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heard,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_says_where_it_is_and_ctrl_c_ends_it(start, folder):
    process = start(folder)
    line = process.stdout.readline()
    url = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", line)[0]

    assert line.startswith(f"3 runs in {folder}")
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert "geography" in answer.read().decode()
    assert process.stdout.readline() == "Ctrl-C ends it.\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_machine_reads_json(start, folder):
    process = start(folder / "geography", "--json")
    said = json.loads(process.stdout.readline())

    assert said["runs"] == ["geography"]
    assert said["url"].startswith(f"http://127.0.0.1:{said['port']}/")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere"], 1, "there is no folder nowhere"),
        (["--port", "70000", "."], 1, "there is no port 70000"),
        (["--port", "x", "."], 2, "--port"),
        (["--host", "0.0.0.0", "."], 2, "--host"),
    ],
)
def test_what_cannot_be_is_refused(installed, tmp_path, arguments, code, says):
    ended = installed("serve", *arguments, cwd=tmp_path)

    assert ended.code == code
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_the_address_differs_each_time(folder):
    one, other = explorer(folder), explorer(folder)

    assert one.server.gate.token != other.server.gate.token
    for each in (one, other):
        each.server.server_close()


def test_nothing_of_a_run_is_written(folder, served):
    def state():
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    before = state()
    for page in ("", "documents?q=paris", "document/1", "question/1", "report.html"):
        assert served.of(page).status == 200
    assert state() == before
