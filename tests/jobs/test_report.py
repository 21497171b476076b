"""What a report says of a run: the numbers of its scores, what is known of its answers, what was checked."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from whence.data.queries import ask
from whence.evaluate.statistics import spearman
from whence.jobs.explain import full_rank_query, meet
from whence.jobs.log import Log
from whence.jobs.opened import Run
from whence.jobs.report import report_data
from whence.jobs.report.data import _again
from whence.jobs.report.planted import NAME, Planted
from whence.jobs.run import run
from whence.jobs.settings import RunSettings
from whence.report.trust import Recall, RecallRow

QUESTIONS = [
    ask("the capital of france is", " paris and madrid", id="cities"),
    ask("a cat sat", " on the mat", rather_than=" far away from", id="cat"),
    ask("the big red", " house", id="house"),
]


@pytest.fixture(scope="module")
def settings(toy, tmp_path_factory):
    """The miniature's text, with three of its lines said twice."""
    train = tmp_path_factory.mktemp("copied") / "train.jsonl"
    lines = (toy / "train.jsonl").read_text().splitlines(keepends=True)
    train.write_text("".join([*lines, *lines[4:7]]))
    return RunSettings(model=str(toy / "model"), train=str(train), batch_tokens=64, top=9, rank="full", by=("answer",))


@pytest.fixture(scope="module")
def scored(settings, tmp_path_factory) -> Run:
    """Scored, and not yet reported."""
    folder = tmp_path_factory.mktemp("report") / "r"
    return run(folder, settings, questions=QUESTIONS, stop_after="score", log=Log.silent())


@pytest.fixture(scope="module")
def data(scored):
    return report_data(scored)


def test_the_parts_by_answer_token_add_up_to_each_score_and_the_tokens_to_the_measurement(data, scored):
    for question in data.questions[:2]:
        for doc in (*question.raises, *question.lowers):
            assert sum(doc.by_answer) == pytest.approx(doc.score_per_copy, abs=1e-4 * sum(map(abs, doc.by_answer)))
        assert sum(token.log_p for token in question.answer) == pytest.approx(question.measurement, rel=1e-5)
    assert [token.text for token in data.questions[1].answer] == ["on", "the", "mat", "far", "away", "from"]
    assert [token.position is None for token in data.questions[1].answer] == [False] * 3 + [True] * 3
    assert data.questions[2].answer == []  # one token is the whole


def test_the_command_on_the_method_page_makes_the_same_report_again(scored, settings, tmp_path, monkeypatch):
    """Whatever the run was asked since: questions, damping, and those made in Python."""
    import shutil

    from whence.cli import main

    monkeypatch.chdir(tmp_path)
    shutil.copytree(scored.folder, "runs/a b")
    first = run("runs/a b", settings, questions=QUESTIONS, log=Log.silent())
    told = report_data(first).command
    answers = first.answers.folder.name
    assert told == f"whence run 'runs/a b' --settings 'runs/a b/answers/{answers}/settings.toml'"
    run("runs/a b", settings.replace(damping=10.0), questions=QUESTIONS[:1], stop_after="score", log=Log.silent())
    assert Run.open("runs/a b").answers.folder.name != answers
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(told)[1:])
    assert ended.value.code == 0
    again = Run.open("runs/a b")
    assert again.answers.folder.name == answers
    assert np.array_equal(again.numpy(), first.numpy())
    away = replace(
        first, folder=tmp_path.parent / "elsewhere", found=replace(first.answers, run=tmp_path.parent / "elsewhere")
    )
    assert str(tmp_path.parent) not in _again(away), "a report that is passed on names no machine's folders"


def test_leaders_of_each_answer_token_join_where_their_scores_were_kept(data, scored):
    session, question = scored.session, data.questions[0]
    here = {doc.document: doc for doc in (*question.raises, *question.lowers, *question.leaders)}
    by_token = np.zeros((3, session.store.documents))
    for token in range(3):
        np.add.at(by_token[token], session.store.document_of, session.scores.by_answer[token].double().numpy())

    assert question.leaders
    for token in range(3):
        first = int(by_token[token].argmax())
        assert here[first].by_answer[token] == pytest.approx(by_token[token, first] / scored.train_size, rel=1e-3)
        assert here[first].by_answer[token] == max(doc.by_answer[token] for doc in here.values())


