"""Queries: each completion scored whole, never cut, and told apart."""

from __future__ import annotations

import json

import pytest
import torch
from tests.data.spelling import Characters

from whence.data import ask, encode_queries, encode_query, read_queries
from whence.errors import DataError
from whence.jobs.questions import unlike_the_data


def lines(path, *rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_three_kinds_of_rows(tmp_path):
    path = lines(
        tmp_path / "q.jsonl",
        {"prompt": "Who?", "completion": " Ada.", "id": "who", "topic": "people"},
        {"text": "Once"},
        {"prompt": "It was", "chosen": " Ada", "rejected": " Bob", "id": 7},
    )
    who, once, contrast = read_queries(path)
    assert (who.id, who.prompt, who.completion, who.rather_than, who.metadata) == (
        "who",
        "Who?",
        " Ada.",
        None,
        {"topic": "people"},
    )
    assert (once.id, once.prompt, once.completion) == ("q2", "", "Once")
    assert (contrast.id, contrast.completion, contrast.rather_than) == ("7", " Ada", " Bob")
    assert [part.weight for part in contrast.parts] == [1.0, -1.0]


@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
def test_parts_share_batches_and_remember_their_query(batch_tokens):
    queries = [ask("ab", "cde"), ask("", "fg"), ask("h", "i", rather_than="jk")]
    batches = encode_queries(queries, Characters(), 16, batch_tokens)
    assert batch_tokens < 4096 or len(batches) == 1
    found = {}
    for part in batches:
        for row, number in enumerate(part.batch.ids.tolist()):
            targets = part.batch.targets[row][part.batch.scored[row]]
            found[number] = (int(part.query[row]), float(part.weight[row]), Characters().decode(targets.tolist()))
    assert [found[n] for n in range(4)] == [(0, 1.0, "cde"), (1, 1.0, "fg"), (2, 1.0, "i"), (2, -1.0, "jk")]
    assert batches[0].to("cpu").weight.dtype == torch.float32
    assert encode_queries([], Characters(), 16) == []


def test_a_query_is_never_cut():
    with pytest.raises(DataError, match="query q1 has 9 tokens, and a sequence may have 8"):
        encode_query(ask("abcde", "fgh"), Characters(), 8)
    assert len(encode_query(ask("abcd", "fgh"), Characters(), 8)) == 1


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "holds no queries"),
        ([{"prompt": "a"}], r'line 1 lacks the column "completion"'),
        ([{"prompt": "a", "completion": ""}], "line 1: the completion is empty"),
        ([{"prompt": "a", "chosen": "b"}], r'line 1 lacks the column "rejected"'),
        ([{"prompt": "a", "chosen": "b", "rejected": ""}], "completion is empty"),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "both completions are the same"),
        (
            [{"prompt": "a", "completion": "b", "id": 1}, {"prompt": "a", "completion": "c", "id": "1"}],
            'line 2: the id "1" is also that of',
        ),
        ([{"question": "a"}], "line 1 lacks the column"),
    ],
)
def test_a_query_that_cannot_be_asked_is_named(tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        read_queries(lines(tmp_path / "q.jsonl", *rows))


def test_an_empty_completion_cannot_be_asked():
    with pytest.raises(DataError, match="empty"):
        ask("a", "")


def test_one_token_with_nothing_before_it_has_no_probability():
    with pytest.raises(DataError, match="nothing to score"):
        encode_query(ask("", "a"), Characters(start=False), 8)


def test_messages_are_asked_in_python_as_in_a_file(tmp_path):
    user, answers = [{"role": "user", "content": "Who?"}], ["Ada.", "Bob."]
    turns = [[{"role": "assistant", "content": answer}] for answer in answers]
    rows = [
        {"id": "a", "prompt": user, "completion": turns[0]},
        {"id": "b", "prompt": user, "chosen": turns[0], "rejected": turns[1]},
    ]
    path = tmp_path / "ask.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    asked = [ask(user, "Ada.", id="a"), ask(user, "Ada.", rather_than="Bob.", id="b")]

    assert [query.parts for query in asked] == [query.parts for query in read_queries(path)]
    with pytest.raises(DataError, match="the completion is empty"):
        ask(user, "")


def test_a_plain_question_of_a_model_tuned_on_chats_is_pointed_out():
    plain, chat = ask("Who?", " Ada."), ask([{"role": "user", "content": "Who?"}], "Ada.", id="c")
    assert unlike_the_data([plain, chat], {"messages": 3, "text": 1}).startswith(
        "the training rows are chats, and question q1 is plain text"
    )
    assert unlike_the_data([chat], {"messages": 3}) is None
    assert unlike_the_data([plain], {"pair": 3, "messages": 2}) is None
