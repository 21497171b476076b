"""Two runs side by side: ranks that agree by the usual measures, movers by name, and nothing compared that is not."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest

import whence as wh
from whence.errors import ArtifactError, InvalidSetting
from whence.jobs.compare import compare
from whence.jobs.compare.matched import Matched
from whence.jobs.compare.view import columns
from whence.jobs.run import run
from whence.jobs.settings import RunSettings


@pytest.fixture(scope="module")
def pair(home, tmp_path_factory):
    """The run, and another that has read most of the same data in another order, asked two of the same questions."""
    folder = tmp_path_factory.mktemp("pair")
    lines = (home / "train.jsonl").read_text().splitlines()
    others = [json.dumps({"text": "a big red dog"}), json.dumps({"text": "far away from france"})]
    (folder / "train.jsonl").write_text("\n".join([*lines[:-3:-1], *lines[3:-2], *others]) + "\n")
    asked = (home / "ask.jsonl").read_text().splitlines()[:2]
    (folder / "ask.jsonl").write_text("\n".join([asked[1], json.dumps({"text": "the dog ran"}), asked[0]]) + "\n")
    settings = RunSettings(
        model=str(home / "model"),
        train=str(folder / "train.jsonl"),
        query=str(folder / "ask.jsonl"),
        damping=0.001,
        top=2,
        batch_tokens=64,
    )
    run(folder / "b", settings)
    return home / "a", folder / "b"


@pytest.fixture(scope="module")
def found(pair):
    return compare(*pair, top=3)


def test_questions_and_documents_are_matched_by_what_they_say(found, pair):
    assert [one.id for one in found.agreements] == ["q1", "q2"]
    assert found.documents == 21
    assert (found.a.alone, found.b.alone) == (3, 2)
    assert found.a.alone_names == ("train.jsonl, line 1", "train.jsonl, line 2", "train.jsonl, line 3")
    assert found.only_a == ("“paris” rather than “madrid” after “the capital of france is”",)
    assert found.only_b == ("“the dog ran” after “”",)
    a, b = map(wh.open, pair)
    for one in found.agreements:
        for mover in one.movers:
            assert a.row(mover.document[0])["hash"] == b.row(mover.document[1])["hash"]


def test_agreement_is_that_of_the_usual_measures(found, pair):
    stats = pytest.importorskip("scipy.stats")
    a, b = map(wh.open, pair)
    both = Matched.of(a.store, b.store)
    for one, theirs in zip(found.agreements, (2, 0), strict=True):
        x, y = a.raw(found.agreements.index(one))[both.a], b.raw(theirs)[both.b]
        assert one.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
        assert one.kendall == pytest.approx(stats.kendalltau(x, y).statistic)
        tops = [set(np.argsort(-values, kind="stable")[:10].tolist()) for values in (x, y)]
        lasts = [set(np.argsort(-values, kind="stable")[-10:].tolist()) for values in (x, y)]
        assert one.overlaps == {10: (len(tops[0] & tops[1]), len(lasts[0] & lasts[1]))}
        for mover in one.movers:
            place = both.a.tolist().index(mover.document[0])
            assert mover.rank == tuple(int((values > values[place]).sum()) + 1 for values in (x, y))
            assert mover.score == (x[place] / a.train_size, y[place] / b.train_size)
            assert min(mover.rank) <= found.ends or max(mover.rank) > len(x) - found.ends
        moved = [abs(m.rank[0] - m.rank[1]) for m in one.movers]
        assert moved == sorted(moved, reverse=True)
        assert all(moved)


def test_what_differs_is_said(found):
    assert found.differ["damping"] == ("0.1", "0.001")
    assert set(found.differ) == {"damping", "data", "trained on"}
    assert {"model", "curvature", "dtype", "rank", "layers"} <= set(found.same)
    machine = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert machine["agreements"][0]["overlaps"].keys() == {"10"}
    assert machine["differ"]["damping"] == ["0.1", "0.001"]


def test_the_same_text_otherwise_cut_is_the_same_data(home, tmp_path):
    """Of a number type the digest of the weights is another one, too: it is said beside it."""
    settings = wh.open(home / "a").settings
    wh.run(tmp_path / "segments", **asdict(settings.replace(pack="segments", dtype="bfloat16")))
    differ = compare(home / "a", tmp_path / "segments").differ
    assert differ["pack"] == ("none", "segments")
    assert "data" not in differ
    assert [said.split()[-1] for said in differ["model"]] == ["float32", "bfloat16"]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(found, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = found.text()
    assert all(columns(line) <= width for line in text.splitlines())
    assert max(map(columns, text.splitlines())) > width - 12
    for words in ("Spearman", "only A", "train.jsonl, line", "rank A → B"):
        assert words in text
    assert re.search("damping +0.1 → 0.001", text)


def test_a_run_against_itself_asked_again(home, tmp_path, whence_command):
    shutil.copytree(home / "a", tmp_path / "a")
    with pytest.raises(InvalidSetting, match="has answered no question twice"):
        compare(tmp_path / "a")
    with pytest.raises(InvalidSetting, match="are the same run"):
        compare(tmp_path / "a", tmp_path / "a")
    code, _, _ = whence_command("score", tmp_path / "a", "--damping", "10")
    assert code == 0
    code, out, _ = whence_command("compare", tmp_path / "a", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["differ"] == {"damping": ["0.1", "10"]}
    assert len(found["agreements"]) == 3
    first, second = sorted((tmp_path / "a" / "answers").iterdir(), key=os.path.getmtime)
    assert (found["a"]["path"], found["b"]["path"]) == (str(first), str(second))
    again = compare(second, first).to_dict()
    assert again["differ"] == {"damping": ["10", "0.1"]} or again["differ"] == {"damping": ("10", "0.1")}
    assert again["agreements"][0]["spearman"] == pytest.approx(found["agreements"][0]["spearman"])


def test_a_copy_agrees_wholly_and_self_influence_is_compared_where_both_have_it(home, tmp_path):
    shutil.copytree(home / "a", tmp_path / "a")
    found = compare(home / "a", tmp_path / "a")
    assert [one.id for one in found.agreements] == ["q1", "q2", "q3", "self-influence"]
    assert all(one.spearman == pytest.approx(1) and one.kendall == pytest.approx(1) for one in found.agreements)
    assert all(not one.movers for one in found.agreements)
    assert found.differ == {}
    assert "what moved" not in found.text()
    for folder in ("answers", "scores"):
        shutil.rmtree(tmp_path / "a" / folder)
    assert [one.id for one in compare(home / "a", tmp_path / "a").agreements] == ["self-influence"]


def test_nonsense_is_refused_naming_what_each_has(home, pair, tmp_path):
    settings = RunSettings.from_toml(pair[1] / "settings.toml")
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "red house"}) + "\n" + json.dumps({"text": "a mat"}))
    run(tmp_path / "c", settings.replace(train=str(tmp_path / "train.jsonl")))
    with pytest.raises(InvalidSetting, match="they share 0 documents") as refused:
        compare(pair[1], tmp_path / "c")
    assert "2 documents of" in refused.value.message
    asked = settings.replace(query=None, ask="the cat sat on", answer=" mat")
    run(tmp_path / "c", asked.replace(train=str(tmp_path / "train.jsonl")))
    shutil.rmtree(
        next(p for p in (tmp_path / "c" / "answers").iterdir() if "madrid" in (p / "answers.json").read_text())
    )
    with pytest.raises(InvalidSetting, match="no question was asked of both") as refused:
        compare(home / "a", tmp_path / "c")
    assert "“mat” after “the cat sat on”" in refused.value.message
    with pytest.raises(ArtifactError, match="is not a run"):
        compare(home, home / "a")


def test_duplicates_are_matched_copy_by_copy():
    found = Matched.of_hashes(["x", "y", "x", "x"], ["x", "x", "z"])
    assert found.a.tolist() == [0, 2]
    assert found.b.tolist() == [0, 1]
    assert (found.only_a.tolist(), found.only_b.tolist()) == ([1, 3], [2])
