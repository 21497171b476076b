"""A finished run in a notebook: read from its folder alone, printed without reading, and safe to show."""

from __future__ import annotations

import json
import os
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

import whence as wh
from whence.errors import ArtifactError, InvalidSetting, ModelError
from whence.evaluate.tail import power_law
from whence.jobs.opened import View
from whence.jobs.opened.tail import TailView
from whence.report.shape import Tail

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def home(toy, tmp_path_factory):
    """A run made in a folder of its own, with by-layer scores and one hostile row, whose model is then taken away."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(toy / "model", folder / "model")
    rows = [json.loads(line) for line in (toy / "train.jsonl").read_text().splitlines()]
    rows[5] |= {"note": HOSTILE, "nested": {"a": [1, 2]}}
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = wh.run(
        folder / "r",
        model=str(folder / "model"),
        train=str(folder / "train.jsonl"),
        query=[wh.ask("the capital of france is", " paris"), wh.ask(HOSTILE, " mat", rather_than=" dog", id="q2")],
        by="layer",
        top=4,
        batch_tokens=64,
    )
    shown = made.top(1)[0]["document"]
    asked = made.document(
        next(
            d
            for d in range(24)
            if d not in {row["document"] for q in (0, 1) for row in [*made.top(4, q), *made.bottom(4, q)]}
        )
    )
    computed = asked.tokens()  # not in the report: the model is loaded
    (folder / "model").rename(folder / "gone")
    (folder / "train.jsonl").unlink()
    return folder / "r", shown, asked.number, computed


@pytest.fixture(scope="module")
def opened(home):
    return wh.open(home[0])


class Tags(HTMLParser):
    """What a browser would make of it: tags, and attributes that act."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.acting, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.acting += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]

    def handle_data(self, data):
        self.text += data


def test_a_run_is_opened_without_its_model_and_data(opened, home):
    assert opened.top(1)[0]["document"] == home[1]
    assert opened.numpy().shape == (2, 24)
    assert np.array_equal(opened.raw(1), opened.documents[1])
    table = opened.to_pandas()
    assert np.allclose(table.raw.to_numpy().reshape(2, 24), opened.documents)
    assert set(table.source) == {str(home[0].parent / "train.jsonl")}
    assert opened.text().splitlines()[-1] == f"report: {opened.report}"


