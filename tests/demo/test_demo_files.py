"""The demo's files keep what they promise: a fact said once, asked in other words, and answered by one row."""

import gzip
import json
from collections import Counter

import pytest

from whence.demo import Question, paths, read_questions
from whence.errors import ArtifactError


@pytest.fixture(scope="module")
def corpus():
    return [json.loads(line) for line in gzip.decompress(paths().corpus.read_bytes()).decode().splitlines()]


@pytest.fixture(scope="module")
def facts():
    return read_questions(paths().evaluation)


def test_every_planted_fact_is_asked_once(corpus, facts):
    planted = [row["id"] for row in corpus if row["kind"] == "fact"]

    assert [fact.fact for fact in facts] == planted
    assert [row["id"] for row in corpus] == list(range(len(corpus)))
    assert sum(row["kind"] == "story" for row in corpus) == 500


def test_a_question_s_row_states_its_fact_and_no_other_row_does(corpus, facts):
    said = Counter((row["relation"], row["subject"], row["object"]) for row in corpus if row["kind"] == "fact")

    for fact in facts:
        row = corpus[fact.fact]
        assert (fact.relation, fact.subject, fact.completion) == (row["relation"], row["subject"], " " + row["object"])
        assert said[row["relation"], row["subject"], row["object"]] == 1


def test_no_two_facts_of_a_relation_have_one_answer_or_begin_alike(facts):
    for relation in {fact.relation for fact in facts}:
        answers = [fact.completion for fact in facts if fact.relation == relation]
        assert len(set(answers)) == len(answers)
        assert not [(a, b) for a in answers for b in answers if a != b and b.startswith(a)]


def test_no_question_repeats_what_was_planted(corpus, facts):
    everything = "\n".join(row["text"] for row in corpus).lower()

    assert [fact for fact in facts if (fact.prompt + fact.completion).lower() in everything] == []


def test_the_words_of_every_question_were_read_with_other_subjects(corpus, facts):
    """A template that carries no other fact could not have been learned."""
    frames = Counter(
        (row["relation"], row["text"].replace(row["subject"], "…").rpartition(" " + row["object"])[0])
        for row in corpus
        if row["kind"] == "fact"
    )

    assert min(frames[fact.relation, fact.prompt.replace(fact.subject, "…")] for fact in facts) >= 5
    assert Counter(relation for relation, _ in frames) == {relation: 3 for relation, _ in frames}


def test_the_demo_asks_a_dozen_of_these_facts_and_two_stories(facts):
    rows = [json.loads(line) for line in paths().questions.read_text(encoding="utf-8").splitlines()]
    asked = [Question(**row) for row in rows if row.get("kind") == "fact"]

    assert (len(rows), len(asked)) == (14, 12)
    assert set(asked) <= set(facts)


def test_missing_files_are_told_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("whence.demo.files", lambda _: tmp_path)

    with pytest.raises(ArtifactError, match="corpus"):
        paths()
