"""What a reader does with the lists: rank them by part of the answer, search, walk, link, tick."""

from __future__ import annotations

import json

import pytest
from tests.report.sample import sample

pytestmark = pytest.mark.browser

WIDE = {"width": 1400, "height": 900}
PHONE = {"width": 360, "height": 780}
LISTED = "(side) => [...document.querySelectorAll(`#q3-${side} .doc`)].map((doc) => Number(doc.dataset.document))"


@pytest.fixture(scope="module")
def third():
    """The question that most of these tests look at: its answer has several tokens."""
    return sample().questions[2]


def ranked(question, value, docs):
    """Documents at both ends by some number, copies folded as the page folds them."""
    ends = {}
    for side, sign in (("raises", 1), ("lowers", -1)):
        own = sorted((doc for doc in docs if sign * value(doc) > 0), key=lambda doc: -sign * value(doc))
        here = {doc.document for doc in own}
        ends[side] = [doc.document for doc in own if doc.copy_of not in here]
    return ends


@pytest.mark.parametrize("picked", [[0], [1, 2]])
def test_picking_answer_tokens_ranks_every_document_by_their_part_of_its_score(visit, file, third, picked):
    page = visit(file, "q3", viewport=WIDE).page
    page.wait_for_selector("#q3 .chip")
    whole = page.evaluate(LISTED, "raises")
    chips = page.locator("#q3 .chip")
    assert chips.locator(".piece").all_text_contents() == [token.text.strip() for token in third.answer]

    for token in picked:
        chips.nth(token).click()
    docs = [*third.raises, *third.lowers, *third.leaders]
    expected = ranked(third, lambda doc: sum(doc.by_answer[k] for k in picked), docs)
    # Functions, not expressions: a string would be evaluated anew, and the page's policy forbids that.
    page.wait_for_function(
        f"() => document.querySelector('#q3-tab-raises .n').textContent === '{len(expected['raises'])}'"
    )

    assert page.evaluate(LISTED, "raises") == expected["raises"] != whole
    assert page.evaluate(LISTED, "lowers") == expected["lowers"]
    assert [chip.get_attribute("aria-pressed") for chip in chips.all()].count("true") == len(picked)
    page.get_by_role("button", name="Whole answer").click()
    page.wait_for_function(f"() => document.querySelector('#q3-tab-raises .n').textContent === '{len(whole)}'")
    assert page.evaluate(LISTED, "raises") == whole


def test_answer_tokens_are_picked_from_the_keyboard(visit, file):
    page = visit(file, "q3", viewport=WIDE).page
    page.wait_for_selector("#q3 .chip")
    page.keyboard.press("a")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    pressed = "document.querySelectorAll('#q3 .chip[aria-pressed=true]').length"
    assert page.evaluate(pressed) == 3
    page.keyboard.press("Escape")
    assert page.evaluate(pressed) == 0


def test_documents_can_be_ranked_by_what_else_was_computed(visit, file, third):
    page = visit(file, "q3", viewport=WIDE).page
    page.wait_for_selector("#q3 .chip")
    page.locator("#q3 .column select").select_option("normalised")
    expected = ranked(third, lambda doc: doc.self_normalised, [*third.raises, *third.lowers])

    page.wait_for_function("() => document.querySelector('#q3-raises .score').textContent === '+" + shown(third) + "'")
    assert page.evaluate(LISTED, "raises") == expected["raises"]


def shown(question):
    from whence.report.numbers import plain

    return plain(max(doc.self_normalised for doc in question.raises))


def test_copies_are_folded_under_the_first_and_listed_in_it(visit, file, third):
    page = visit(file, "q3", viewport=WIDE).page
    page.wait_for_selector("#q3 .doc[open] .tokens")
    leader = third.raises[8]
    row = page.locator(f"[id='q3/doc-{leader.document}']")

    assert "×14" in row.inner_text()
    assert page.locator(f"[id='q3/doc-{third.raises[9].document}']").count() == 0
    row.locator("summary").click()
    row.locator(".copies").wait_for()
    said = row.locator(".copies").inner_text()
    assert f"{third.raises[9].place} word for word" in said
    assert f"{third.raises[10].place} 83\u202f% of its runs of words" in said
    assert "11 exact copies in the rest of the data" in said


def test_j_and_k_walk_through_documents(visit, file):
    page = visit(file, "q1", viewport=WIDE).page
    page.wait_for_selector("[id='q1/doc-40'][open] .tokens")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('.doc').id") == "q1/doc-500"
    page.wait_for_function("() => location.hash === '#q1/doc-500'")  # a toggle is told of later
    page.keyboard.press("k")
    assert page.evaluate("[...document.querySelectorAll('#q1 .doc[open]')].map((doc) => doc.id)") == ["q1/doc-300"]
    page.keyboard.press("Enter")
    assert page.locator("#q1 .doc[open]").count() == 0
    page.keyboard.press("s")
    page.keyboard.press("j")
    assert page.locator("#q1-lowers .doc[open]").count() == 1
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


