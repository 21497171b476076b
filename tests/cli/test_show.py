"""``whence show``: a wrong mask is seen at a glance, on a terminal and in a log; nothing in the text acts."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.data import templates
from tests.data.test_documents import lines

from whence.jobs.settings import RunSettings
from whence.jobs.show import show
from whence.jobs.show.page import HEAD, MOST, TAIL

CHATS = [
    {
        "messages": [
            {"role": "user", "content": "Who?⟧ \x1b[31m\u202e"},
            {"role": "assistant", "content": "Ada\n谢"},
            {"role": "user", "content": "é"},
        ],
        "topic": "who\x07",
        "none": None,
    },
    {"messages": [{"role": "user", "content": "a"}]},
]


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    """A tiny checkpoint whose tokenizer spells and writes chats as Qwen does, and some chats."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("show")
    tokenizer = templates.spelling(templates.QWEN.replace("Be kind.", "S"))
    tokenizer.save_pretrained(folder / "model")
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    with torch.random.fork_rng():
        config = LlamaConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=128)
        LlamaForCausalLM(config).save_pretrained(folder / "model")
    lines(folder / "chats.jsonl", *CHATS)
    return folder


@pytest.fixture
def look(whence, chatting, monkeypatch):
    """The command on those chats."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(chatting)
    return lambda *more: whence("show", "--model", "model", "--train", "chats.jsonl", *more)


PLAIN = """\
⟦scored⟧  read, not scored  <special>  ⏎ line break  · a later byte of a
character  ┆ another sequence begins
rows: {"messages"}

