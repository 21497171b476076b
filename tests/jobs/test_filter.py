"""A filter restricts what is scored, each question to its own documents; what it lost is estimated and told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import whence as wh
from whence.artifacts.tensors import load_tensors
from whence.data.filters import FILTERS
from whence.jobs import filter_setting, filtered
from whence.jobs.compare import compare
from whence.jobs.export import export
from whence.jobs.filter_setting import FilterSetting
from whence.jobs.filtered import document_tokens, tokens_asked
from whence.jobs.report import report_data
from whence.jobs.run import run
from whence.jobs.settings import RunSettings

KEPT = 6
DRAWN = 10


@pytest.fixture(scope="module", autouse=True)
def _few_drawn():
    """A control sample that is not all of two dozen documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filtered, "CONTROL", DRAWN)
        yield


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), top=3, batch_tokens=64
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """Everything scored."""
    return run(tmp_path_factory.mktemp("whole") / "r", settings)


@pytest.fixture(scope="module")
def fewer(settings, whole, tmp_path_factory):
    """The same with a filter, on the same fit; opened from its folder."""
    folder = tmp_path_factory.mktemp("fewer") / "r"
    shutil.copytree(whole.folder, folder)
    run(folder, settings.replace(filter=f"bm25:{KEPT}", by=("layer", "answer")))
    return wh.open(folder)


def test_each_question_is_ranked_on_its_own_first_documents_by_the_filter(fewer, whole):
    search = FILTERS["bm25"]().fit(document_tokens(whole.store))
    for question, query in enumerate(fewer.questions):
        first = search.top(tokens_asked(query, fewer.tokenizer), KEPT)
        assert set(np.flatnonzero(~np.isnan(fewer.raw(question)))) == set(first)
        assert np.allclose(fewer.raw(question)[first], whole.raw(question)[first], rtol=1e-3, atol=1e-4)
        best = sorted(first, key=lambda d: -whole.raw(question)[d])[:3]
        assert [row["document"] for row in fewer.top(3, question)] == best
    known = fewer.answers.rows(range(3), fewer.store)
    assert known.scored.sum(1).tolist() == [KEPT] * 3


def test_a_document_is_read_once_and_only_where_somebody_wants_it(fewer):
    read = np.concatenate(
        [
            load_tensors(path)["sequence"].numpy()
            for path in (fewer.folder / "scores").glob(f"{fewer.answers.scores}/part*")
        ]
    )
    found = fewer.answers.filtered(fewer.store.documents)
    wanted = {*found.kept.ravel().tolist(), *found.control.tolist()}
    assert sorted(read) == [s for d in sorted(wanted) for s in fewer.store.sequences_of(d)]
    assert len(wanted) < fewer.store.documents
    assert len(found.control) == DRAWN


