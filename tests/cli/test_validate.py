"""``whence validate`` hands its flags to the job and shows what comes back."""

import pytest


@pytest.fixture
def asked(monkeypatch):
    import whence.jobs.validation.job as jobs

    calls = []

    class Result:
        def text(self):
            return "text"

        def to_dict(self):
            return {"check": "pbrf"}

    def validate(folder, settings, check, **more):
        calls.append((str(folder), settings, check, {name: value for name, value in more.items() if name != "log"}))
        return Result()

    monkeypatch.setattr(jobs, "validate", validate)
    return calls


def test_flags_reach_the_job(whence, asked, tmp_path):
    (tmp_path / "settings.toml").write_text('model = "m"\ntrain = "t"\nquery = "q.jsonl"\n')

    done = whence("validate", "lds", tmp_path, "--recipe", "r.toml", "--count", "9", "--damping", "0.5", "--json")

    folder, settings, check, more = asked[0]
    assert (done.code, done.out) == (0, '{"check": "pbrf"}\n')
    assert (folder, check, settings.damping) == (str(tmp_path), "lds", 0.5)
    assert (str(more["recipe"]), more["count"]) == ("r.toml", 9)


def test_a_check_that_is_not_there_is_a_mistake_in_the_command_line(whence, tmp_path):
    done = whence("validate", "truth", tmp_path)

    assert done.code == 2
    assert '"pbrf"' in done.err


def test_no_run_to_validate(whence, tmp_path):
    done = whence("validate", "pbrf", tmp_path / "none")

    assert done.code == 1
    assert "not a run" in done.err
