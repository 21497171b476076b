"""The file itself: whole, inert, small enough, and faithful to the numbers it was given."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import random
import re
import zlib
from html.parser import HTMLParser

import pytest
from tests.report.sample import HOSTILE, Maker, sample

from whence.report import (
    Agreement,
    AnswerToken,
    Doc,
    Estimate,
    Question,
    Recall,
    RecallRow,
    ReportData,
    Shared,
    Tail,
    Trust,
    Validation,
    render,
)
from whence.report.detail import LEVELS
from whence.report.excerpt import rows
from whence.report.pages import BUDGET, pack, pages


class Elements(HTMLParser):
    """Every tag with its attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def question(docs: list[Doc], **more: object) -> Question:
    defaults = {
        "id": "q", "prompt": "Two and two is", "completion": " four", "raises": docs, "lowers": [], "measurement": -0.5,
        "tokens": ["Two", " and", " two", " is", " four"], "scored": [False] * 4 + [True],
        "tail": Tail.of([0.3, 0.1, -0.2]),
    }  # fmt: skip
    return Question(**(defaults | more))  # type: ignore[arg-type]


def doc(**more: object) -> Doc:
    defaults = {
        "document": 7, "source": "a.jsonl", "row": 3, "place": "a.jsonl, line 4",
        "tokens": ["one", " two", " three"], "score_per_copy": 0.3,
        "score_raw": 30.0, "percentile": 99.0, "by_token": [0.1, 0.2, 0.0],
    }  # fmt: skip
    return Doc(**(defaults | more))  # type: ignore[arg-type]


def opened(text: str):
    return json.loads(zlib.decompress(base64.b64decode(text), -15))


def first_text(asked: Question) -> dict:
    return opened(pack(asked).texts[0])[0]


def test_the_policy_names_every_script_and_style_and_nothing_else(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    inline = [text for _, text in re.findall(r"<(script|style)>(.*?)</\1>", html, re.DOTALL)]
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inline}

    assert set(re.findall(r"'sha256-[^']+'", policy)) == digests
    assert len(inline) == 3
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_the_file_refers_to_nothing_outside_itself(html):
    for tag, attributes in Elements(html).tags:
        assert tag not in {"iframe", "object", "embed", "base", "img", "video", "audio", "source", "form"}
        assert "src" not in attributes
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))


def test_hostile_text_makes_no_elements():
    """The same report with every hostile string made tame has the same elements."""
    data = sample(questions=12, docs=4)
    tame = ReportData(**{field.name: _tamed(getattr(data, field.name)) for field in dataclasses.fields(data)})

    hostile_tags = [tag for tag, _ in Elements(render(data)).tags if tag not in {"span", "bdi"}]

    assert hostile_tags == [tag for tag, _ in Elements(render(tame)).tags if tag not in {"span", "bdi"}]