def test_questions_asked_together_or_apart_are_ranked_alike(settings, whole, fewer, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(whole.folder, folder)
    alone = settings.replace(filter=f"bm25:{KEPT}", query=None)
    for number, query in enumerate(fewer.questions):
        apart = run(folder, alone, questions=[query], stop_after="score")
        assert np.array_equal(np.isnan(apart.raw()), np.isnan(fewer.raw(number)))
        assert [row["document"] for row in apart.top(KEPT)] == [row["document"] for row in fewer.top(KEPT, number)]
        one, together = apart.answers.recall[0], fewer.answers.recall[number]
        assert (one.above, one.drawn, one.recall) == (together.above, together.drawn, together.recall)


@pytest.mark.parametrize("pack", ["none", "windows", "segments"])
def test_a_filter_that_keeps_everything_changes_no_bit(settings, pack, tmp_path):
    settings = settings.replace(pack=pack, by=("layer", "token"))
    every = run(tmp_path / "r", settings, stop_after="score")
    kept = run(tmp_path / "r", settings.replace(filter="tfidf:24"), stop_after="score")
    assert np.array_equal(every.documents, kept.documents)
    for name in ("total", "by_layer"):
        assert torch.equal(getattr(every.session.scores, name), getattr(kept.session.scores, name))
    assert all(one.recall == one.low == one.high == 1 and one.exact for one in kept.answers.recall)
    assert "recall 1: nothing was left out" in kept.text()


@pytest.mark.parametrize("pack", ["windows", "segments"])
def test_packed_documents_have_the_scores_that_they_have_unfiltered(settings, pack, tmp_path):
    settings = settings.replace(pack=pack)
    every = run(tmp_path / "r", settings, stop_after="score")
    some = run(tmp_path / "r", settings.replace(filter="tfidf:5"), stop_after="score")
    scored = ~np.isnan(some.documents)
    assert scored.sum(1).tolist() == [5] * 3
    assert np.allclose(some.documents[scored], every.documents[scored], rtol=1e-3, atol=1e-3)


def test_recall_is_that_of_the_truth_where_all_that_was_left_out_was_drawn(settings, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(filtered, "CONTROL", 24)
    folder = tmp_path / "r"
    shutil.copytree(whole.folder, folder)
    found = run(folder, settings.replace(filter="tfidf:8"), stop_after="score")
    assert min(one.recall for one in found.answers.recall) < 1
    for question, one in enumerate(found.answers.recall):
        raw, kept = whole.raw(question), ~np.isnan(found.raw(question))
        least = np.sort(raw[kept])[::-1][one.k - 1]
        truth = (kept & (raw >= least)).sum() / (raw >= least).sum()
        assert one.exact
        assert one.recall == pytest.approx(truth)
        assert one.low == one.high == one.recall


def parts(folder):
    return {path.relative_to(folder).as_posix(): load_tensors(path) for path in sorted(folder.rglob("*.safetensors"))}


def same(ours, theirs):
    assert ours
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[f][k], theirs[f][k]) for f in ours for k in ours[f])