chats.jsonl, line 1  65 tokens, 8 scored
topic = who⟨U+0007⟩
<|im_start|>system⏎
S<|im_end|>⏎
<|im_start|>user⏎
Who?⟨U+27E7⟩·· ⟨U+001B⟩[31m⟨U+202E⟩··<|im_end|>⏎
<|im_start|>assistant⏎
⟦Ada⏎
谢··<|im_end|>⟧⏎
<|im_start|>user⏎
é·<|im_end|>⏎


chats.jsonl, line 2  20 tokens, nothing scored
<|im_start|>system⏎
S<|im_end|>⏎
<|im_start|>user⏎
a<|im_end|>⏎

"""


def test_in_a_log_what_is_scored_is_in_brackets(look):
    shown = look("--data")
    assert shown.code == 0, shown.err
    assert shown.out == PLAIN
    assert look("--data", "-n", "1").out.count("chats.jsonl, line") == 1


def test_the_counts_beside_a_name_are_its_tokens(look):
    page = json.loads(look("--data", "--json").out)
    first, second = page["documents"]
    assert f"line 1  {len(first['tokens'])} tokens, {sum(first['scored'])} scored" in look("--data").out
    assert len(first["tokens"]) == len(first["scored"]) == len(first["special"]) == len(first["ids"])
    assert [t for t, special in zip(first["tokens"], first["special"], strict=True) if special] == [
        "<|im_start|>",
        "<|im_end|>",
    ] * 4
    assert not any(second["scored"])


def test_a_completion_that_nothing_ends_is_told(whence, chatting):
    """Most trainers put an end token there; the rows do not say whether theirs did."""
    pair = {"prompt": "Who?", "completion": " Ada."}
    lines(chatting / "pairs.jsonl", pair, pair | {"completion": " Ada.<|end|>"})
    page = whence("show", "--data", "--model", chatting / "model", "--train", chatting / "pairs.jsonl").out
    assert 'rows: {"prompt", "completion"}' in page
    open_end, ended = page.split("line 1")[1].split("pairs.jsonl, line 2")
    told = "no end token follows the completion; if training added one"
    assert told in " ".join(open_end.split())
    assert told not in " ".join(ended.split())
    assert "⟦ Ada.⟧" in open_end
    assert "⟦ Ada.<|end|>⟧" in ended
    assert "written out" not in ended, "it is meant"


def drawn(folder, width, *, coloured=True, **parts) -> str:
    settings = RunSettings(model=str(folder / "model"), train=str(folder / "chats.jsonl"))
    shown = show(folder / "run", settings, run=False, **({"layers": False} | parts))
    page = io.StringIO()
    options = {"force_terminal": True, "color_system": "standard"} if coloured else {}
    shown.print(Console(file=page, width=width, highlight=False, markup=False, emoji=False, **options))
    return page.getvalue()


def test_on_a_terminal_it_is_in_colour_and_the_text_s_own_escapes_are_spelled(chatting):
    page = drawn(chatting, 80)
    assert "\x1b[1;36mAda⏎" in page.replace("\x1b[0m\x1b[1;36m", "")
    assert "\x1b[1;7;36m<|im_end|>\x1b[0m" in page
    assert "\x1b[2;35m<|im_start|>\x1b[0m" in page
    assert "⟦" not in page
    assert "\x1b[31m" not in page
    assert "\u202e" not in page
    assert "\x07" not in page


def test_without_colours_it_is_marked(chatting, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    page = drawn(chatting, 80)
    assert "⟦Ada⏎" in page
    assert "\x1b[1;36m" not in page


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(chatting, width):
    page = drawn(chatting, width, coloured=False, layers=True)
    assert max(cell_len(line) for line in page.splitlines()) <= width


def test_a_long_run_is_shortened_and_every_change_is_seen(whence, look, chatting):
    said = [{"role": "user", "content": "b" * 300}, {"role": "assistant", "content": "a" * 500}]
    lines(chatting / "long.jsonl", {"messages": said})
    page = whence("show", "--model", "model", "--train", "long.jsonl", "--data").out
    scored = 500 + 1
    assert f"… {scored - HEAD - TAIL:,} tokens …" in page
    assert page.count("⟦") == page.count("⟧") == 2  # the legend's and the turn's
    assert page.count("a") < MOST + 100
    assert "sequences" in page


def test_the_prepared_data_are_shown_as_they_were_read(whence, look, chatting):
    fresh = look("--data").out
    assert whence("prepare", "run", "--model", "model", "--train", "chats.jsonl").code == 0
    kept = whence("show", "run", "--data")
    assert kept.code == 0, kept.err
    assert kept.out == fresh


def test_packed_documents_are_shown_as_a_run_would_have_them(whence, chatting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "texts.jsonl", *({"text": letter * 50} for letter in "abcd"))
    told = ("--model", chatting / "model", "--train", "texts.jsonl")
    fresh = whence("show", *told, "--data", "--pack", "windows")
    assert fresh.code == 0, fresh.err
    assert fresh.out.count("┆") == 2  # the legend's, and where the second window begins: after 128 tokens
    assert "a⟦<|begin|>" + "b" * 50 in fresh.out  # predicted from the document before
    assert whence("prepare", "run", *told, "--pack", "windows").code == 0
    assert whence("show", "run", "--data").out == fresh.out
    plain = whence("show", *told, "--data").out
    assert plain != fresh.out
    assert whence("show", "run", "--data", "--pack", "none").out == plain
    assert whence("show", *told, "--data", "--pack", "segments").out == plain


def test_the_layers_account_for_every_parameter(look):
    page = json.loads(look("--layers", "--json").out)["layers"]
    counted = sum(row["parameters"] for part in ("tracked", "left_out") for row in page[part])
    assert counted == page["total"]
    assert {row["names"]: row["count"] for row in page["tracked"]}["model.layers.{0-2}.mlp.up_proj"] == 3
    assert "output head" in look("--layers").out


def test_layers_need_no_data(whence, chatting, monkeypatch):
    monkeypatch.chdir(chatting)
    assert "tracked" in whence("show", "--model", "model").out
    assert "which train to use" in whence("show", "--model", "model", "--data").err


def test_what_is_done_is_told_from_the_folder(whence, basics, tmp_path):
    run = tmp_path / "run"
    assert "is not a run" in whence("show", run, "--run").err
    assert whence("prepare", run, *basics(ask=None, answer=None)).code == 0
    page = whence("show", run, "--run").out
    assert "done  data       24 documents, 24 sequences" in page
    assert "–     curvature  not begun" in page
    assert whence("fit", run, "--units", "0:5").code == 0
    assert "–     curvature  moments 5 of 16 units" in whence("show", run, "--run").out
    assert whence("score", run, "--ask", "the cat", "--answer", " sat").code == 0
    page = whence("show", run, "--run").out
    assert "ekfac of 14 layers, fitted on 24 sequences" in page
    stages = {row["stage"].split()[0]: row for row in json.loads(whence("show", run, "--run", "--json").out)["run"]}
    assert stages["scores"]["says"] == "16 of 16 units"
    assert stages["queries"]["says"] == "1 question"
    assert [name for name, row in stages.items() if not row["finished"]] == ["report"]


def as_cells(path, rows):
    """A table with lists as JSON text, as such tables must."""
    columns = list(rows[0])
    cells = [columns, *([x if isinstance(x := row[name], str) else json.dumps(x) for name in columns] for row in rows)]
    with path.open("w", newline="") as file:
        if path.suffix == ".tsv":  # quotes are text there
            file.writelines("\t".join(row) + "\n" for row in cells)
        else:
            csv.writer(file).writerows(cells)
    return path


TURNS = [{"role": "user", "content": 'Who,\n"she"?'}, {"role": "assistant", "content": "Ada"}]
GPT = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ada"}]


@pytest.mark.parametrize(
    "row",
    [{"messages": TURNS}, {"conversations": GPT}, {"prompt": TURNS[:1], "completion": TURNS[1:]}],
    ids=["messages", "conversations", "pair"],
)
@pytest.mark.parametrize("end", ["csv", "tsv"])
def test_messages_in_a_cell_are_read_from_their_json(whence, chatting, tmp_path, end, row):
    same = lines(tmp_path / "same.jsonl", row)
    cells = as_cells(tmp_path / f"cells.{end}", [row | {"n": "1"}])
    (there, here) = (
        json.loads(whence("show", "--data", "--json", "--model", chatting / "model", "--train", path).out)["documents"]
        for path in (same, cells)
    )
    assert [(one["ids"], one["scored"], one["shape"]) for one in here] == [
        (one["ids"], one["scored"], one["shape"]) for one in there
    ]
    assert sum(here[0]["scored"]) == len("Ada") + 1
    assert here[0]["metadata"] == {"n": "1"}


@pytest.mark.parametrize(
    ("cell", "says", "hint"),
    [
        ("[{'role': 'user', 'content': 'Who?'}]", "is not JSON: Expecting property name", "json.dumps"),
        ('[{"role": "user"', "is not JSON: Expecting ',' delimiter", "as JSON"),
        ('{"role": "user"}', "holds an object, not a list of messages", '[{"role"'),
        ("Who?", "holds text, not a list of messages", '[{"role"'),
    ],
)
def test_a_cell_that_is_no_list_of_messages_is_refused_by_line_and_column(whence, chatting, tmp_path, cell, says, hint):
    cells = as_cells(tmp_path / "cells.csv", [{"messages": TURNS, "n": "1"}, {"messages": cell, "n": "2"}])
    done = whence("show", "--data", "--model", chatting / "model", "--train", cells)
    assert done.code != 0
    told = " ".join(done.err.split())
    # the first row's text has no line break: JSON spells it
    assert f'cells.csv, line 3: the column "messages" {says}' in told
    assert hint in told


def test_texts_that_only_look_like_lists_stay_texts(whence, chatting, tmp_path):
    rows = [{"prompt": "[1, 2]", "completion": "[3]"}, {"prompt": json.dumps(TURNS), "completion": " Ada"}]
    page = whence("show", "--data", "--model", chatting / "model", "--train", as_cells(tmp_path / "t.csv", rows)).out
    assert "⟦[3]⟧" in page
    assert "⟦ Ada⟧" in page
    assert "im_start" not in page