def _tamed(value):
    if isinstance(value, str):
        return re.sub(r"[<>&\"'`{}]", "x", value)
    if isinstance(value, list):
        return [_tamed(item) for item in value]
    if isinstance(value, dict):
        return {_tamed(key): _tamed(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return type(value)(**{field.name: _tamed(getattr(value, field.name)) for field in dataclasses.fields(value)})
    return value


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_wherever_it_is_put(text):
    hostile = question(
        [doc(source=text, tokens=["a", text, "b"], metadata={text: text})], id=text, prompt=text, completion=text,
        tokens=[text], scored=[True], rather_than=text,
    )  # fmt: skip
    data = ReportData(
        title=text, created=text, questions=[hostile, hostile], sentence=text, method={text: text}, command=text,
        notes=[text], warnings=[text],
        provenance={text: {text: text}},
    )  # fmt: skip
    html = render(data)

    assert sum(tag == "script" for tag, _ in Elements(html).tags) == 6  # early, an index and a text each, the script
    assert not any(mark in html for mark in "\u2028\u2029\u202e\x00\x1b\ufeff\u200b")
    assert "<img" not in html
    assert "<svg/onload" not in html


def test_the_sample_is_small_enough(html):
    assert len(html.encode()) < 4_000_000


def test_a_crowded_report_holds_less_of_its_less_influential_documents_and_says_so(monkeypatch):
    """As much room a question as 50 questions of 200 documents have; every number, place and rank is still there."""
    crowded = [crowd(number) for number in range(2)]
    room = BUDGET * len(crowded) // 50
    monkeypatch.setattr("whence.report.pages.BUDGET", room)

    packed, detail = pages(crowded)

    assert detail in LEVELS[1:]
    assert sum(map(len, packed)) <= room
    assert all(len(opened(one.index)["docs"]) == 200 for one in packed)
    first, last = opened(packed[1].texts[0])[0], opened(packed[1].texts[-1])[-1]
    assert first["views"]
    assert "heat" in first
    assert last["views"] == {}
    assert sum(last["cut"]) + len(last["tokens"]) == len(crowded[1].lowers[-1].tokens)
    told = f"It holds {detail}."
    assert told in _shown(render(ReportData(title="t", created="now", questions=crowded)))
    assert "kept small" not in _shown(render(ReportData(title="t", created="now", questions=[question([doc()])])))


def crowd(number: int) -> Question:
    """A question of 200 documents of 240 tokens; the same text serves several, as training data do."""
    draw = random.Random(number)
    words = [" " + "".join(draw.choices("abcdefghij", k=4)) for _ in range(300)]

    def one(rank: int, sign: float) -> Doc:
        values = [draw.gauss(0, 1) ** 3 for _ in range(240)]
        return doc(
            document=1000 * number + rank, tokens=draw.choices(words, k=240), by_token=values,
            score_per_copy=sign / (1 + rank), heat=[values] * 6, output_tokens=values, input_tokens=values,
            by_layer=[0.1] * 8,
        )  # fmt: skip

    sides = [[one(rank, sign) for rank in range(100 * k, 100 * k + 100)] for k, sign in enumerate((1.0, -1.0))]
    return question(sides[0], lowers=sides[1], layers=["l"] * 8, groups=["g"] * 6, group_of=[0] * 8)


def test_the_words_shared_keep_their_place_where_a_text_is_cut():
    asked = crowd(0)
    last = asked.lowers[-1]
    peak = max(range(239), key=lambda k: -last.by_token[k]) + 1
    run = Shared(document=(peak, peak + 1), question=(1, 2), words=1)
    marked = dataclasses.replace(asked, lowers=[*asked.lowers[:-1], dataclasses.replace(last, shared=[run])])

    text = opened(pack(marked, LEVELS[-1]).texts[-1])[-1]

    [[start, stop, *question_tokens]] = text["shared"]
    assert text["tokens"][start:stop] == last.tokens[peak : peak + 1]
    assert question_tokens == [1, 2]


def test_scores_of_answer_tokens_reach_the_page_as_they_are():
    said = [AnswerToken(text=" fo", log_p=-0.2, position=3), AnswerToken(text="ur", log_p=-0.3, position=4)]
    index = opened(pack(question([doc(by_answer=[0.5, -0.2])], answer=said)).index)

    assert index["docs"][0]["by"] == [0.5, -0.2]
    assert [token["p"] for token in index["answer"]] == [-0.2, -0.3]


def test_a_document_at_both_ends_or_leading_for_a_token_is_packed_once():
    both = doc()
    index = opened(pack(question([both], lowers=[both], leaders=[doc(document=8)])).index)

    assert [one["id"] for one in index["docs"]] == [7, 8]
    assert (index["raises"], index["lowers"]) == ([0], [0])


def test_rendering_twice_gives_the_same_file():
    assert render(sample(questions=2, docs=8)) == render(sample(questions=2, docs=8))


def test_report_data_is_json():
    json.dumps(dataclasses.asdict(sample(questions=1, docs=8)))


def test_the_value_of_a_position_is_shown_on_the_next_token():
    content = first_text(question([doc(output_tokens=[0.3, 0.6, 0.0], input_tokens=[0.5, 0.0, -0.5])]))
    shown = {name: [round(view["step"] * k, 3) for k in view["values"]] for name, view in content["views"].items()}

    assert shown == {"gradient": [0.0, 0.1, 0.2], "output": [0.0, 0.3, 0.6], "input": [0.5, 0.0, -0.5]}
    assert content["views"]["gradient"]["sum"] == pytest.approx(0.3)


def test_values_survive_the_page_to_a_ten_thousandth_of_the_largest():
    made = Maker(3).doc("The quick brown fox jumps over the lazy dog. " * 5, 0.02, 1)
    asked = question([made], layers=list(Maker.layers), groups=list(Maker.groups))
    content = first_text(asked)
    view = content["views"]["gradient"]
    top = max(map(abs, made.by_token))

    for sent, value in zip(view["values"][1:], made.by_token, strict=False):
        assert abs(sent * view["step"] - value) <= 0.51e-4 * top
    for row, values in zip(content["heat"]["rows"], made.heat, strict=True):
        top = max(abs(value) for group in made.heat for value in group)
        for sent, value in zip(row[1:], values, strict=False):
            assert abs(sent * content["heat"]["step"] - value) <= top / 250


@pytest.mark.parametrize(
    "wrong",
    [
        {"by_token": [1.0]},
        {"output_tokens": [1.0] * 4},
        {"input_tokens": [1.0] * 2},
        {"heat": [[1.0]]},
        {"by_layer": [1.0]},
        {"scored": [True]},
        {"by_answer": [1.0]},
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"document 7 of 3 tokens: .*{next(iter(wrong))}"):
        render(ReportData(title="t", created="now", questions=[question([doc(**wrong)])]))


def test_numbers_that_are_not_numbers_are_shown_as_missing():
    numbers = {"score_per_copy": math.nan, "score_raw": math.inf, "cosine": math.nan, "percentile": math.nan}
    sick = doc(**numbers, by_token=[math.nan, math.inf, 0.0])

    html = render(ReportData(title="t", created="now", questions=[question([sick])]))

    text = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|infinity)\b", text.lower())


def test_empty_states_say_what_is_missing():
    bare = question([], tail=Tail.of([-1.0, -2.0]))
    html = render(ReportData(title="t", created="now", questions=[bare]))

    for words in ("No document in this run raises this answer.", "No document in this run lowers this answer.",
                  "No document has positive influence.", "not validated", "Coverage was not recorded.",
                  "No other damping was tried.",
                  "The command was not recorded."):  # fmt: skip
        assert words in html
    assert "No questions" in render(ReportData(title="t", created="now", questions=[]))


def test_a_document_without_parts_is_still_a_document():
    html = render(
        ReportData(title="t", created="now", questions=[question([doc(by_token=[]), doc(tokens=[], by_token=[])])])
    )

    assert "one two three" in html


def test_the_excerpt_is_about_the_peak_and_says_what_it_leaves_out():
    long = doc(tokens=["w "] * 2000, by_token=[0.0] * 1499 + [1.0] + [0.0] * 500)
    quote = rows(question([long]), [long], 1)[0].line

    assert quote.before
    assert quote.after
    assert "p8" in [run.style for run in quote.runs]
    assert len(quote.text) <= 150


def test_leaving_out_a_special_token_is_no_omission():
    whole = doc(tokens=["<s>", " Once", " upon", "</s>"], by_token=[0.1, 0.2, 0.0, 0.0])
    quote = rows(question([whole]), [whole], 1)[0].line

    assert (quote.text, quote.before, quote.after) == (" Once upon", False, False)


def test_two_turns_do_not_run_together_where_a_special_token_is_left_out():
    chat = doc(tokens=["<s>", "Hi", ".", "</s>", "<s>", "Once", " more", "</s>", "<s>", "\nNo"], by_token=[0.1] * 10)
    quote = rows(question([chat]), [chat], 1)[0].line

    assert quote.text == "Hi. Once more\nNo"


def test_the_tail_keeps_ranks_among_all_documents():
    tail = Tail.of([5.0, 4.0, -1.0, 0.0] + [1.0] * 396)

    assert (tail.n, tail.positive, tail.ranks[:2], tail.ranks[-1]) == (400, 398, [1, 2], 398)
    assert tail.share_top_1pct == pytest.approx((5 + 4 + 1 + 1) / 405)
    assert Tail.of([]).positive == 0


@pytest.mark.parametrize("scores", [[1.0], [1.0, 1.0, 1.0], [1e-300, 1.0], [1e308, 1e-5], [0.0]])
def test_any_tail_can_be_packed(scores):
    json.loads(json.dumps(opened(pack(question([doc()], tail=Tail.of(scores))).index)["tail"], allow_nan=False))


def _shown(html: str) -> str:
    """What the page says, its scripts and style left off."""
    return " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_only_a_question_with_a_planted_document_is_said_to_have_one():
    found, absent, free = (question([doc()], planted=planted) for planted in (7, 8, None))

    text = _shown(render(ReportData(title="t", created="now", questions=[found, absent, free])))

    assert text.count("planted at rank 1") == 1
    assert text.count("planted not listed") == 1
    assert text.count("line 4 planted") == 1


def test_trust_says_what_the_scores_were_checked_against():
    recall = Recall(rows=[RecallRow(method="EK-FAC", at_1=0.75, at_10=1.0)], questions=8)
    checked, bare = (
        _shown(render(ReportData(title="t", created="now", questions=[question([doc()])], recall=known)))
        for known in (recall, None)
    )

    assert "EK-FAC has recall@1 0.75" in checked
    assert "Not validated against retraining" in checked
    assert "any other measure of truth" not in checked
    assert "any other measure of truth" in bare


def test_a_validation_takes_the_place_of_the_words_not_validated():
    own = Agreement("EK-FAC", Estimate(0.41))
    trust = Trust(validations=[Validation(name="lds", text="Retraining.", measure="Spearman", rows=(own,))])

    text = _shown(render(ReportData(title="t", created="now", questions=[question([doc()])], trust=trust)))

    assert "not validated" not in text.lower()
    assert "validated: lds" in text
    assert "EK-FAC 0.41" in text


def test_a_limit_is_mentioned_where_it_was_used():
    limited = ReportData(title="t", created="now", questions=[], trust=Trust(limit=50))

    assert "--limit 50" in _shown(render(limited))
    assert "--limit" not in _shown(render(ReportData(title="t", created="now", questions=[])))


def test_scores_that_no_answer_can_gain_are_said_to_be_out_of_range():
    far = question([doc(score_per_copy=0.9)], out_of_range=2)

    text = _shown(render(ReportData(title="t", created="now", questions=[far, question([doc()])])))

    assert text.count("The sizes here are out of range.") == 1
    assert "2 documents are predicted to raise it by more, the first by +0.900" in text
    assert "In 1 of 2 questions ( 1 ) a score is above −log p(answer)" in text


def test_the_noise_of_scores_is_told_as_a_range_over_questions():
    quiet, loud = question([doc()], noise=0.01), question([doc()], noise=0.02)

    one, two = (
        _shown(render(ReportData(title="t", created="now", questions=asked))) for asked in ([loud], [quiet, loud])
    )

    assert "uncertain by about ± 0.0200 nats per copy" in one
    assert "uncertain by about ± 0.0100 to ± 0.0200 , question by question, in nats per copy" in two
