"""A model with nothing wrong passes; what was found is a table, JSON, and a file in the run it is of."""

from __future__ import annotations

import json

import pytest

from whence.errors import ArtifactError
from whence.jobs.check import read_checks
from whence.jobs.run import run
from whence.jobs.settings import RunSettings


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(model=str(toy / "model"), train=str(toy / "train.jsonl"), ask="a cat sat on", answer=" mat")


@pytest.fixture(scope="module")
def prepared(settings, tmp_path_factory):
    return run(tmp_path_factory.mktemp("run") / "r", settings, stop_after="prepare").folder


def test_a_clean_model_passes_and_its_run_keeps_what_was_found(whence, prepared):
    done = whence("check", prepared)

    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert not any("  wrong  " in line for line in lines)
    heads = [line.split("  ")[0] for line in lines if not line.startswith(" ")]
    for name in ("weights", "layers", "losses", "repeatable", "hooks", "gradients", "batches, eager", "batches, sdpa"):
        assert name in heads
    for name in ("left padding", "number type", "questions", "documents", "nothing scored", "copies", "special tokens"):
        assert name in heads
    assert lines[-1] == f"written: {prepared / 'checks' / 'check.json'}"
    assert "tracked" in next(line for line in lines if line.startswith("layers"))
    # one document of the toy is longer than its context
    assert "train.jsonl, line 24" in next(line for line in lines if line.startswith("long documents"))

    kept = read_checks(prepared)
    assert [row.name for row in kept.rows] == heads[:-1]
    assert kept.text() == done.out.rstrip("\n")
    assert not kept.wrong


def test_json_is_the_file(whence, prepared):
    found = json.loads(whence("check", prepared, "--rows", 3, "--json").out)
    assert found == json.loads((prepared / "checks" / "check.json").read_text())
    assert {key for row in found["rows"] for key in row} == {"name", "verdict", "text", "figure", "advice"}


def test_other_settings_than_the_run_s_are_checked_and_not_kept_with_it(whence, prepared):
    before = (prepared / "checks" / "check.json").read_text() if (prepared / "checks").exists() else None
    done = whence("check", prepared, "--layers", "mlp", "--rows", 2)
    assert done.code == 0, done.err
    assert "written" not in done.out
    assert before == ((prepared / "checks" / "check.json").read_text() if (prepared / "checks").exists() else None)


def test_without_a_run_nothing_is_written(whence, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = whence("check", "r", "--model", toy / "model", "--train", toy / "train.jsonl", "--rows", 2)
    assert done.code == 0, done.err
    assert list(tmp_path.iterdir()) == []
    assert "questions" not in done.out


def test_the_report_of_a_run_shows_what_was_found(whence, prepared, settings):
    whence("check", prepared, "--rows", 3)
    done = run(prepared, settings)
    page = done.report.read_text()
    for row in read_checks(prepared).rows:
        assert row.name in page
    assert "all 5,200 are finite numbers" in page


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": [{"name": "a", "verdict": "fine", "text": "b"}]}'])
def test_a_file_that_is_not_ours_is_told(tmp_path, text):
    assert read_checks(tmp_path) is None
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "check.json").write_text(text)
    with pytest.raises(ArtifactError, match="not the result of a check"):
        read_checks(tmp_path)


def test_packed_data_are_measured_as_they_are_packed(whence, toy):
    basics = ("check", "--model", toy / "model", "--train", toy / "train.jsonl", "--rows", 6)
    apart = whence(*basics, "--pack", "segments")
    assert apart.code == 0, apart.err
    (line,) = [line for line in apart.out.splitlines() if line.startswith("segments")]
    assert "in rows that sequences share, scores differ by" in line
    assert "ranks agree at 1.000" in line

    windows = whence(*basics, "--pack", "windows")
    assert windows.code == 0, windows.err
    assert "lie in several windows" in windows.out
    assert "segments" not in windows.out + whence(*basics).out


def test_a_model_that_lets_segments_see_each_other_is_told(whence, toy, monkeypatch):
    import whence.tasks.reading as reading

    options = reading._options
    monkeypatch.setattr(reading, "_options", lambda *these: options(*these) | {"position_ids": None})
    done = whence("check", "--model", toy / "model", "--train", toy / "train.jsonl", "--pack", "segments")
    assert done.code == 1
    page = json.loads(
        whence("check", "--model", toy / "model", "--train", toy / "train.jsonl", "--pack", "segments", "--json").out
    )
    (found,) = [row for row in page["rows"] if row["name"] == "segments"]
    assert found["verdict"] == "wrong"
    assert "without --pack segments" in found["advice"]
