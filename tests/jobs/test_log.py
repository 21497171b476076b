"""A log tells a person and a file the same story, and never stands in a job's way."""

import io
import json
import subprocess
import sys

import pytest

from whence.jobs.log import Log


class Terminal(io.StringIO):
    def isatty(self):
        return True


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_silent_log_prints_nothing_and_still_keeps_events(tmp_path, capsys):
    log = Log.silent()
    log.note("before the folder was known")
    log.keep(tmp_path)
    log.step("fit", 1, 2, tokens=512)
    log.step("fit", 2, 2, tokens=1024)
    log.event("done", answer=42)

    assert [event["kind"] for event in events(tmp_path)] == ["note", "step", "step", "done"]
    assert events(tmp_path)[2]["tokens"] == 1024
    assert {"time", "seconds", "name", "done", "total", "took"} <= events(tmp_path)[1].keys()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_run_continued_adds_to_its_events(tmp_path):
    for text in ("first", "second"):
        log = Log.silent()
        log.keep(tmp_path)
        log.note(text)

    assert [event["text"] for event in events(tmp_path)] == ["first", "second"]


def test_plain_lines_say_when_a_step_begins_and_ends_and_little_between():
    stream = io.StringIO()
    log = Log(stream=stream)
    for done in range(1, 1001):
        log.step("score", done, 1000)
    log.step("score", 1000, 1000)

    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("score: 1 of 1,000")
    assert lines[-1].startswith("score: 1,000 of 1,000, in ")
    assert len(lines) == 2


def test_a_step_may_come_again():
    stream = io.StringIO()
    log = Log(stream=stream)
    for _ in range(2):
        log.step("check", 0, 1)
        log.step("check", 1, 1)

    assert len(stream.getvalue().splitlines()) == 4


def test_a_terminal_gets_bars_and_notes_with_their_brackets_intact():
    stream = Terminal()
    with Log(stream=stream) as log:
        log.step("fit", 0, 2)
        log.note("layer [red]h.0[/red] is wide")
        log.step("fit", 2, 2, loss=1.23456)

    assert "layer [red]h.0[/red] is wide" in stream.getvalue()
    assert "loss 1.235" in stream.getvalue()


def test_nothing_is_written_into_a_folder_before_it_is_ours(tmp_path):
    log = Log.silent()
    log.note("hello")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full")
def test_a_full_disk_does_not_stop_a_job_at_its_log(tmp_path):
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    log = Log.silent()
    log.keep(tmp_path)

    log.step("fit", 1, 1)


def test_logging_does_not_import_rich_until_it_draws():
    code = "import sys; from whence.jobs.log import Log; Log.stderr().note('x'); sys.exit('rich' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == 0
