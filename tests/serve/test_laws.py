"""What a page says is what the run holds: searches against scans, documents against the matrix of scores, rankings."""

import json
import re
import shutil
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.conftest import toy
from tests.serve.conftest import ASKED, DOCUMENTS, PAIRS, Served, rows

import whence as wh
from whence.jobs.opened.shown import read_shown
from whence.jobs.run import run as job
from whence.jobs.serve.columns import Chosen, chosen_of, columns_of, documents_of
from whence.jobs.serve.document import text_of, values_of
from whence.jobs.serve.explored import Explored, Wanted
from whence.jobs.serve.order import PAGE, Ranking, moved_by, slice_of
from whence.jobs.serve.search import TextIndex, fold, words_of
from whence.jobs.settings import RunSettings

__all__ = ["toy"]


@pytest.fixture(scope="module")
def explored(folder):
    explored = Explored(folder / "geography")
    assert explored.text.ready(60)
    return explored


@pytest.fixture(scope="module")
def texts(run):
    """Every document as text, folded by other means than the index's own."""
    plain = [run.document(number).text for number in range(DOCUMENTS)]
    return [" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in plain]


def scanned(texts, words):
    return [number for number, text in enumerate(texts) if all(word in text for word in words)]


SEARCHES = [
    *[
        "paris",
        "PARIS",
        "capital paris",
        '"capital of  france"',
        "パリ",
        "フランス",
        "باريس",
        "👩🏽‍🚀",
        "STRASSBURG",
        "strass",
    ],
    *["<script>", "überwachungs", "9", ", 1", "zebra", '"', "a", "ｐａｒｉｓ", "\\", "%", "the the"],
]


@pytest.mark.parametrize("asked", SEARCHES)
def test_a_search_finds_what_a_scan_finds(explored, texts, asked):
    found = explored.text.find(words_of(asked)).documents

    assert found.tolist() == scanned(texts, words_of(asked))


@given(st.data())
def test_a_search_finds_every_piece_of_every_document(explored, texts, data):
    text = texts[data.draw(st.integers(0, DOCUMENTS - 1))]
    start = data.draw(st.integers(0, len(text) - 1))
    word = text[start : start + data.draw(st.integers(1, 12))].strip()
    if not word:
        return
    word = fold(word).strip()  # a piece may begin with half of a composed sign

    assert explored.text.find([word]).documents.tolist() == scanned(texts, [word])


def test_blocks_of_any_size_give_the_same(explored, monkeypatch):
    whole = explored.text.find(["paris", "1"])
    for size in (1, 40, 1000):
        monkeypatch.setattr("whence.jobs.serve.search.BLOCK", size)
        part = explored.text.find(["paris", "1"])
        assert part.documents.tolist() == whole.documents.tolist()
        assert part.match.tolist() == whole.match.tolist()


def test_the_best_match_says_it_most_often_for_its_length(explored):
    """BM25 by its own definition, over letters."""
    word = "1"
    hits = explored.text.find([word])
    lengths = np.array([len(fold(explored.text.reader.text(number))) for number in range(DOCUMENTS)])
    counts = np.array([fold(explored.text.reader.text(number)).count(word) for number in hits.documents])
    n = len(hits.documents)
    rarity = np.log((DOCUMENTS - n + 0.5) / (n + 0.5) + 1)
    weight = counts * 2.2 / (counts + 1.2 * (0.25 + 0.75 * lengths[hits.documents] / lengths.mean()))

    np.testing.assert_allclose(hits.match, rarity * weight)


def test_a_text_that_cannot_be_read_is_told(explored):
    class Torn:
        all_special_ids = ()

        def decode(self, _):
            raise ValueError("no such token")

    index = TextIndex(explored.store, Torn())
    index.begin()

    assert not index.ready(60)
    assert index.problem == "ValueError: no such token"


def column(explored, name):
    return next(one for one in explored.columns if one.name == name)


def test_columns_are_offered_by_what_they_hold(explored):
    kinds = {one.name: one.kind for one in explored.columns}

    assert kinds == {"lang": "choice", "rating": "number", "id": "text", "tags": "choice", "<b>": "text"}
    assert dict(column(explored, "lang").choices) == {name: DOCUMENTS // len(PAIRS) for name in PAIRS}
    assert column(explored, "tags").choices[0] == ("–", DOCUMENTS // 2)


def test_documents_chosen_by_columns_are_those_whose_rows_say_so(explored):
    made = list(rows())
    lang, rating, id_, tags = (column(explored, name) for name in ("lang", "rating", "id", "tags"))
    chosen = [
        ([Chosen(lang, "ja")], lambda row: row["lang"] == "ja"),
        ([Chosen(tags, "–")], lambda row: row["tags"] is None),
        ([Chosen(tags, "geo, ar")], lambda row: row["tags"] == ["geo", "ar"]),
        ([Chosen(rating, None, 3.0, 5.5)], lambda row: 3 <= row["rating"] <= 5.5),
        ([Chosen(id_, "ROW-001")], lambda row: "row-001" in row["id"]),
        ([Chosen(lang, "de"), Chosen(rating, None, 5.0)], lambda row: row["lang"] == "de" and row["rating"] >= 5),
        ([Chosen(id_, "nowhere")], lambda row: False),
    ]
    for some, holds in chosen:
        assert documents_of(explored.store, some).tolist() == [holds(row) for row in made]


def test_an_address_chooses_by_number(explored):
    lang, rating = column(explored, "lang"), column(explored, "rating")
    found = chosen_of(explored.columns, {lang.key: "1", f"{rating.key}.to": "2.5", "page": "3"})

    assert found == [Chosen(lang, lang.choices[1][0]), Chosen(rating, None, -np.inf, 2.5)]


def test_columns_do_not_depend_on_how_many_rows_are_read_at_a_time(explored, monkeypatch):
    monkeypatch.setattr("whence.jobs.serve.columns.ROWS_AT_ONCE", 7)

    assert columns_of(explored.store) == explored.columns


def test_a_document_s_questions_are_its_column_of_the_matrix(explored, run, monkeypatch):
    matrix = run.documents / run.train_size
    for size in (4_000_000, 1):
        monkeypatch.setattr("whence.jobs.serve.order.AT_ONCE", size)
        for document in (0, 17, DOCUMENTS - 1):
            moved = moved_by(run.answers, document, run.store)

            assert {one.question: one.per_copy for one in moved} == dict(enumerate(matrix[:, document]))
            assert [one.per_copy for one in moved] == sorted(matrix[:, document], reverse=True)
            for one in moved:
                row = matrix[one.question]
                assert one.below == pytest.approx((row < one.per_copy).mean())
                assert one.rank == 1 + (row > one.per_copy).sum()


@pytest.mark.parametrize("question", range(len(ASKED)))
def test_a_ranking_is_the_run_s_own(explored, run, question):
    ranking = Ranking.of(run.answers, question, run.store)

    assert [row["document"] for row in run.top(DOCUMENTS, question)] == ranking.highest.tolist()
    assert [row["document"] for row in run.bottom(DOCUMENTS, question)] == ranking.lowest.tolist()
    for document in (0, 50):
        assert ranking.below(document) == (ranking.per_copy < ranking.per_copy[document]).mean()
        assert ranking.rank(document) == 1 + (ranking.per_copy > ranking.per_copy[document]).sum()


@given(st.integers(0, 4 * PAGE))
def test_pages_are_a_partition(total):
    pages = [slice_of(range(total), number) for number in range(1, slice_of(range(total), 1).pages + 1)]

    assert [item for page in pages for item in page.items] == list(range(total))
    assert [page.next is None for page in pages] == [False] * (len(pages) - 1) + [True]
    assert pages[0].previous is None
    assert not slice_of(range(total), len(pages) + 1).items


def listed(served, address):
    """Every document that the pages of a list link to, page after page."""
    found, page, more = [], 1, True
    while more:
        text = served.of(f"{address}{'&' if '?' in address else '?'}page={page}").text
        found += [int(number) for number in re.findall(r'class="line"[^>]* href="[^"]*/document/(\d+)', text)]
        more, page = 'rel="next"' in text, page + 1
    return found


@pytest.mark.parametrize(("sort", "end"), [("raises", "top"), ("lowers", "bottom")])
def test_the_pages_of_a_question_are_the_whole_ranking(served, run, sort, end):
    whole = getattr(run, end)(DOCUMENTS, 1)

    assert listed(served, f"question/1?sort={sort}") == [row["document"] for row in whole]


def test_sizes_that_no_answer_can_have_are_called_so(folder, run, tmp_path):
    """As the command and the report do; and sets of questions are told apart by their damping."""
    shutil.copytree(folder / "geography", tmp_path / "geography")
    for number, path in enumerate(sorted((tmp_path / "geography" / "answers").glob("*/answers.json"))):
        kept = json.loads(path.read_text())
        kept |= {"measurement": [-1e-4, *kept["measurement"][1:]], "damping": f"0.{number + 1}"}
        path.write_text(json.dumps(kept))
    certain = Served(tmp_path)
    count = int((run.raw(0) / run.train_size > 1e-4).sum())
    assert count
    assert (
        "Read these as a ranking, their size is out of range: log p(answer) is -0.0001" in certain.of("question/0").text
    )
    assert f"yet {count} document" in certain.of("question/0").text
    assert "Read these as a ranking" not in certain.of("question/1").text
    assert {"damping 0.1", "damping 0.2"} == set(re.findall(r"UTC, (damping [\d.]+):", certain.of("").text))
    certain.end()


def test_the_pages_of_a_search_are_all_that_was_found(served, explored, texts):
    found = listed(served, f"documents?q={quote('1')}&sort=data")

    assert len(found) > PAGE
    assert found == scanned(texts, ["1"])


def test_a_search_among_a_question_s_documents_keeps_their_order(served, run, texts):
    found = listed(served, "question/2?q=paris")
    whole = [row["document"] for row in run.top(DOCUMENTS, 2)]

    assert found == [document for document in whole if "paris" in texts[document]]


def test_copies_are_found(served, run):
    first = run.row(3)["hash"]
    same = [number for number in range(DOCUMENTS) if run.row(number)["hash"] == first]

    assert len(same) == 2
    assert listed(served, "documents?copies=3") == same


@pytest.mark.parametrize("sort", ["longest", "shortest"])
def test_sorted_by_length(explored, sort):
    lengths = [explored.store.row(number)["tokens"] for number in explored.documents(Wanted(sort=sort), None)]

    assert lengths == sorted(lengths, reverse=sort == "longest")


def test_layers_and_tokens_that_were_kept_add_up_to_the_score(explored, run):
    """Of any document, not only of those that the report shows; both are of the first pass, which was at full rank."""
    answers, store = run.answers, run.store
    for question in range(len(ASKED)):
        raw = run.raw(question)
        for document in (0, 5, 40, 100):
            scale = abs(raw).max()
            layers, tokens = (kept(question, document, store) for kept in (answers.layers_of, answers.tokens_of))
            assert layers.sum() == pytest.approx(raw[document], abs=1e-5 * scale)
            assert tokens.sum() == pytest.approx(raw[document], abs=1e-5 * scale)
            assert len(tokens) == len(store.document_tokens(document))
            np.testing.assert_allclose(
                layers, answers.by_layer(question, store)[:, document], atol=1e-5 * scale, rtol=1e-5
            )


def test_tokens_that_were_kept_are_those_of_the_report(explored, run):
    """Where the report explains a document, its positions carry what the pass kept of them."""
    document = run.top(1, 0)[0]["document"]
    shown = read_shown(run.answers.folder, 0, document)

    np.testing.assert_allclose(
        run.answers.tokens_of(0, document, run.store), shown.by_token, atol=1e-4 * abs(shown.by_token).max()
    )


@pytest.fixture(scope="module")
def windowed(toy, tmp_path_factory):
    """A run in which one document, number 23, is longer than the context: it is read in windows."""
    folder = tmp_path_factory.mktemp("windowed") / "run"
    settings = RunSettings(
        model=str(toy / "model"),
        train=str(toy / "train.jsonl"),
        query=str(toy / "ask.jsonl"),
        by=("token", "layer"),
        top=24,
    )
    job(folder, settings)
    return wh.open(folder)


def test_a_document_of_several_windows_has_one_text_and_one_score(windowed, toy):
    answers, store, explored = windowed.answers, windowed.store, Explored(windowed.folder)
    long = 23
    said = json.loads((toy / "train.jsonl").read_text().splitlines()[long])["text"]
    assert len(store.sequences_of(long)) > 1
    assert explored.text.ready(60)
    assert explored.text.reader.text(long) == said
    assert long in explored.text.find(words_of(f'"{said}"')).documents
    for question in range(3):
        raw, shown = windowed.raw(question)[long], read_shown(answers.folder, question, long)
        tokens = answers.tokens_of(question, long, store)
        assert shown.tokens == store.document_tokens(long).tolist()
        assert tokens.sum() == pytest.approx(raw, rel=1e-4)
        assert answers.layers_of(question, long, store).sum() == pytest.approx(raw, rel=1e-4)
        np.testing.assert_allclose(tokens, shown.by_token, atol=1e-4 * abs(shown.by_token).max())


@pytest.mark.parametrize("kept", [True, False])
def test_the_parts_of_a_long_text_are_the_whole(explored, monkeypatch, kept):
    """Cut where the tokens are, coloured or not; a character whose bytes are parted is shown by its bytes."""
    document, answers = 0, explored.asked(None)
    values = values_of(explored, answers, 0, document) if kept else None
    whole = text_of(explored, document, 1, values, None)
    monkeypatch.setattr("whence.jobs.serve.document.PART", 7)
    parts = [text_of(explored, document, part, values, None) for part in range(1, -(-whole.total // 7) + 1)]

    assert "".join(token.text for part in parts for token in part.tokens) == PAIRS["en"]
    assert [part.start for part in parts] == list(range(0, whole.total, 7))
    assert parts[-1].stop == whole.total == whole.stop
    if kept:
        assert [token for part in parts for token in part.tokens] == whole.tokens
        assert {token.style for token in whole.tokens} & {"p8", "n8"}


def test_many_ask_at_once(served):
    """Readers of the files below are not all made for several threads."""
    pages = [
        "",
        "documents?q=paris",
        "document/5",
        "question/1",
        "documents?c1=0&sort=raises",
        "question/0?q=1",
        "progress",
    ]
    with ThreadPoolExecutor(8) as pool:
        one_by_one = {page: served.of(page).text for page in pages}
        together = list(pool.map(lambda page: (page, served.of(page)), pages * 6))

    assert {answer.status for _, answer in together} == {200}
    for page, answer in together:
        if page not in ("", "progress"):  # they say how long ago a job spoke
            assert answer.text == one_by_one[page]
