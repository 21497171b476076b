"""Rows are told apart by their columns; one that could be read in two ways is refused, not guessed at."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from tests.data.spelling import Characters
from tests.data.test_documents import lines, parquet

from whence.data import Part, encode, read_documents, read_queries
from whence.data.encode import encode_all
from whence.data.shapes import check_columns
from whence.errors import DataError, InvalidSetting

USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


def read(tmp_path, *rows, columns=None):
    return list(read_documents(lines(tmp_path / "a.jsonl", *rows), columns=columns))


@pytest.mark.parametrize(
    ("row", "columns", "shape", "metadata"),
    [
        ({"text": "a", "n": 1}, {}, "text", {"n": 1}),
        ({"prompt": "a", "completion": "b", "id": 3}, {}, "pair", {"id": 3}),
        ({"messages": [USER, BOT], "source": "web"}, {}, "messages", {"source": "web"}),
        ({"prompt": "Hi", "prompt_id": 7, "messages": [USER, BOT]}, {}, "messages", {"prompt": "Hi", "prompt_id": 7}),
        ({"prompt": [USER], "completion": [BOT]}, {}, "messages", {}),
        ({"conversations": [USER, BOT]}, {}, "messages", {}),
        ({"input_ids": [1, 2], "labels": [1, 2], "text": "ab"}, {}, "tokens", {"text": "ab"}),
        ({"content": "a", "title": "b"}, {"text": "content"}, "text", {"title": "b"}),
        ({"question": "a", "answer": "b"}, {"prompt": "question", "completion": "answer"}, "pair", {}),
        (
            {"text": "ab", "prompt": "a", "completion": "b"},
            {"text": "text"},
            "text",
            {"prompt": "a", "completion": "b"},
        ),
        ({"text": "ab", "prompt": "a", "completion": "b"}, {"prompt": "prompt"}, "pair", {"text": "ab"}),
        ({"text": "ab", "messages": [USER, BOT]}, {"messages": "messages"}, "messages", {"text": "ab"}),
        ({"chosen": [USER, BOT], "rejected": [USER]}, {"messages": "chosen"}, "messages", {"rejected": [USER]}),
    ],
)
def test_shapes_are_told_by_their_columns(tmp_path, row, columns, shape, metadata):
    (document,) = read(tmp_path, row, columns=columns)
    assert (document.shape, document.metadata) == (shape, metadata)


@pytest.mark.parametrize(
    ("row", "columns", "says"),
    [
        ({"text": "ab", "messages": [USER]}, {}, ["could be read in two ways", '"text", "messages"', "--column"]),
        ({"text": "ab", "prompt": "a"}, {}, ["could be read in two ways"]),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, {}, ["half of a preference", "--query"]),
        ({"body": "a"}, {"text": "bdy"}, ['lacks the column "bdy", pointed out as text', 'did you mean "body"?']),
        ({"question": "a"}, {"prompt": "question"}, ['lacks the column "completion"', "--column completion=NAME"]),
        ({"question": "a", "answer": "b"}, {}, ["--column prompt=question --column completion=answer;", "around them"]),
        ({"prompt": "a", "response": "b"}, {}, ['lacks the column "completion"', ": --column completion=response;"]),
        ({"content": "a", "n": 1}, {}, ["--column text=content"]),
        ({"messages": "Hi"}, {}, ["holds text, not a list of messages"]),
        ({"messages": ["Hi"]}, {}, ["message 1 is text, not an object"]),
        ({"messages": [USER, {"content": "x"}]}, {}, ['message 2 has no "role": it has content']),
        ({"messages": [{"role": "user"}]}, {}, ['message 1: its "content" holds null']),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, {}, ["something else than text"]),
        ({"prompt": [USER], "completion": "b"}, {}, ['"completion" holds text, not a list of messages']),
        ({"prompt": [USER], "completion": []}, {}, ['"completion" is empty']),
        ({"input_ids": [1, "a"]}, {}, ["holds text among its whole numbers"]),
        ({"input_ids": "ab"}, {}, ["holds text, not a list of whole numbers"]),
        ({"input_ids": [1, -3]}, {}, ["a token below 0"]),
        ({"input_ids": [1, 2], "labels": [1]}, {}, ["has 1 entries for 2 tokens"]),
        ({"input_ids": [1, 2, 3], "labels": [1, 3, -100]}, {}, ["holds 3 at position 1, where the token is 2"]),
        ({"input_ids": [1, 2, 3], "attention_mask": [1, 0, 1]}, {}, ["leaves out tokens between others"]),
    ],
)
def test_what_fits_no_shape_is_refused_by_name(tmp_path, row, columns, says):
    with pytest.raises(DataError) as caught:
        read(tmp_path, {"text": "fine"} if not columns and "text" not in row else row, row, columns=columns)
    assert "a.jsonl, line" in str(caught.value)
    assert all(text in str(caught.value) for text in says), caught.value


def test_columns_are_those_of_one_shape():
    check_columns({"prompt": "q", "completion": "a"})
    with pytest.raises(InvalidSetting, match="no 'txt' to point out"):
        check_columns({"txt": "a"})
    with pytest.raises(InvalidSetting, match="text, prompt are not of one shape"):
        check_columns({"text": "a", "prompt": "b"})


def test_given_tokens_are_scored_where_the_data_says(tmp_path):
    ids = [1, 1, 5, 6, 7, 0, 0]
    rows = [
        {"input_ids": ids},
        {"input_ids": ids, "labels": [-100, -100, 5, -100, 7, 0, -100]},
        {"input_ids": ids, "labels": [1, 1, 5, 6, 7, -100, -100], "attention_mask": [1, 1, 1, 1, 1, 0, 0]},
        {"input_ids": ids, "completion_mask": [0, 0, 1, 1, 1, 1, 1], "assistant_masks": [1, 1, 0, 1, 0, 1, 0]},
    ]
    encoded = encode_all(read(tmp_path, *rows), Characters(), 10)
    assert [e.pieces[0].tokens.tolist() for e in encoded] == [ids, ids, ids[:5], ids]
    assert [[n for n, mark in enumerate(e.pieces[0].scored) if mark] for e in encoded] == [
        [1, 2, 3, 4, 5, 6],
        [2, 4, 5],
        [1, 2, 3, 4],
        [3, 5],
    ]
    assert [sorted(e.noticed) for e in encoded] == [["two_starts"]] * 2 + [["padding", "two_starts"]] + [["two_starts"]]
    assert encoded[0].scored == 6


def test_a_token_that_the_tokenizer_has_not_is_refused(tmp_path, make_fast):
    with pytest.raises(DataError, match="holds the token 99, and the tokenizer has 4"):
        encode(read(tmp_path, {"input_ids": [1, 99]})[0], make_fast("word"), 10)


def test_sharegpt_and_nulls_become_plain_messages(tmp_path):
    rows = [
        {"conversations": [{"from": "system", "value": "Be"}, {"from": "human", "value": "Hi"}]},
        {"messages": [USER | {"tool_calls": None}, {"role": "assistant", "content": None, "tool_calls": [{"x": 1}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}]},
    ]
    found = [document.chat.messages for document in read(tmp_path, *rows) if document.chat]
    assert found[0] == ({"role": "system", "content": "Be"}, {"role": "user", "content": "Hi"})
    assert found[1] == (USER, {"role": "assistant", "content": "", "tool_calls": [{"x": 1}]})
    assert found[2] == (USER,)
    table = read_documents(parquet(tmp_path / "a.parquet", [{"messages": [USER, BOT | {"name": "b"}]}]))
    assert next(table).chat.messages == (USER, BOT | {"name": "b"})


def test_which_turns_are_scored(tmp_path):
    again = {"role": "assistant", "content": "Again", "weight": 0}
    rows = [{"messages": [USER, BOT, USER, again, BOT]}, {"prompt": [USER, BOT, USER], "completion": [BOT]}]
    assert [document.chat.scored for document in read(tmp_path, *rows)] == [[1, 4], [3]]


def test_copies_share_a_hash(tmp_path):
    rows = [
        {"messages": [USER, BOT], "n": 1},
        {"messages": [dict(reversed(USER.items())), BOT], "n": 2},
        {"prompt": [USER], "completion": [BOT]},
        {"input_ids": [1, 2]},
        {"input_ids": [1, 2], "labels": [-100, 2]},
        {"text": "Hi"},
    ]
    hashes = [document.hash for document in read(tmp_path, *rows)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 5


# --- questions ---------------------------------------------------------------------------------------------------


def test_questions_may_be_chats(tmp_path):
    other = {"role": "assistant", "content": "Bye"}
    rows = [
        {"messages": [USER, BOT, USER, BOT]},
        {"prompt": [USER], "completion": [BOT]},
        {"prompt": [USER], "chosen": [BOT], "rejected": [other]},
        {"prompt": "Hi", "chosen": [USER, BOT], "rejected": [USER, other]},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"chosen": "ab", "rejected": "ac"},
    ]
    queries = read_queries(lines(tmp_path / "q.jsonl", *rows))
    assert [[(p.prompt, p.completion, p.weight) for p in query.parts] for query in queries] == [
        [("Hi", "Hello", 1)],
        [("Hi", "Hello", 1)],
        [("Hi", "Hello", 1), ("Hi", "Bye", -1)],
        [("Hi", "Hello", 1), ("Hi", "Bye", -1)],
        [("a", "b", 1), ("a", "c", -1)],
        [("", "ab", 1), ("", "ac", -1)],
    ]
    assert [query.parts[0].chat.scored for query in queries if query.parts[0].chat] == [[3], [1], [1], [1]]
    assert queries[3].metadata == {"prompt": "Hi"}


def test_columns_serve_questions_that_have_them(tmp_path):
    path = lines(tmp_path / "q.jsonl", {"question": "a", "answer": "b"}, {"prompt": "c", "completion": "d"})
    queries = read_queries(path, {"prompt": "question", "completion": "answer"})
    assert [query.prompt for query in queries] == ["a", "c"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": [USER]}, "does not end with an assistant's turn"),
        ({"messages": [BOT, USER]}, "does not end with an assistant's turn"),
        ({"chosen": [USER, BOT], "rejected": [USER, BOT]}, "both completions are the same"),
        ({"chosen": [USER, BOT], "rejected": [USER]}, "does not end with an assistant's turn"),
    ],
)
def test_a_chat_that_asks_nothing_is_refused(tmp_path, row, says):
    with pytest.raises(DataError, match=says):
        read_queries(lines(tmp_path / "q.jsonl", row))


def test_questions_kept_in_a_run_are_read_back_the_same(tmp_path):
    from whence.jobs.questions import as_jsonl

    other = {"role": "assistant", "content": "Bye"}
    tools = [{"name": "look", "parameters": {}}]
    rows = [
        {"id": "one", "messages": [USER, BOT, USER, BOT], "kind": "x", "tools": tools},
        {"prompt": [USER], "chosen": [BOT], "rejected": [other]},
        {"chosen": "ab", "rejected": "ac"},
        {"text": "ab"},
    ]
    queries = read_queries(lines(tmp_path / "q.jsonl", *rows))
    (tmp_path / "kept.jsonl").write_text(as_jsonl(queries) or "")
    again = read_queries(tmp_path / "kept.jsonl")
    assert [[part.said for part in query.parts] for query in again] == [
        [part.said for part in query.parts] for query in queries
    ]
    assert again[0].metadata == {"kind": "x", "tools": tools}
    for part in (part for query in queries for part in query.parts):
        assert Part.of(json.loads(json.dumps(asdict(part)))) == part


def test_questions_may_spell_messages_as_json(tmp_path):
    other = {"role": "assistant", "content": "Bye"}
    rows = [
        {"messages": [USER, BOT]},
        {"prompt": [USER], "completion": [BOT]},
        {"prompt": [USER], "chosen": [BOT], "rejected": [other]},
        {"prompt": "a copy", "chosen": [USER, BOT], "rejected": [USER, other]},
    ]
    spelled = [{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows]
    read = [read_queries(lines(tmp_path / f"{n}.jsonl", *some)) for n, some in enumerate((rows, spelled))]
    there, here = ([[part.said for part in query.parts] for query in queries] for queries in read)
    assert here == there
    assert all(part.chat is not None for query in read[1] for part in query.parts)
