"""Each error a person can make says what, which and what next, with code 1 and no traceback; real jobs, tiny model."""

import errno
import json
import shutil

import pytest


def refused(done, *words):
    """Whether a command ended as it should for a `WhenceError` that says these words."""
    assert done.code == 1, done
    assert done.out == ""
    assert "Traceback" not in done.err
    for word in words:
        assert str(word) in done.err, f"{word!r} not in:\n{done.err}"
    return done


def test_a_run_that_works(whence, basics, tmp_path):
    done = whence("run", tmp_path / "r", *basics(), "--json")

    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["report"] == str(tmp_path / "r" / "report.html")
    assert (tmp_path / "r" / "report.html").read_text(encoding="utf-8").startswith("<!")
    assert "tracked" in done.err


def test_model_folder_missing(whence, basics, tmp_path):
    refused(whence("run", tmp_path / "r", *basics(model=tmp_path / "none")), tmp_path / "none", "hint:")
    assert not (tmp_path / "r").exists()


def test_model_not_said(whence, tmp_path):
    refused(whence("run", tmp_path / "r"), "which model to use", "--model")


def test_tokenizer_missing(whence, basics, checkpoint, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(checkpoint, bare, ignore=shutil.ignore_patterns("tokenizer*", "special*"))

    refused(whence("run", tmp_path / "r", *basics(model=bare)), bare, "tokenizer", "hint:")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_data_empty(whence, basics, tmp_path, content):
    empty = tmp_path / "empty.jsonl"
    empty.write_text(content)

    refused(whence("run", tmp_path / "r", *basics(train=empty)), empty)


def test_data_missing(whence, basics, tmp_path):
    refused(whence("run", tmp_path / "r", *basics(train=tmp_path / "none.jsonl")), "none.jsonl")


def test_a_line_that_is_no_json(whence, basics, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"text": \n')

    refused(whence("run", tmp_path / "r", *basics(train=bad)), bad, "line 2", "JSON")


def test_a_line_without_the_field(whence, basics, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"txt": "not so fine"}\n')

    refused(whence("run", tmp_path / "r", *basics(train=bad)), bad, "line 2", "text")


def test_an_empty_completion(whence, basics, tmp_path):
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"prompt": "the cat", "completion": " sat"}\n{"prompt": "the cat", "completion": ""}\n')

    refused(
        whence("run", tmp_path / "r", *basics(ask=None, answer=None, query=questions)),
        questions,
        "line 2",
        "completion",
    )
    refused(whence("run", tmp_path / "r", *basics(answer="")), "answer", "empty")


def test_a_glob_that_matches_nothing(whence, basics, tmp_path):
    done = whence("run", tmp_path / "r", *basics(layers="model.layers.*.mlp.up_prj"))

    refused(done, "up_prj", "up_proj")


def test_a_glob_mended_in_the_same_folder(whence, basics, tmp_path):
    refused(
        whence("fit", tmp_path / "r", *basics(ask=None, answer=None, layers="model.layers.*.mlp.up_prj")), "up_proj"
    )

    mended = whence("fit", tmp_path / "r", *basics(ask=None, answer=None, layers="model.layers.*.mlp.up_proj"))
    assert mended.code == 0, mended.err


def test_a_line_mended_in_the_same_folder(whence, basics, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "fine"}\n{"text": \n')
    refused(whence("prepare", tmp_path / "r", *basics(ask=None, answer=None, train=text)), "line 2")

    text.write_text('{"text": "fine"}\n{"text": "this too"}\n')
    mended = whence("prepare", tmp_path / "r", *basics(ask=None, answer=None, train=text))
    assert mended.code == 0, mended.err


def test_a_refused_command_leaves_the_run_as_it_was(whence, basics, tmp_path):
    assert whence("run", tmp_path / "r", *basics()).code == 0
    before = (tmp_path / "r" / "settings.toml").read_text()

    refused(whence("run", tmp_path / "r", "--layers", "mlp"), "layers =", "made with:", "used with:")
    refused(whence("score", tmp_path / "r", "--units", "0:99"), "there are 16 units, 0:16")

    assert (tmp_path / "r" / "settings.toml").read_text() == before
    done = whence("score", tmp_path / "r", "--ask", "two red", "--answer", " birds")
    assert done.code == 0, done.err


def test_damping_not_positive(whence, basics, tmp_path):
    for value in ("0", "-0.1", "abs:0"):
        refused(whence("run", tmp_path / "r", *basics(damping=value)), "damping must be positive")
    assert not (tmp_path / "r").exists()


def test_an_unknown_key_in_the_settings(whence, basics, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("dampng = 0.2\n")

    refused(whence("run", tmp_path / "r", *basics(settings=file)), file, '"dampng"', '"damping"')


def test_a_folder_of_another_run(whence, basics, checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    assert whence("prepare", tmp_path / "r", *basics(ask=None, answer=None)).code == 0
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})

    refused(whence("run", tmp_path / "r", *basics(model=other)), tmp_path / "r", "made with:", "used with:")


def test_a_folder_with_other_data(whence, basics, tmp_path):
    assert whence("prepare", tmp_path / "r", *basics(ask=None, answer=None)).code == 0

    refused(whence("run", tmp_path / "r", *basics(limit="3")), "made with:", "used with:")


def test_a_folder_of_something_else(whence, basics, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    refused(whence("run", tmp_path, *basics()), tmp_path, "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_run_to_go_on_with(whence, tmp_path):
    refused(whence("score", tmp_path / "r", "--ask", "a", "--answer", "b"), tmp_path / "r", "not a run")
    refused(whence("report", tmp_path / "r"), "not a run")


def test_no_space_left(whence, basics, tmp_path, monkeypatch):
    import whence.artifacts.atomic as atomic

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(atomic, "_flush", full)
    refused(whence("run", tmp_path / "r", *basics()), "no space left", "kept", "hint:")


def test_no_permission(installed, basics, tmp_path):
    (tmp_path / "file").write_text("")

    refused(installed("prepare", tmp_path / "file" / "r", *basics(ask=None, answer=None)), tmp_path / "file", "hint:")
