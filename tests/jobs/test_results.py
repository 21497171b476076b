"""Every view of a result tells the same numbers, and documents are ranked by the numbers that are shown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from whence.cli import main
from whence.jobs import report as report_job
from whence.jobs.explain import full_rank_query, in_float32, rescore
from whence.jobs.opened import by_document
from whence.jobs.rescored import rescored
from whence.jobs.run import run
from whence.jobs.score import Scores
from whence.jobs.settings import RunSettings


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), top=6, batch_tokens=64
    )


@pytest.fixture(scope="module")
def cut(settings, tmp_path_factory):
    return run(tmp_path_factory.mktemp("cut") / "r", replace(settings, rank=1))


@pytest.fixture
def data(cut, monkeypatch):
    """What the page is rendered from."""
    kept = []
    monkeypatch.setattr(report_job, "render", lambda data: kept.append(data) or "")
    monkeypatch.setattr(report_job, "write_text", lambda path, text: None)
    report_job.write_report(cut)
    return kept[0]


def full_rank(session, question):
    full = full_rank_query(session.curvature, session.model, session.parts_of(question), session.task)
    documents = range(session.store.documents)
    exact = rescore(session.curvature, session.model, full, session.store, documents, session.task)
    return np.array([exact[document] for document in documents])


@pytest.mark.parametrize("question", [0, 2])
def test_every_view_of_a_rank_one_run_tells_the_full_rank_score(cut, data, question):
    exact = full_rank(cut.session, question)
    first = by_document(cut.session.scores.total.numpy(), cut.session.store)[question]
    assert not np.allclose(exact, first, rtol=1e-2)  # else this test shows nothing

    best = int(exact.argmax())
    top, page, table = cut.top(6, question), data.questions[question], cut.to_pandas()
    machine = cut.to_dict()["questions"][question]
    table = table[table.question == question].set_index("document")

    assert np.allclose([row["raw"] for row in top], np.sort(exact)[::-1][:6], rtol=1e-4)
    assert top[0]["document"] == page.raises[0].document == machine["top"][0]["document"] == best
    assert top[0]["raw"] == page.raises[0].score_raw == machine["top"][0]["raw"] == table.raw[best]
    assert top[0]["per_copy"] == page.raises[0].score_per_copy == table.per_copy[best]
    worst = cut.bottom(1, question)[0]
    assert worst["document"] == page.lowers[0].document == machine["lowest"][0]["document"] == int(exact.argmin())
    assert worst["raw"] == page.lowers[0].score_raw
    assert table.rescored.all()
    assert f"{top[0]['per_copy']:+.4g}  train.jsonl, line {top[0]['row'] + 1}" in cut.text()


def test_score_prints_what_the_run_found(cut, capsys):
    def printed(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["score", str(cut.folder), *arguments])
        assert not ended.value.code
        return capsys.readouterr().out

    told = json.loads(printed("--json"))["questions"][0]
    plain = printed()

    assert [row["raw"] for row in told["top"]] == [row["raw"] for row in cut.top(6)]
    assert all(f"{row['per_copy']:+.4g}" in plain for row in cut.top(6) if row["raw"] > 0)


def test_it_is_kept_and_told_once(cut, settings):
    kept = {path: path.stat().st_mtime_ns for path in (cut.folder / "scores").rglob("*-rescored-*/*.safetensors")}
    again = run(cut.folder, replace(settings, rank=1), stop_after="score")
    events = (cut.folder / "events.jsonl").read_text()

    assert len(kept) == 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert np.array_equal(again.documents, cut.documents)
    assert events.count("documents at full rank in float32") == 1


def test_what_is_shown_is_ranked_by_what_is_shown_where_the_first_pass_misleads(cut, monkeypatch, tmp_path):
    """With few candidates a poor first pass puts others above them; they are scored again until none is."""
    monkeypatch.setattr("whence.jobs.rescored.RESCORED", 2)
    session = replace(cut).session
    exact = full_rank(session, 0)
    misleading = np.stack([-exact, exact[::-1], np.zeros_like(exact)])
    monkeypatch.setattr(session, "folder", tmp_path)
    monkeypatch.setattr(session, "settings", replace(session.settings, top=2))

    found = rescored(session, misleading)

    for row in range(3):
        order = np.argsort(found.raw[row])
        assert found.again[row, order[[0, 1, -1, -2]]].all()
        known = full_rank(session, row)[found.again[row]]
        assert np.allclose(found.raw[row][found.again[row]], known, rtol=1e-4, atol=1e-4 * np.abs(known).max())
        assert np.array_equal(found.raw[row][~found.again[row]], misleading[row][~found.again[row]])


def test_float64_is_told_as_float64_and_full_rank_not_at_all(settings, tmp_path):
    wide = run(tmp_path / "wide", replace(settings, rank=1, dtype="float64"), stop_after="score")
    assert "at full rank in float64" in (wide.folder / "events.jsonl").read_text()
    whole = run(tmp_path / "whole", replace(settings, dtype="float64", rank="full"), stop_after="score")
    assert not whole.rescored.any()
    assert not list(whole.folder.rglob("*-rescored-*"))
    scale = np.abs(whole.documents).max()
    assert np.allclose(wide.documents, whole.documents, atol=1e-5 * scale)


def test_half_precision_scores_are_shown_in_float32(settings, tmp_path):
    half = run(tmp_path / "half", replace(settings, dtype="bfloat16"), stop_after="score")
    with in_float32(half.session.model):
        exact = full_rank(half.session, 0)
    assert np.allclose(half.documents[0], exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())


def test_a_model_comes_back_from_float32_bit_for_bit():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3)).bfloat16()
    model[1].float()  # kept wide, as checkpoints keep norms
    model.register_buffer("frequencies", torch.rand(4, dtype=torch.float32))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with in_float32(model):
        assert {value.dtype for value in model.state_dict().values()} == {torch.float32}

    after = model.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())


def test_top_is_honoured_at_both_ends_and_a_contrast_is_named(cut):
    lines = cut.text().splitlines()
    heads = [number for number, line in enumerate(lines) if "→" in line]
    contrast = lines[heads[2] : -1]

    assert "paris rather than madrid" in contrast[0]
    raised, lowered = contrast.index("  raise it:"), contrast.index("  lower it:")
    assert lowered - raised - 1 == min(6, int((cut.documents[2] > 0).sum()))
    assert len(contrast) - lowered - 1 == min(6, int((cut.documents[2] < 0).sum()))
    assert len(cut.to_dict()["questions"][0]["lowest"]) == 6
    first = cut.top(1, 2)[0]
    assert f"train.jsonl, line {first['row'] + 1} " in contrast[raised + 1]
    begins = contrast[raised + 1].split(f"line {first['row'] + 1} ")[1].strip()
    assert first["text"].startswith(begins.removesuffix("…"))
    assert len(begins) > 20
    assert max(map(len, contrast)) <= 100, "of the longest document the beginning"


def test_a_line_is_cut_by_the_columns_that_it_takes():
    """A Chinese character takes two."""
    from rich.cells import cell_len

    from whence.jobs.summary import WIDE, _lines

    rows = [
        {"source": "a/b.jsonl", "row": n, "raw": 0.5, "text": text} for n, text in enumerate(["谢" * 80, "a\nb", ""])
    ]
    chinese, short, empty = _lines(rows, "raw", "+")
    assert WIDE - 2 <= cell_len(chinese) <= WIDE
    assert chinese.endswith("谢…")
    assert short.endswith("line 2  a b")
    assert empty.endswith("line 3")


def test_self_influence_lists_as_many_as_asked_for(settings, cut):
    lines = run(cut.folder, replace(settings, rank=1, top=12), stop_after="self").text().splitlines()
    assert len(lines) == 1 + 12
    assert all("train.jsonl, line " in line for line in lines[1:])


def test_scores_become_tables():
    by_layer = torch.arange(12.0).reshape(2, 2, 3)
    scores = Scores(by_layer.sum(0), by_layer, ("a", "b"))
    table = scores.to_pandas()

    assert list(table.columns) == ["query", "sequence", "raw", "a", "b"]
    assert np.allclose(table.a + table.b, table.raw)
    row = table[(table["query"] == 1) & (table.sequence == 2)].iloc[0]
    assert (row.raw, row.a, row.b) == (16, 5, 11)
    assert scores.to_arrow().num_rows == 6
    assert repr(scores) == "Scores(2 queries, 3 sequences, by layer (2))"
    assert Scores(torch.zeros(1, 2)).to_arrow().column_names == ["query", "sequence", "raw"]