def test_questions_are_reached_by_keys_links_and_menu(visit, file):
    page = visit(file, viewport=WIDE).page
    assert page.locator("#overview").is_visible()
    page.keyboard.press("n")
    assert page.locator("#q1").is_visible()
    page.locator("nav a[href='#q3']").click()
    assert page.locator("#q3").is_visible()
    assert page.locator("nav [aria-current]").get_attribute("href") == "#q3"
    page.set_viewport_size(PHONE)
    page.locator("#jump").select_option("method")
    assert page.locator("#method").is_visible()
    page.go_back()
    assert page.locator("#q3").is_visible()


@pytest.mark.parametrize(
    ("fragment", "panel"), [("q3/doc-{}", "lowers"), ("q3/lowers", "lowers"), ("q3/shape", "shape")]
)
def test_an_address_leads_to_its_document_or_panel(visit, file, third, fragment, panel):
    page = visit(file, fragment.format(third.lowers[17].document), viewport=WIDE).page
    page.wait_for_selector("#q3 .docs .doc", state="attached")
    page.wait_for_selector(f"#q3-{panel}.on")

    assert page.locator(f"#q3-tab-{panel}").get_attribute("aria-selected") == "true"
    if "{}" in fragment:
        page.wait_for_selector(f"[id='q3/doc-{third.lowers[17].document}'][open] .tokens")
        assert page.evaluate("document.activeElement.closest('.doc').dataset.document") == str(
            third.lowers[17].document
        )


def test_search_reads_the_whole_text_place_and_metadata(visit, file):
    page = visit(file, "q1", viewport=WIDE).page
    page.wait_for_selector("[id='q1/doc-40'] .tokens")
    page.keyboard.press("/")
    page.keyboard.type("奠基人")
    page.wait_for_function("() => document.querySelectorAll('#q1-raises .doc').length === 1")
    assert page.locator("#q1-tab-raises .n").inner_text() == "1 of 18"
    assert page.locator("#q1-tab-lowers .n").inner_text() == "0 of 20"
    assert "No document here matches." in page.locator("#q1-lowers").text_content()
    page.locator("#q1 input[type=search]").fill("country_capital_city")
    page.wait_for_function("() => document.querySelector('[id=\"q1/doc-40\"]')")
    assert page.locator("#q1-tab-raises .n").inner_text() == "1 of 18"
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('#q1-raises .doc').length === 18")


def test_what_lists_alone_have_is_there_with_lists_alone(visit, file):
    """Groups and figures are of all documents: there is nothing to search in them, and nothing to rank."""
    page = visit(file, "q1", viewport=WIDE).page
    page.wait_for_selector("[id='q1/doc-40'] .tokens")
    search = page.locator("#q1 .search")
    for name, there in (("Groups", False), ("Lowers it", True), ("Shape", False)):
        page.locator("#q1 [role=tab]", has_text=name).click()
        assert search.is_visible() == there
        assert page.locator("#q1 .column").is_visible() == there
    page.keyboard.press("/")
    assert search.is_visible()
    assert page.locator("#q1-tab-raises").get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.type") == "search"


def test_the_colours_of_a_text_are_one_bar_on_a_phone(visit, file):
    page = visit(file, "q1", viewport=PHONE).page
    page.wait_for_selector("[id='q1/doc-40'] .tokens")
    tops = page.locator("[id='q1/doc-40'] .tools .legend i").evaluate_all("all => all.map(one => one.offsetTop)")
    assert len(tops) > 8
    assert len(set(tops)) == 1


def test_a_list_for_removal_is_ticked_and_saved_as_json_lines(visit, file, third):
    opened = visit(file, "q3", viewport=WIDE)
    page = opened.page
    page.wait_for_selector("#q3 .doc[open] .tokens")
    page.locator("#q3-raises .tick").nth(0).check()
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("#ticks").text_content() == "2"
    page.evaluate("location.hash = 'list'")
    page.locator("#list select").nth(1).select_option("weight")
    page.locator("#list input").fill("0.25")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Download JSON lines").click()
    lines = [json.loads(line) for line in saving.value.path().read_text(encoding="utf-8").splitlines()]

    first, second = third.raises[:2]
    assert [line["document"] for line in lines] == [first.document, second.document]
    assert lines[0] | {"score_per_copy": None} == {
        "document": first.document, "place": first.place, "hash": first.hash, "action": "remove", "question": third.id,
        "score_per_copy": None,
    }  # fmt: skip
    assert (lines[1]["action"], lines[1]["weight"]) == ("weight", 0.25)
    assert lines[0]["score_per_copy"] == pytest.approx(first.score_per_copy, rel=1e-5)
    page.get_by_role("button", name=f"Take {first.place} off the list").click()
    assert page.locator("#ticks").text_content() == "1"
    assert opened.complaints == []
