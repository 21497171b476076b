"""A command line that cannot be understood ends with code 2, the mistake, and where to look; nothing is begun."""

import subprocess
import sys

import pytest

from whence import __version__
from whence.cli import flags


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scor", 'Unknown command "scor". Did you mean "score"?'),
        ("run", "RUN requires an argument"),
        ("run r --dampng 1", "Unknown option: --dampng. Did you mean --damping?"),
        ("run r --top many", 'Invalid value for --top: unable to convert "many" into int'),
        ("run r --curvature hessian", '"identity", "diagonal", "kfac", "ekfac"'),
        ("run r --damping", "--damping requires an argument"),
        ("score r --by lyer", 'Did you mean "layer"?'),
        ("fit r --units 40", '"40" is not a range of units; write A:B'),
        ("fit r --units 4:4", '"4:4" is not a range of units'),
        ("run a b", "b"),
    ],
)
def test_a_mistake_in_the_command_line(whence, tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    done = whence(*line.split())

    assert done.code == 2
    assert message in done.err
    assert "hint: see `whence" in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def asked(monkeypatch):
    """What a command would have asked its job to do."""
    import whence.jobs.run as jobs

    calls = []

    class Result:
        def text(self):
            return "text"

        def to_dict(self):
            return {"name": "Zoë"}

    def run(folder, settings, **more):
        calls.append((folder, settings, {name: value for name, value in more.items() if name != "log"}))
        return Result()

    monkeypatch.setattr(jobs, "run", run)
    return calls


def test_flags_become_settings(whence, asked):
    done = whence(
        *("run", "runs/a", "--model", "m", "--train", "t", "--layers", "*.mlp.*", "--layers", "h.0"),
        *("--damping", "abs:1e-3", "--limit", "5", "--ask", "-x", "--answer=-1"),
    )
    folder, settings, more = asked[0]

    assert (done.code, done.out) == (0, "text\n")
    assert str(folder) == "runs/a"
    assert settings.layers == ("*.mlp.*", "h.0")
    assert (settings.damping, settings.limit, settings.ask, settings.answer) == ("abs:1e-3", 5, "-x", "-1")
    assert more == {}


def test_hyphen_and_underscore_are_one(whence, asked):
    for flag in ("--rather-than", "--rather_than"):
        whence("run", "r", "--model", "m", "--train", "t", "--ask", "a", "--answer", "b", flag, "c")

    assert [settings.rather_than for _, settings, _ in asked] == ["c", "c"]


@pytest.mark.parametrize(
    ("command", "stage"), [("prepare", "prepare"), ("fit", "fit"), ("score", "score"), ("self", "self")]
)
def test_a_stage_alone_stops_there_and_takes_units(whence, asked, tmp_path, command, stage):
    (tmp_path / "settings.toml").write_text('model = "m"\ntrain = "t"\n')
    units = [] if command == "prepare" else ["--units", "3:7"]

    assert whence(command, tmp_path, *units).code == 0
    assert asked[0][2]["stop_after"] == stage
    assert asked[0][2].get("units") == (range(3, 7) if units else None)


def test_json_is_one_object_on_stdout(whence, asked):
    assert whence("run", "r", "--model", "m", "--train", "t", "--json").out == '{"name": "Zoë"}\n'


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_out_of_memory_says_what_to_lower(whence, monkeypatch, error):
    import whence.jobs.run as jobs

    def run(*arguments, **more):
        raise error

    monkeypatch.setattr(jobs, "run", run)
    done = whence("run", "r", "--model", "m", "--train", "t")

    assert done.code == 1
    assert done.err.startswith("out of memory; what was finished is kept\nhint: lower batch_tokens")


def test_python_has_it_as_a_module():
    done = subprocess.run([sys.executable, "-m", "whence", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"whence {__version__}"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    import whence.jobs.run as jobs
    from whence.cli import main

    def run(*arguments, **more):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(jobs, "run", run)
    with pytest.raises(RuntimeError, match="mat1"):
        main(["run", "r", "--model", "m", "--train", "t"])


def test_only_the_main_process_prints(whence, asked, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert whence("run", "r", "--model", "m", "--train", "t").out == ""


def test_a_run_goes_on_with_the_settings_it_was_made_with(tmp_path):
    (tmp_path / "settings.toml").write_text('model = "m"\ntrain = "t"\ndamping = 0.5\n')

    folder, settings = flags.gather(tmp_path, None, model=None, limit=3)

    assert (folder, settings.damping, settings.limit) == (tmp_path, 0.5, 3)


def test_a_settings_file_in_place_of_a_run_runs_beside_itself(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text('model = "m"\ntrain = "t"\n')

    assert flags.gather(file, None, model=None)[0] == tmp_path / "toy"


def test_a_new_question_replaces_the_old_one_whole(tmp_path):
    (tmp_path / "settings.toml").write_text('model = "m"\ntrain = "t"\nask = "a"\nanswer = "b"\nrather_than = "c"\n')

    _, settings = flags.gather(tmp_path, None, ask="x", answer="y")
    assert (settings.ask, settings.answer, settings.rather_than) == ("x", "y", None)

    _, settings = flags.gather(tmp_path, None, query="q.jsonl")
    assert (settings.query, settings.ask) == ("q.jsonl", None)
