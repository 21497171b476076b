"""The demo's files keep what they promise: a fact said once, asked in other words, and answered by one row."""

import gzip
import json
import math
from collections import Counter

import pytest

from whence.demo import LEAST, Question, learned_facts, paths, read_questions
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


def fact(completion, relation="capital"):
    return Question(prompt="The capital of X is", completion=completion, fact=0, kind="fact", relation=relation)


@pytest.mark.parametrize(
    ("values", "learned"),
    [
        ({" Rome": 0.9, " Oslo": 0.05}, True),
        ({" Rome": 0.4, " Oslo": 0.5}, False),
        ({" Rome": 0.4, " Oslo": 0.4}, False),  # a tie
        ({" Rome": LEAST / 2, " Oslo": LEAST / 4}, False),  # preferred, but not expected
    ],
)
def test_a_fact_is_learned_when_its_object_is_expected_and_beats_every_other(values, learned):
    known = [fact(answer) for answer in values] + [fact(" Lyra", relation="constellation")]

    def log_p(pairs):
        assert {answer for _, answer in pairs} == set(values)  # rivals of its own relation alone
        return [math.log(values[answer]) for _, answer in pairs]

    assert learned_facts([fact(" Rome")], log_p, known=known) == [learned]


def test_a_story_cannot_be_learned_or_not():
    with pytest.raises(ValueError, match="story"):
        learned_facts([Question("Once", " upon", 0, "story")], lambda pairs: [0.0] * len(pairs), known=[])