def test_two_processes_units_apart_and_a_resumed_pass_give_the_same_bits(settings, whole, tmp_path):
    settings = settings.replace(filter=f"bm25:{KEPT}")
    for name in ("one", "two", "apart"):
        shutil.copytree(whole.folder, tmp_path / name)
    done = run(tmp_path / "one", settings, stop_after="score")
    (tmp_path / "settings.toml").write_text(settings.to_toml())
    script = tmp_path / "job.py"
    script.write_text(
        "import torch; torch.set_num_threads(1)\n"
        "from whence.jobs import filtered; from whence.jobs.run import run\n"
        "from whence.jobs.settings import RunSettings\n"
        f"filtered.CONTROL = {DRAWN}\n"
        f"settings = RunSettings.from_toml({str(tmp_path / 'settings.toml')!r})\n"
        f"run({str(tmp_path / 'two')!r}, settings, stop_after='score')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ})
    assert result.returncode == 0, result.stderr[-2000:]
    units = len(done.session.scored_data.units)
    for start, stop in ((units // 2, units), (0, units // 2)):
        part = run(tmp_path / "apart", settings, stop_after="score", units=range(start, stop))
    assert part.waiting is None
    ours = parts(tmp_path / "one" / "scores" / done.session.scores_name)
    assert len(ours) == units
    for name in ("two", "apart"):
        assert same(parts(tmp_path / name / "scores" / done.session.scores_name), ours)
        assert same(parts(tmp_path / name / "filters"), parts(tmp_path / "one" / "filters"))
    lost = tmp_path / "one" / "scores" / done.session.scores_name / "part-00001.safetensors"
    lost.unlink()
    run(tmp_path / "one", settings, stop_after="score")
    assert same(parts(tmp_path / "one" / "scores" / done.session.scores_name), ours)


def test_the_fit_is_the_unfiltered_one(fewer, whole):
    assert same(parts(fewer.folder / "curvature"), parts(whole.folder / "curvature"))
    assert fewer.train_size == whole.train_size


def test_tables_have_null_where_nothing_was_scored(fewer, tmp_path):
    table = fewer.to_arrow()
    assert table["raw"].null_count == table["per_copy"].null_count == 3 * (24 - KEPT)
    written = export(fewer.folder, out=tmp_path / "all.parquet")
    found = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert written.rows == len(found) == 72
    for row in found:
        empty = [row[name] is None for name in ("raw", "per_copy", "rank", "percentile")]
        assert all(empty) or not any(empty)
    assert sorted(row["rank"] for row in found if row["question"] == found[0]["question"] and row["rank"]) == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert max(row["percentile"] for row in found if row["percentile"] is not None) == pytest.approx(100 * 5 / 6)
    ends = export(fewer.folder, out=tmp_path / "ends.jsonl", top=20)
    assert ends.rows == 3 * KEPT
    export(fewer.folder, into=tmp_path / "train.jsonl", questions=[fewer.questions[0].id])
    added = [json.loads(line)["influence"] for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert sum(value is None for value in added) == 24 - KEPT


def test_views_are_of_what_was_scored(fewer):
    raw = fewer.raw(0) / fewer.train_size
    scored = raw[~np.isnan(raw)]
    groups = fewer.groups("group")
    assert sum(row["documents"] for row in groups) == KEPT
    assert sum(row["per_copy"] for row in groups) == pytest.approx(scored.sum())
    assert fewer.tail().tail.n == KEPT
    layers = fewer.layers()
    assert sum(row["raises"] + row["lowers"] for row in layers) == pytest.approx(scored.sum(), rel=1e-3, abs=1e-6)
    assert len(fewer.top(24)) == len(fewer.bottom(24)) == KEPT
    unseen = int(np.flatnonzero(np.isnan(raw))[0])
    assert np.isnan(fewer.document(unseen).score())


def test_a_comparison_is_over_what_both_scored(fewer, whole, tmp_path):
    found = compare(whole.folder, fewer.folder)
    assert [one.documents for one in found.agreements] == [KEPT] * 3
    assert all(one.spearman == pytest.approx(1) for one in found.agreements)
    assert found.differ["filter"] == ("none", f"bm25:{KEPT}")
    assert f"over {KEPT} documents" in found.text()


def test_a_comparison_over_a_single_document_has_no_number(settings, whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "r")
    run(tmp_path / "r", settings.replace(filter="tfidf:1"), stop_after="score")
    found = compare(whole.folder, tmp_path / "r")
    assert all(one.spearman is None and one.documents == 1 for one in found.agreements)
    assert found.text()


def test_the_summary_says_what_the_filter_lost_and_that_it_favours_words(fewer):
    text, told = replace(fewer, stage="score").text(), replace(fewer, stage="score").to_dict()
    assert f"{KEPT} of 24 documents scored, BM25's first {KEPT}" in text
    assert filter_setting.BIAS in text
    for question, one in zip(told["questions"], fewer.answers.recall, strict=True):
        assert str(one) in text
        assert question["filter"]["recall"] == one.recall
        assert question["filter"]["filter"] == f"bm25:{KEPT}"
        assert question["filter"]["low"] <= one.recall <= question["filter"]["high"]
    json.dumps(told, allow_nan=False)


def test_the_report_of_a_filtered_run_tells_it_in_the_trust_panel(fewer, settings):
    again = run(fewer.folder, settings.replace(filter=f"bm25:{KEPT}", by=("layer", "answer")))
    html = again.report.read_text()
    assert f"BM25’s first {KEPT} documents alone" in html
    assert "favours documents that repeat" in html
    assert "Clopper" in html
    data = report_data(again)
    ranked = {row["document"] for row in again.top(24)}
    first = data.questions[0]
    assert {doc.document for doc in (*first.raises, *first.lowers, *first.leaders)} <= ranked
    assert first.lost is not None
    assert first.would_keep is None
    assert first.tail.n == KEPT
    assert {sum(row.documents for row in totals.rows) for totals in first.totals} == {KEPT}
    assert all(one.of == KEPT for one in first.against)
    assert max(doc.percentile for doc in first.raises) == pytest.approx(100 * (KEPT - 1) / KEPT)
    assert f"BM25's first {KEPT}, for each question, of 24 training documents" in data.sentence


def test_the_report_of_an_unfiltered_run_says_what_a_filter_would_have_kept(whole):
    data = report_data(whole)
    search = FILTERS["tfidf"]().fit(document_tokens(whole.store))
    assert data.trust.firsts == [("1 %", 1), ("10 %", 3)]
    for row, question in enumerate(data.questions):
        order = search.top(tokens_asked(whole.questions[row], whole.tokenizer), 3).tolist()
        shown = [doc.document for doc in question.raises]
        held = [sum(document in order[:first] for document in shown) for first in (1, 3)]
        assert (question.would_keep.of, question.would_keep.held) == (len(shown), held)
        assert question.lost is None
    html = whole.report.read_text()
    assert "it would have kept" in html
    assert 'first 10 %<span class="fine">3</span>' in html


def test_a_filter_with_low_rank_queries_scores_its_own_ends_again(settings, whole, tmp_path):
    cut = run(tmp_path / "r", settings.replace(rank=4, filter=f"bm25:{KEPT}"), stop_after="score")
    scored = ~np.isnan(cut.documents)
    assert np.array_equal(cut.rescored, scored)
    assert np.allclose(cut.documents[scored], whole.documents[scored], rtol=1e-3, atol=1e-3)


def test_the_command_takes_a_filter_and_gives_it_up_again(whole, tmp_path, capsys):
    from whence.cli import main

    folder = tmp_path / "r"
    shutil.copytree(whole.folder, folder)

    def call(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return ended.value.code, *capsys.readouterr()

    code, out, _ = call("score", folder, "--filter", "tfidf:5", "--json")
    assert code == 0
    told = json.loads(out)["questions"]
    assert [question["filter"]["kept"] for question in told] == [5, 5, 5]
    assert all(len(question["top"]) == 3 for question in told)
    assert wh.open(folder).answers.filter == "tfidf:5"
    code, out, _ = call("score", folder, "--filter", "none", "--json")
    assert code == 0
    assert "filter" not in json.loads(out)["questions"][0]
    assert np.array_equal(wh.open(folder).documents, whole.documents)
    code, out, err = call("score", folder, "--filter", "tfdf:5")
    assert (code, out) == (1, "")
    assert 'no filter is called "tfdf"' in err
    assert 'did you mean "tfidf"?' in err


def test_the_explorer_ranks_what_was_scored(fewer):
    from whence.jobs.serve import pages
    from whence.jobs.serve.explored import Explored

    explored = Explored(fewer.folder)
    answers = explored.asked(None)
    page = pages.question(explored, answers, 0, {})
    scored = np.flatnonzero(~np.isnan(fewer.raw(0)))
    assert {row.document for row in page["list"].rows.items} == set(scored)
    assert page["list"].rows.total == page["shape"].documents == KEPT
    assert str(fewer.answers.recall[0]) in page["filter"]
    unseen = int(np.setdiff1d(np.arange(24), answers.filtered(24).kept.ravel())[0])
    assert pages.document(explored, answers, unseen, {})["moves"].total == 0
    seen = pages.document(explored, answers, int(scored[0]), {})
    assert {one.of for one in seen["moves"].items} == {KEPT}


def test_names_of_filters_are_those_there_are():
    assert set(filter_setting._CALLED) == set(FILTERS)
    assert FilterSetting.parse("tfidf") == FilterSetting("tfidf", 10_000)
    assert str(FilterSetting.parse("bm25:1000")) == "bm25:1000"
