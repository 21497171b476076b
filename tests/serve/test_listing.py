"""The runs of a folder, whole or not, and the job that is at work on one, as its own words tell."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from whence.errors import ArtifactError
from whence.jobs.log import Log
from whence.jobs.serve.listing import line_of, runs_below
from whence.jobs.serve.progress import progress_of


def lines(folder):
    return {found.name: line_of(found) for found in runs_below(folder)}


def test_every_run_is_listed_in_whatever_state(folder):
    found = lines(folder)

    assert {name: line.state for name, line in found.items()} == {
        "deep/begun": "working" if found["deep/begun"].progress.working else "unfinished",
        "geography": "working" if found["geography"].progress.working else "answered",
        "torn": "broken",
    }
    assert found["geography"].questions == 3, "the first was asked twice"
    assert found["geography"].documents == found["deep/begun"].documents == 126
    assert "cannot be read" in found["torn"].problem
    assert found["geography"].found.reports == ["report.html"]


def test_a_run_is_a_folder_of_one(folder):
    assert [found.name for found in runs_below(folder / "geography")] == ["geography"]


def test_there_must_be_a_folder(folder):
    with pytest.raises(ArtifactError, match="no folder"):
        runs_below(folder / "nowhere")


def test_the_list_and_each_run_s_page_say_what_is_wrong(served):
    answer = served.ask()

    assert answer.status == 200
    assert "geography" in answer.text
    assert "deep/begun" in answer.text
    assert "other" not in answer.text.split("<main")[1]
    assert "It cannot be read." in answer.text
    broken = served.of("", "torn")
    assert broken.status == 200
    assert "This run cannot be read." in broken.text
    for page in ("documents", "document/0", "question/0"):
        answer = served.of(page, "torn")
        assert answer.status in (404, 500)
        assert "Traceback" not in answer.text


def test_a_run_without_questions_shows_its_documents(served):
    assert "Nothing was asked of this run yet" in served.of("", "deep/begun").text
    assert "All <b" in served.of("documents", "deep/begun").text
    assert "no question that it could move" in served.of("document/0", "deep/begun").text
    assert served.of("question/0", "deep/begun").status == 404


def damage(folder, name):
    """One thing of a run that was finished, gone wrong."""
    if name == "scores":
        for path in folder.glob("scores/*/part-*.safetensors"):
            path.write_bytes(path.read_bytes()[:100])
    elif name == "answers":
        next(folder.glob("answers/*/answers.json")).write_text("{")
    elif name == "tokenizer":
        (folder / "tokenizer" / "tokenizer.json").write_text("{")
    elif name == "documents":
        (folder / "data" / "documents.parquet").write_bytes(b"PAR1")
    elif name == "settings":
        (folder / "settings.toml").write_text('model = "m"\ntrain = "t"\nfuture = 1\n')
    elif name == "report":
        (folder / "report.html").unlink()
        (folder / "report.html").symlink_to("/etc/hostname")


@pytest.mark.parametrize("name", ["scores", "answers", "tokenizer", "documents", "settings", "report"])
def test_a_damaged_run_is_told_of_and_nothing_breaks(folder, tmp_path, name):
    import shutil

    from tests.serve.conftest import Served

    shutil.copytree(folder / "geography", tmp_path / "runs" / "hurt")
    damage(tmp_path / "runs" / "hurt", name)
    served = Served(tmp_path / "runs")
    answers = [served.ask(), *(served.of(page, "hurt") for page in ("", "documents", "document/1", "question/1"))]
    report = served.of("report.html", "hurt")
    served.end()

    assert answers[0].status == 200
    assert "hurt" in answers[0].text
    for answer in answers:
        assert answer.status in (200, 404, 500)
        assert "Traceback" not in answer.text
        assert 'File "' not in answer.text
    assert any(answer.status == 500 for answer in answers) or name == "report"
    assert report.status == (404 if name == "report" else 200)


def write(folder, events, now):
    folder.mkdir(exist_ok=True)
    records = [
        {"time": (now - timedelta(seconds=ago)).isoformat(timespec="milliseconds"), "seconds": 0.0} | event
        for ago, event in events
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def step(name, done, total, took):
    return {"kind": "step", "name": name, "done": done, "total": total, "took": took}


def test_a_job_is_followed_by_its_own_words(tmp_path):
    """The pace is that since the step was first heard of, which goes on where it was interrupted."""
    now = datetime.now(UTC)
    events = [
        (300, step("fit", 16, 16, 100.0)),
        (200, {"kind": "note", "text": "noise"}),
        (120, step("scores", 10, 50, 0.0)),
        (20, step("scores", 20, 50, 100.0)),
    ]
    write(tmp_path, events, now)
    progress = progress_of(tmp_path)

    assert progress.working
    assert [(one.name, one.done, one.finished, one.left) for one in progress.steps] == [
        ("fit", 16, True, ""),
        ("scores", 20, False, "5 min 0 s"),
    ]
    assert progress.steps[1].percent == 40
    assert progress.notes == ("noise",)
    assert 19 < progress.silent < 60


@pytest.mark.parametrize(
    ("ago", "done", "working"), [(1, 50, True), (60, 50, False), (60, 20, True), (3600, 20, False), (3600, 50, False)]
)
def test_when_a_job_is_taken_to_be_at_work(tmp_path, ago, done, working):
    """Between steps seconds of silence are long; in the middle of one, a unit of a large model may take minutes."""
    write(tmp_path, [(ago + 5, step("scores", 1, 50, 1.0)), (ago, step("scores", done, 50, 5.0))], datetime.now(UTC))

    assert progress_of(tmp_path).working is working


def test_lines_that_are_torn_or_strange_are_passed_over(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(
        b'{"kind": "step", "name": "a", "done": 1, "total": 0, "took": 0}\n'
        b'\xff\xfe\n[1]\n{"kind": 3}\n{"kind": "step"}\n'
        b'{"kind": "step", "name": "b", "done": "x", "total": 1, "took": 1}\n'
        b'{"kind": "note", "text": ["<b>"]}\n{"kind": "step", "na'
    )
    progress = progress_of(tmp_path)

    assert [one.name for one in progress.steps] == ["a"]
    assert progress.notes == ("['<b>']",)
    assert progress_of(tmp_path / "nowhere") is None


def test_only_the_end_of_a_long_log_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("whence.jobs.serve.progress.TAIL", 1000)
    log = Log.silent()
    log.keep(tmp_path)
    for number in range(1, 500):
        log.note(f"note {number}")

    assert progress_of(tmp_path).notes[-1] == "note 499"


def test_the_page_of_a_run_follows_the_log_while_it_is_written(folder, tmp_path):
    from tests.serve.conftest import Served

    run = tmp_path / "runs" / "young"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"kind": "run", "schema": 1, "settings": {}, "made_from": {}}))
    served, log = Served(tmp_path / "runs"), Log.silent()
    quiet = served.of("", "young").text
    log.keep(run)
    log.step("fit: <moments>", 1, 16)
    first = served.of("progress", "young").text
    time.sleep(1.1)  # a step is written once a second
    log.step("fit: <moments>", 9, 16)
    log.note("</section><script>alert(1)</script>")
    second = served.of("progress", "young").text
    whole, listed = served.of("", "young").text, served.ask().text
    served.end()

    assert "A job is at work" not in quiet
    assert "1 of 16" in first
    assert "9 of 16" in second
    assert "fit: &lt;moments&gt;" in second
    assert "<script>alert" not in second
    assert "data-live" in second
    assert "its data are not prepared yet" in whole
    assert '<noscript><meta http-equiv="refresh"' in whole
    assert "at work" in listed
