"""Every answer token is a measurement of its own, and they add up: log-probabilities, gradients, scores."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from whence.data.answer_tokens import by_answer
from whence.data.queries import ask, encode_queries, read_queries
from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.jobs.run import run
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.world import World

assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-7)  # norms compute in float32

QUESTIONS = [
    ask("the capital of france is", " paris and madrid"),
    ask("a cat sat", " on the mat", rather_than=" far away from"),
]


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), dtype="float64", batch_tokens=64, top=4, rank="full"
    )


@pytest.fixture(scope="module")
def split(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer") / "r"
    return run(folder, replace(settings, by=("answer", "layer", "token")), questions=QUESTIONS, stop_after="score")


def test_scores_of_answer_tokens_add_up_to_the_question(settings, split, tmp_path):
    """However else they are split, and whether the tokens were kept or not."""
    whole = run(
        tmp_path / "r", replace(settings, by=("layer", "token")), questions=QUESTIONS, stop_after="score"
    ).session
    kept, of = split.session.scores, split.session.answer.query

    assert of.tolist() == [0] * 3 + [1] * 6
    for row in range(2):
        assert_close(kept.by_answer[of == row].sum(0), whole.scores.total[row])
    assert_close(kept.total, whole.scores.total)
    assert_close(kept.by_layer, whole.scores.by_layer)
    assert_close(kept.by_token[5], whole.scores.by_token[5])
    assert_close(split.session.measurement, whole.queries.measurement)


def test_a_token_is_the_question_that_its_prompt_and_what_was_said_before_it_ask(settings, split, tmp_path):
    alone = [
        ask("the capital of france is", " paris"),
        ask("the capital of france is paris", " and"),
        ask("the capital of france is paris and", " madrid"),
    ]
    scores = run(tmp_path / "r", settings, questions=alone, stop_after="score").session.scores

    assert_close(split.session.scores.by_answer[:3], scores.total)


@pytest.mark.parametrize("batch_tokens", [8, 64])
def test_answer_tokens_stand_in_the_order_of_the_answer_and_in_no_larger_batches(settings, tmp_path, batch_tokens):
    session = Session(tmp_path / "r", settings, Log.silent(), World())
    parts = encode_queries(QUESTIONS, session.tokenizer, session.context, batch_tokens)

    tokens = by_answer(parts)

    said = session.tokenizer.convert_ids_to_tokens(tokens.token.tolist())
    assert said == ["paris", "and", "madrid", "on", "the", "mat", "far", "away", "from"]
    assert torch.cat([part.query for part in tokens.batches]).sort().values.tolist() == list(range(9))
    assert all(int(part.batch.scored.sum()) == len(part.batch) for part in tokens.batches)
    assert max(part.batch.real.numel() for part in tokens.batches) <= max(part.batch.real.numel() for part in parts)


def test_too_many_answer_tokens_are_refused_before_anything_is_read(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("whence.jobs.questions.MOST_ANSWER_TOKENS", 5)
    with pytest.raises(InvalidSetting, match="the answers have 9 tokens"):
        run(tmp_path / "r", replace(settings, by=("answer",)), questions=QUESTIONS)
    assert not (tmp_path / "r").exists()


def test_a_question_given_as_tokens_is_the_question_that_they_spell(settings, tmp_path):
    """To the bit, kept in the run as the row it was, and read back from its answers."""
    pair = ask("the capital of france is", " paris and madrid", id="where")
    session = Session(tmp_path / "s", settings, Log.silent(), World())
    batch = encode_queries([pair], session.tokenizer, session.context)[0].batch
    ids = [*batch.inputs[0].tolist(), int(batch.targets[0, -1])]
    labels = [
        -100,
        *(t if m else -100 for t, m in zip(batch.targets[0].tolist(), batch.scored[0].tolist(), strict=True)),
    ]
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"id": "where", "input_ids": ids, "labels": labels, "by": "hand"}) + "\n")
    asked = read_queries(path)

    one = run(tmp_path / "one", settings, questions=[pair], stop_after="score")
    two = run(tmp_path / "two", settings, questions=asked, stop_after="score")

    assert (one.answers.raw(0, one.store) == two.answers.raw(0, two.store)).all()
    (kept,) = read_queries(tmp_path / "two" / "questions.jsonl")
    assert (kept.parts[0].tokens, kept.metadata) == (asked[0].parts[0].tokens, {"by": "hand"})
    (said,) = two.questions
    assert (said.prompt, said.completion) == ("the capital of france is", "paris and madrid")
    assert said.parts[0].tokens == asked[0].parts[0].tokens
