"""The report as a reader has it: opened from disk in headless Chromium, looked at, hovered over, printed."""

from __future__ import annotations

import functools
import http.server
import threading

import pytest
from tests.report.sample import HOSTILE, filtered, sample
from tests.report.test_render import doc, question

from whence.report import ReportData, render

pytestmark = pytest.mark.browser

WIDE = {"width": 1400, "height": 900}
PHONE = {"width": 360, "height": 780}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE, {"width": 2400, "height": 1200}])
def test_every_view_opens_quietly_and_fits(visit, file, size, scheme):
    opened = visit(file, viewport=size, color_scheme=scheme)
    for fragment in ["overview", "q2", "q1/doc-501", "q12/groups", "q13/shape", "q11", "trust", "method", "list"]:
        opened.page.evaluate("(fragment) => (location.hash = fragment)", fragment)
        opened.page.wait_for_timeout(150)
        assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, fragment

    assert opened.complaints == []
    assert [address.split("#")[0] for address in opened.requests] == [file.as_uri()]


def test_served_over_http_it_asks_for_itself_alone(visit, file):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=file.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        opened = visit(f"http://127.0.0.1:{server.server_port}/{file.name}", "q1")
        opened.page.wait_for_selector(".doc[open] .tokens")
        assert asked == [f"/{file.name}"]
        assert opened.complaints == []
    finally:
        server.shutdown()


def test_what_makes_it_open_at_once(visit, file, html):
    """No document is built or unpacked before its question is opened, and then only the pages in sight."""
    page = visit(file, viewport=WIDE).page
    unpacked = "performance.getEntriesByName('unpacked').length"

    assert page.evaluate("document.querySelectorAll('.doc').length") == 0
    assert page.evaluate(unpacked) == 0
    assert (
        page.evaluate("document.querySelectorAll('*').length") < 150 * 14
    )  # questions: heads, tabs, lines of the overview
    page.evaluate("location.hash = 'q3'")
    page.wait_for_selector("#q3 .doc[open] .tokens")
    assert page.evaluate(unpacked) == 2  # its index, and the texts of its first forty documents
    packed = sum(len(text) for text in page.locator("script[type='text/plain']").all_text_contents())
    assert len(html.encode()) - packed < 40_000 * 14


def test_no_hostile_text_runs_in_any_document(visit, file):
    opened = visit(file, "q12")
    opened.page.wait_for_selector("#q12 .doc[open] .tokens")
    opened.page.evaluate("for (const doc of document.querySelectorAll('#q12-raises .doc')) doc.open = true")
    opened.page.wait_for_timeout(500)
    for key in "gg":  # groups and shape
        opened.page.keyboard.press(key)

    assert opened.complaints == []
    assert HOSTILE[0] in opened.page.locator("[id='q12/doc-500'] .tokens").inner_text()
    assert HOSTILE[1] in opened.page.locator("[id='q12/doc-500'] .meta").inner_text()
    assert opened.page.locator("img, iframe").count() == 0


def test_each_attribution_colours_the_tokens_and_says_which_token_is_credited(visit, file):
    page = visit(file, "q1", viewport=WIDE).page
    text = page.locator("#q1-raises .tokens").first
    convention = page.locator("#q1-raises .convention").first
    before = text.inner_html()

    assert "shown on token t + 1" in convention.inner_text()
    assert "Tokens add up to" in convention.inner_text()
    page.get_by_role("radio", name="Input tokens").first.click()
    assert text.inner_html() != before
    assert "shown on the token itself" in convention.inner_text()


def test_a_token_tells_its_value_and_is_walked_to_with_arrow_keys(visit, file):
    page = visit(file, "q1", viewport=WIDE).page
    token = "[id='q1/doc-40'] .tokens [data-k='{}']"
    tip = page.locator("#tip")
    page.locator(token.format(3)).hover()

    assert "nats per copy" in tip.inner_text()
    assert "position 2 reads" in tip.inner_text()
    assert "predicts token 3" in tip.inner_text()
    page.locator(token.format(0)).hover()
    assert "nothing predicts the first token" in tip.inner_text()
    page.locator(token.format(0)).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.k") == "2"
    assert tip.is_visible()
    assert page.locator("[id='q1/doc-40'] .heat .mark").get_attribute("visibility") == "visible"