def test_the_newest_questions_are_the_ones_opened(home, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(home[0], folder)
    old = next((folder / "answers").iterdir())
    newer = shutil.copytree(old, folder / "answers" / "newer") / "answers.json"
    newer.write_text(newer.read_text().replace('"written": "2', '"written": "3').replace(" paris", " madrid"))
    assert wh.open(folder).questions[0].completion == " madrid"


def test_printing_reads_nothing(opened, home, monkeypatch):
    views = [opened, opened.top(3), opened.document(home[1]), opened.groups("group"), opened.layers(), opened.tail()]
    views += [opened.document(home[1]).tokens(), opened.document(home[1]).layers(), wh.open(home[0])]

    def refuse(*_args, **_kwargs):
        raise AssertionError("printing reads")

    for place in ("builtins.open", "io.open", "numpy.memmap", "safetensors.safe_open", "pyarrow.parquet.read_table"):
        monkeypatch.setattr(place, refuse)
    for place in ("artifacts.tensors.safe_open", "data.table.Table.row", "data.shards.Shards.__getitem__"):
        monkeypatch.setattr(f"whence.{place}", refuse)
    monkeypatch.setattr(os, "open", refuse)
    for view in views:
        assert len(repr(view)) > 5
        assert len(view._repr_html_()) > 20


def test_what_a_notebook_shows_is_inert(opened):
    views = [opened, opened.top(24), opened.bottom(24, 1), opened.document(5), opened.groups("note", 1)]
    for view in views:
        page = Tags(view._repr_html_())
        assert not page.acting
        assert not {"script", "img", "iframe", "link", "style", "object", "form"} & set(page.tags)
    assert HOSTILE in Tags(opened.document(5)._repr_html_()).text
    assert HOSTILE in Tags(opened.groups("note", 1)._repr_html_()).text


def test_groups_add_up_to_the_whole(opened):
    raw = opened.raw() / opened.train_size
    for column in ("group", "source", "hash", "nested"):
        groups = opened.groups(column)
        assert sum(row["documents"] for row in groups) == 24
        assert np.isclose(groups.numpy().sum(), raw.sum())
        assert np.isclose(sum(row["share"] for row in groups), 1)
    long = next(row for row in opened.groups("group") if row["group"] == "long")
    assert np.isclose(long["per_copy"], raw[23])
    with pytest.raises(InvalidSetting, match='no column "grop"') as refused:
        opened.groups("grop")
    assert refused.value.hint == 'did you mean "group"?'


def test_layers_add_up_to_the_whole(opened):
    layers = opened.layers()
    total = sum(row["raises"] + row["lowers"] for row in layers)
    assert np.isclose(total, opened.raw().sum() / opened.train_size, rtol=1e-4)
    assert {row["block"] for row in layers} == {0, 1}


def test_the_tail_is_of_what_raises_and_has_a_law_where_there_is_enough(opened):
    raw = opened.raw() / opened.train_size
    tail = opened.tail()
    assert np.allclose(tail.numpy(), np.sort(raw[raw > 0])[::-1], rtol=1e-4)
    assert f"{(raw > 0).sum()} of 24 documents raise it" in repr(tail)
    assert tail.law is None or tail.law.interval[0] < tail.law.exponent < tail.law.interval[1]

    values = 1 + np.random.default_rng(0).pareto(1.5, 3000)
    view = TailView("tail", Tail.of(values), power_law(values))
    assert f"[{view.law.interval[0]:.2f}, {view.law.interval[1]:.2f}]" in repr(view)
    page = Tags(view._repr_html_())
    assert not page.acting
    assert page.tags.count("circle") == len(view)
    assert page.tags.count("polyline") == 1


def test_layers_that_were_not_kept_are_those_of_the_report_or_refused_with_how_to_keep_them(home, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(home[0], folder)
    path = next((folder / "answers").glob("*/answers.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"by": []}))
    shown = wh.open(folder).layers()
    whole = wh.open(home[0]).layers()
    kept = pq.read_table(path.parent / "shown-00000.parquet")
    assert f"of the {len(kept)} documents that the report shows" in shown.title
    assert [row["layer"] for row in shown] == [row["layer"] for row in whole]
    raw, n = kept["raw"].to_numpy(), wh.open(folder).train_size
    assert np.isclose(sum(row["raises"] + row["lowers"] for row in shown), raw.sum() / n, rtol=1e-3, atol=1e-6)
    for one in path.parent.glob("shown-*.parquet"):
        one.unlink()
    with pytest.raises(ArtifactError, match="did not keep its scores by layer") as refused:
        wh.open(folder).layers()
    assert 'by="layer"' in refused.value.hint


def test_a_document_s_tokens_and_layers_add_up_to_its_score(opened, home):
    document = opened.document(home[1])
    scale = np.abs(document.tokens().numpy()).sum()
    for question in (0, 1):
        tokens = document.tokens(question)
        assert [row["token"] for row in tokens] == list(range(document.row["tokens"]))
        for parts in (tokens.numpy(), [row["predicted"] for row in tokens], document.layers(question).numpy()):
            assert np.isclose(np.sum(parts), document.score(question), atol=1e-4 * scale)
    assert "".join(row["text"] for row in tokens).removeprefix("<s>") == document.text.replace(" ", "")


def test_what_the_report_does_not_show_needs_the_model(opened, home):
    """It was computed while the model was there; now the refusal says what is missing."""
    _, _, unseen, computed = home
    assert np.isclose(computed.numpy().sum(), opened.document(unseen).score(), rtol=1e-3, atol=1e-6)
    with pytest.raises(ModelError, match="no model folder"):
        opened.document(unseen).tokens()


def test_views_become_tables(opened):
    top = opened.top(24)
    table = top.to_pandas()
    assert list(table.document) == [row["document"] for row in top]
    assert np.allclose(table.per_copy, top.numpy())
    assert table["metadata.note"].notna().sum() == 1
    assert json.loads(table["metadata.nested"].dropna().iloc[0]) == {"a": [1, 2]}
    assert isinstance(top[:2], View)
    assert len(top[:2]) == 2


def test_a_view_prints_as_lines(opened):
    lines = repr(opened.top(3)).splitlines()
    assert "“paris” after “the capital of france is”" in lines[0]
    assert len(lines) == 5
    assert "train.jsonl, line" in lines[2]


def test_show_prints_both_ends(opened, capsys):
    opened.show()
    out = capsys.readouterr().out
    assert out == opened.text() + "\n"
    assert "raise it:" in out


def test_a_question_or_document_that_is_not_there_is_refused(opened):
    with pytest.raises(InvalidSetting, match="no question 2"):
        opened.top(3, question=2)
    with pytest.raises(InvalidSetting, match="no document 24"):
        opened.document(24)


def test_a_folder_that_is_no_run_is_refused(tmp_path, home):
    with pytest.raises(ArtifactError, match="is not a run"):
        wh.open(tmp_path)
    shutil.copy(home[0] / "settings.toml", tmp_path)
    with pytest.raises(ArtifactError, match="has no scores yet"):
        wh.open(tmp_path)


def test_a_question_is_a_number_and_an_id_is_told_its_own(opened):
    with pytest.raises(InvalidSetting, match="no question 'q2'") as refused:
        opened.top(1, "q2")
    assert refused.value.hint == "questions are numbered from 0 to 1, and 'q2' is 1"