def test_totals_of_groups_add_up_to_all_influence(data, scored):
    per_copy = scored.documents / scored.train_size
    for row, question in enumerate(data.questions):
        by = {one.by: one for one in question.totals}
        assert set(by) == {"group", "copies"}
        for totals in by.values():
            assert sum(one.total for one in totals.rows) == pytest.approx(per_copy[row].sum(), rel=1e-6)
            assert sum(one.documents for one in totals.rows) == scored.store.documents
    [matrix] = [one for one in data.matrices if one.by == "group"]
    assert (matrix.rows_by, matrix.rows) == ("question", ["cat", "cities", "house"])
    assert sum(matrix.cells[1]) == pytest.approx(per_copy[0].sum(), rel=1e-3)


def test_other_dampings_are_those_of_a_run_made_with_them(data, scored):
    """The sweep ranks the shown documents as scoring at that damping would."""
    question = data.questions[0]
    assert [one.damping for one in question.swept] == ["0.01", "0.03", "0.3", "1"]
    curvature = scored.session.curvature.with_damping(1.0)
    session = scored.session
    full = full_rank_query(curvature, session.model, session.parts_of(0), session.task)
    shown = [doc.document for doc in (*question.raises, *question.lowers)]
    again = meet(curvature, session.model, full, session.store, shown, session.task)[0]
    own = np.array([doc.score_raw for doc in (*question.raises, *question.lowers)])

    assert question.swept[-1].spearman == pytest.approx(float(spearman(again[None], own[None])[0]), abs=0.01)


def test_copies_are_told_by_what_they_say_anywhere_in_the_data(data, scored):
    texts = {}
    for document in range(scored.store.documents):
        texts.setdefault(scored.store.row(document)["hash"], []).append(document)
    repeated = {document: len(group) for group in texts.values() for document in group if len(group) > 1}
    assert repeated

    for question in data.questions:
        for doc in (*question.raises, *question.lowers):
            if doc.document in repeated and doc.copy_of is None:
                assert doc.times >= repeated[doc.document]


def test_places_are_lines_as_a_person_counts_and_metadata_is_whole(data):
    doc = data.questions[0].raises[0]

    assert doc.place == f"train.jsonl, line {doc.row + 1}"
    assert doc.metadata.keys() == {"group"}


def test_what_is_known_of_a_demo_is_kept_with_the_run_and_only_told_of_its_own_questions(scored, settings):
    session = scored.session
    recall = Recall(rows=[RecallRow(method="EK-FAC", at_1=0.5, at_10=1.0)], questions=2, note="as planted")
    asked = {"questions": session.questions_digest, "damping": str(session.curvature.damping)}
    Planted(model="the toy", documents={0: 3}, recall=recall, **asked).write(scored.folder)
    try:
        told = report_data(scored)

        assert (told.title, told.recall) == ("Influence on the toy", recall)
        assert [question.planted for question in told.questions] == [3, None, None]
        assert Planted.read(scored.folder, questions="others", damping=asked["damping"]) is None
        assert Planted.read(scored.folder, questions=asked["questions"], damping="1") is None
    finally:
        (scored.folder / NAME).unlink()


def test_checks_and_validations_of_the_run_are_in_its_trust_panel(scored, settings):
    rows = [{"name": "batch-mates", "verdict": "wrong", "text": "they matter", "figure": 0.2, "advice": "use eager"}]
    path = scored.folder / "checks" / "check.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"check": "check", "rows": rows}))
    try:
        [row] = report_data(replace(scored)).trust.checks
    finally:
        path.unlink()

    assert (row.name, row.verdict, row.text, row.advice) == ("batch-mates", "wrong", "they matter", "use eager")
