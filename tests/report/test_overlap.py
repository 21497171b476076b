"""What a document and a question say alike: verbatim runs, copies, scripts."""

from hypothesis import given
from hypothesis import strategies as st

from whence.report.overlap import FEWEST, folded, shared_runs, starts_of
from whence.report.words import script_of, words_of

TEXTS = st.lists(st.sampled_from("abc"), max_size=14)


def tokens(text):
    return [" " + word for word in text.split()]


def runs(document, question, answer=""):
    asked = words_of([*document_tokens(question), *document_tokens(answer)])
    said = words_of(document_tokens(document))
    shared = shared_runs(said, asked, words_of(document_tokens(answer)))
    return ["".join(document_tokens(document)[slice(*run.document)]).strip() for run in shared]


def document_tokens(text):
    return tokens(text)


def test_runs_are_followed_as_far_as_they_go_whatever_the_case_and_the_signs():
    assert runs("the seat of Finland is Helsinki now", "The seat, of FINLAND is", "Helsinki") == [
        "the seat of Finland is Helsinki"
    ]


def test_fewer_than_three_words_count_only_where_they_are_the_whole_answer():
    assert runs("they say Helsinki is nice", "The seat of Finland is", "Helsinki") == ["Helsinki"]
    assert runs("they say Helsinki is nice", "The seat of Finland is", "Helsinki Espoo") == []


def test_words_know_their_tokens_in_any_script_and_in_bytes():
    split = ["<s>", "Tok", "yo", " is ", "東", "<0xE4>", "<0xBA>", "<0xAC>", " القاهرة"]
    found = [(word.text, word.start, word.stop) for word in words_of(split)]

    assert found == [("tokyo", 1, 3), ("is", 3, 4), ("東", 4, 5), ("京", 5, 6), ("القاهرة", 8, 9)]


@given(TEXTS, TEXTS)
def test_every_run_is_in_both_and_is_as_long_as_it_can_be(said, asked):
    document, question = words_of(tokens(" ".join(said))), words_of(tokens(" ".join(asked)))
    for run in shared_runs(document, question):
        (a, b), (c, d) = run.document, run.question
        assert said[a:b] == asked[c:d]
        assert run.words == b - a >= FEWEST
        assert b == len(said) or d == len(asked) or said[b] != asked[d]
    covered = {at for run in shared_runs(document, question) for at in range(*run.document)}
    for at in range(len(said) - FEWEST + 1):
        if starts_of(asked, said[at : at + FEWEST]):
            assert at in covered


STORY = "once upon a time a little girl found a red ball under the old tree and took it home to her mother"


def test_copies_are_folded_under_the_first_and_others_are_not():
    near = STORY.replace("mother", "father")
    texts = {
        0: STORY,
        1: "something else that nobody has said before in this place",
        2: STORY,
        3: near,
        4: "short",
        5: "",
    }
    found = folded(
        list(texts), {n: tokens(text) for n, text in texts.items()}, {n: str(hash(t)) for n, t in texts.items()}
    )

    assert found.keys() == {2, 3}
    assert found[2] == (0, 1.0)
    assert found[3][0] == 0
    assert 0.7 <= found[3][1] < 1


def test_a_template_filled_otherwise_is_no_copy():
    texts = ["the money of Chad is the franc", "the money of Oman is the rial"]
    assert folded([0, 1], dict(enumerate(map(tokens, texts))), {0: "a", 1: "b"}) == {}


def test_scripts_are_told_by_most_letters():
    assert [script_of(text) for text in ("Привет, world", "مرحبا", "안녕하세요", "🎉🎈", "ภาษาไทย")] == [
        "Cyrillic", "Arabic", "Korean", "none", "Thai",
    ]  # fmt: skip