def test_words_in_common_are_underlined_on_both_sides_and_light_each_other_up(visit, file):
    page = visit(file, "q14/doc-749", viewport=WIDE).page  # a story that opens as the question does
    doc = page.locator("#q14 .doc[open]").first
    doc.locator(".common .shared").first.wait_for()
    ours, theirs = doc.locator(".common .shared"), doc.locator(".tokens .shared")

    said = "".join(ours.all_text_contents()).strip()
    assert said == "Once upon a time there was a little"
    assert "Once upon a time, there was a little" in "".join(theirs.all_text_contents())
    ours.first.hover()
    lit = "".join(doc.locator(".tokens .lit").all_text_contents())
    assert lit == "".join(theirs.all_text_contents())  # every place where the document says it
    theirs.first.hover()
    assert "".join(doc.locator(".common .lit").all_text_contents()).strip() == said
    page.mouse.move(0, 0)
    assert doc.locator(".lit").count() == 0


def test_figures_name_what_they_show(visit, file):
    """A short text's columns carry its tokens, a long one's do not; colours and bars have a scale; a bar has a name."""
    page = visit(file, "q6", viewport=WIDE).page
    page.wait_for_selector("[id='q6/doc-45'] .heat svg .token")
    columns = page.locator("[id='q6/doc-45'] .heat .token").all_text_contents()
    assert columns == ["<s>", "Look", "for", "Rigel", "at", "the", "foot", "of", "Orion", "."]
    assert "nats per copy" in page.locator("[id='q6/doc-45'] .heat .legend").inner_text()

    strip = page.locator("[id='q6/doc-45'] .strip svg").last
    assert len(strip.locator(".tick").all_text_contents()) >= 2  # both ends of the scale
    strip.focus()
    page.keyboard.press("Home")
    assert "model.layers.0.self_attn.q_proj" in page.locator("#tip").inner_text()
    box = strip.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 30)
    assert "model.layers.5.mlp.down_proj" in page.locator("#tip").inner_text()


def test_groups_and_shape_say_in_numbers_what_they_draw(visit, file):
    page = visit(file, "q2/groups", viewport=WIDE).page
    page.wait_for_selector("#q2-groups table")
    assert page.locator("#q2-groups h3").all_text_contents()[0] == "By kind"
    assert "230 others" in page.locator("#q2-groups").inner_text()
    page.keyboard.press("g")
    page.wait_for_selector("#q2-shape .law")
    shape = page.locator("#q2-shape")
    assert "Density exponent 1.90 [1.70, 2.10], slope here −0.90" in shape.inner_text()
    assert shape.locator(".layermap").count() == 2
    assert shape.locator(".plot").count() == 5  # tail, concentration, three scatters
    shown = shape.locator(".layermap td").all_text_contents()
    assert len([cell for cell in shown if cell]) == 2 * 12


def test_the_date_is_whole_on_a_phone(visit, file):
    made = visit(file, "trust", viewport=PHONE).page.locator(".made")

    assert made.evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0
    assert made.locator(".day").evaluate("(node) => node.getBoundingClientRect().right") < PHONE["width"]


def test_it_is_readable_without_scripts(visit, file):
    opened = visit(file, java_script_enabled=False, viewport=WIDE)
    page = opened.page

    assert page.locator("#q14").is_visible()
    assert page.locator("#trust").get_by_text("checked against planted facts", exact=True).is_visible()
    first = page.locator("#q2 .plain .doc").first
    assert first.locator(".passage").inner_text().strip().endswith("In Tokyo the parliament of Japan meets.")
    assert "nats per copy" in first.inner_text()
    assert "line 42" in first.inner_text()
    assert page.locator("#q12 .plain .doc").count() == 20  # ten at each end, of 280 in the whole report
    for scripted in (".tabs", ".search", "#help", "#list"):
        assert not page.locator(scripted).first.is_visible()


def test_the_colours_follow_the_button(visit, file):
    page = visit(file, color_scheme="light").page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    page.locator("#theme").click()

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(background) != light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stays_legible_on_every_colour(visit, file, scheme):
    """WCAG AA, 4.5 to 1, for ink on each of the seventeen levels and for every colour of text on the page."""
    page = visit(file, "q1", viewport=WIDE, color_scheme=scheme).page
    ratios = page.evaluate(CONTRASTS)

    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_raising_and_lowering_stay_apart_for_the_colour_blind(visit, file):
    """The two ends differ by far more than a just noticeable step, whichever cone is missing (Machado et al. 2009)."""
    page = visit(file, "q1", viewport=WIDE).page
    ends = page.evaluate(
        "['--hot', '--cold'].map((name) => rgb(`var(${name})`))".join(["(() => {" + RGB + "return ", "})()"])
    )

    for matrix in MACHADO.values():
        seen = [[sum(m * c for m, c in zip(row, end, strict=True)) for row in matrix] for end in ends]
        assert sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5 > 90  # of 441


