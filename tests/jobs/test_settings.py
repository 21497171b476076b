"""A settings file means what it says, says all of it, and is refused rather than guessed at."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import InvalidSetting
from whence.jobs.settings import RunSettings, describe

text = st.text(st.characters(codec="utf-8"), min_size=1)


def settings(**values):
    return RunSettings(**{"model": "m", "train": "t", **values})


@given(text, text, st.lists(text, min_size=1), st.floats(1e-6, 1e6), st.none() | st.integers(1, 10**9))
def test_what_is_written_is_what_is_read(tmp_path_factory, model, prompt, layers, damping, limit):
    made = settings(model=model, ask=prompt, answer=prompt, layers=tuple(layers), damping=damping, limit=limit)
    path = tmp_path_factory.mktemp("toml") / "settings.toml"

    path.write_text(made.to_toml(), encoding="utf-8", newline="")

    assert RunSettings.from_toml(path) == made


def test_every_setting_is_documented_and_written():
    written = settings().to_toml()

    for field in fields(RunSettings):
        assert describe(field.name).endswith("."), field.name
        assert f"# {describe(field.name)}" in written


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('model = "m"\ntrain = "t"\ndampng = 0.1\n')

    with pytest.raises(InvalidSetting) as caught:
        RunSettings.from_toml(path)

    assert 'unknown setting "dampng"' in str(caught.value)
    assert str(path) in str(caught.value)
    assert 'did you mean "damping"?' in str(caught.value)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('model = "m"\ntrain = "t"\ndamping = 0.5\nsamples = 4\nlayers = "mlp"\n')

    made = RunSettings.from_toml(path, samples=2)

    assert (made.damping, made.samples, made.layers, made.curvature) == (0.5, 2, ("mlp",), "ekfac")


def test_a_file_may_say_half_and_the_flags_the_rest(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("damping = 0.5\n")

    assert RunSettings.from_toml(path, model="m", train="t").damping == 0.5
    with pytest.raises(InvalidSetting, match="does not say which train"):
        RunSettings.from_toml(path, model="m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"damping": 0}, "damping must be positive, not 0"),
        ({"damping": -0.1}, "damping must be positive"),
        ({"damping": float("nan")}, "damping must be positive"),
        ({"damping": float("inf")}, "damping must be positive"),
        ({"damping": "abs:0"}, "damping must be positive"),
        ({"damping": "much"}, "damping must be a number or abs:NUMBER"),
        ({"damping": True}, "damping must be a number or text, not True"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": "half"}, 'rank must be a whole number or "auto" or "full"'),
        ({"samples": 0}, "samples must be at least 1"),
        ({"samples": 1.5}, "samples must be a whole number"),
        ({"top": 0}, "top must be at least 1"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"context": 1}, "context must be at least 2"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"layers": ()}, "layers must name at least one"),
        ({"by": ("document",)}, 'by must be a list of "layer" or "token"'),
        ({"curvature": "hessian"}, "\"ekfac\", not 'hessian'"),
        ({"ask": "Who?"}, "ask is given without answer"),
        ({"answer": "Ada"}, "answer is given without ask"),
        ({"ask": "Who?", "answer": ""}, "answer is empty"),
        ({"ask": "Who?", "answer": "Ada", "query": "q.jsonl"}, "both given"),
        ({"rather_than": "Bob"}, "rather_than is given without"),
        ({"filter": "tf-idf:10"}, 'no filter is called "tf-idf"'),
        ({"filter": ""}, 'no filter is called ""'),
        ({"filter": "bm25:0"}, "filter = bm25:0 must say how many documents to keep, at least 1"),
        ({"filter": "bm25:-5"}, "at least 1"),
        ({"filter": "bm25:"}, "at least 1"),
        ({"filter": "tfidf:1e4"}, "at least 1"),
        ({"filter": 10}, "filter must be text, not 10"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(values, message):
    with pytest.raises(InvalidSetting) as caught:
        settings(**values)

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("given", "near"), [("tf-idf", "tfidf"), ("BM25:5", "bm25"), ("bm52", "bm25"), ("nome", "none")]
)
def test_an_unknown_filter_is_refused_with_the_nearest(given, near):
    with pytest.raises(InvalidSetting) as caught:
        settings(filter=given)

    assert caught.value.hint == f'did you mean "{near}"?'


@pytest.mark.parametrize("content", [b"model = ", b"\xff\xfe", b"model = 'a'\nmodel = 'b'"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)

    with pytest.raises(InvalidSetting, match=r"settings\.toml"):
        RunSettings.from_toml(path)


def test_a_bad_value_names_the_file_that_has_it_and_only_that(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('model = "m"\ntrain = "t"\ndamping = 0\n')

    with pytest.raises(InvalidSetting, match=r"settings\.toml: damping must be positive"):
        RunSettings.from_toml(path, samples=3)
    with pytest.raises(InvalidSetting, match="^damping must be positive, not -1"):
        RunSettings.from_toml(path, damping=-1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidSetting, match="no settings file at"):
        RunSettings.from_toml(tmp_path / "none.toml")