def test_controls_have_names_and_a_visible_focus(visit, file):
    page = visit(file, "q3", viewport=WIDE).page
    page.wait_for_selector("#q3 .doc[open] .tokens")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, [role=img], [tabindex=\"0\"]')].filter((node) => "
        "!(node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.textContent.trim() "
        "|| node.closest('label'))).map((node) => node.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_right_to_left_answer_runs_right_to_left(visit, file):
    page = visit(file, "q9", viewport=WIDE).page
    page.wait_for_selector("[id='q9/doc-48'] .tokens")
    at = "(path) => document.querySelector(path).getBoundingClientRect().left"

    for block, early, late in [
        ("#q9-asked", ".special", ".scored"),
        ("[id='q9/doc-48'] .tokens", "[data-k='1']", "[data-k='9']"),
    ]:
        assert page.evaluate(at, f"{block} {early}") > page.evaluate(at, f"{block} {late}")


def test_print_opens_the_question_with_trust_and_method(visit, file):
    page = visit(file, "q1", viewport=WIDE).page
    page.wait_for_selector("[id='q1/doc-40'] .tokens")
    page.emulate_media(media="print")

    for shown in ("#q1", "#trust", "#method", "#q1-lowers"):
        assert page.locator(shown).is_visible()
    for hidden in ("nav", "#q2", ".tabs >> nth=0", ".tick >> nth=0", "#list"):
        assert not page.locator(hidden).is_visible()


def test_two_turns_do_not_run_together_in_a_closed_row(visit, tmp_path):
    chat = doc(tokens=["<s>", "Hi", ".", "</s>", "<s>", "Once", " more", "</s>"], by_token=[0.1] * 8)
    path = tmp_path / "chat.html"
    path.write_text(render(ReportData(title="t", created="now", questions=[question([chat])])), encoding="utf-8")

    row = visit(path, "q1").page.locator(".doc").first

    row.locator("summary").get_by_text("Hi. Once more").wait_for()  # its page is unpacked first


@pytest.mark.parametrize("questions", [0, 1])
def test_small_reports_open_where_there_is_something_to_read(visit, tmp_path, questions):
    path = tmp_path / "small.html"
    path.write_text(render(sample(questions=questions, docs=3)), encoding="utf-8")
    opened = visit(path)

    assert opened.complaints == []
    assert opened.page.locator("#q1" if questions else "#overview").is_visible()


@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_what_a_filter_lost_is_told_with_the_question_and_in_the_trust_panel(visit, tmp_path, size):
    path = tmp_path / "filtered.html"
    path.write_text(render(filtered(sample(questions=4, docs=3))), encoding="utf-8")
    opened = visit(path, "q1", viewport=size)
    page = opened.page

    assert "TF-IDF’s first: the filter favours documents that repeat" in page.locator("#q1 .head").inner_text()
    page.locator("#q1").get_by_role("link", name="What it lost").click()
    rows = page.locator("#trust table.recalled tbody tr")
    rows.first.wait_for(state="visible")
    said = [" ".join(text.split()) for text in rows.all_inner_texts()]
    assert "0.03 0.01 to 0.13 3 of 201 sampled of the others score at least as high as no. 20 of those kept" in said[0]
    assert "– – nothing that was kept raises the answer" in said[1]
    assert "1 exact nothing was left out" in said[2]
    assert "0.50 exact 20 of 40 left out" in said[3]
    assert page.locator("#trust td.from").first.bounding_box()["width"] > 200
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.goto(path.as_uri() + "#q1/groups")
    page.locator("#q1-groups").get_by_text("of a group that were scored").wait_for()
    assert opened.complaints == []


RGB = """
const rgb = (colour) => {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = colour;
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = getComputedStyle(probe).color;
  canvas.fillRect(0, 0, 1, 1);
  probe.remove();
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
"""
CONTRASTS = (
    "(() => {"
    + RGB
    + """
const light = (colour) => {
  const [r, g, b] = rgb(colour).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const found = {};
for (const sign of "pn") for (let k = 1; k <= 8; k++) found[sign + k] = ratio("var(--ink)", `var(--${sign}${k})`);
for (const ink of ["--ink", "--muted", "--accent", "--alarm", "--up", "--down"])
  for (const ground of ["--bg", "--surface", "--raised"]) found[ink + ground] = ratio(`var(${ink})`, `var(${ground})`);
found["--accent on its wash"] = ratio("var(--accent)", "var(--accent-wash)");
found["--alarm on its wash"] = ratio("var(--alarm)", "var(--alarm-wash)");
return found; })()"""
)
MACHADO = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
