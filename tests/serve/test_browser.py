"""The explorer as a person has it: in headless Chromium, with and without scripts, wide and on a phone."""

import json
import re
import shutil

import pytest
from tests.report.test_browser import CONTRASTS
from tests.serve.conftest import DOCUMENTS, HOSTILE, Served

from whence.jobs.log import Log

pytestmark = pytest.mark.browser

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 780}
PAGES = [
    "",
    "documents",
    "documents?q=paris&sort=raises&by=1&c3=x",
    "document/6?question=2",
    "document/3",
    "question/1",
]
PAGES += ["question/2?sort=lowers&q=1", "documents?page=99", "documents?sort=none", "nothing"]


def follow(page, link):
    """Click what leads to another page, and wait until that is whole."""
    with page.expect_navigation():
        link.click()


@pytest.fixture
def go(visit, served):
    """A page of the answered run."""

    def go(path="", name="geography", **options):
        return visit(f"{served.url}run/{served.key(name)}/{path}", **({"viewport": WIDE} | options))

    return go


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE, {"width": 2400, "height": 1200}], ids=["phone", "wide", "widest"])
def test_every_page_fits_and_asks_nobody_else(visit, served, size, scheme):
    opened = visit(served.url, viewport=size, color_scheme=scheme)
    key = served.key("geography")
    for address in ["", *(f"run/{key}/{page}" for page in PAGES), f"run/{served.key('torn')}/"]:
        opened.page.goto(served.url + address)
        for details in opened.page.locator("details").all():
            details.evaluate("(node) => (node.open = true)")
        assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, address

    assert {re.match(r"http://[^/]+/[^/]+/", address)[0] for address in opened.requests} == {served.url}
    wrong = [said for said in opened.complaints if "status of 4" not in said]  # pages that are not there say so
    assert wrong == []


def test_from_the_list_of_runs_to_a_document_and_back_to_a_question(visit, served, run):
    opened = visit(served.url, viewport=WIDE)
    page = opened.page
    follow(page, page.get_by_role("link", name="geography"))
    assert page.locator(".asks li").count() == 3
    follow(page, page.get_by_role("link", name="the capital of France is Paris").first)
    best = run.top(1, 0)[0]
    first = page.locator(".hit").first
    assert first.locator(".score").inner_text().startswith("+")
    assert best["where"] in first.inner_text()
    follow(page, first.locator("a.line"))
    assert f"/document/{best['document']}" in page.url
    assert best["where"] == page.locator("h1").inner_text()
    assert page.locator("#moves .hit").count() == 3
    assert page.locator("#moves .hit.on").count() == 1
    follow(page, page.locator("#moves .hit:not(.on) .what > a").first)
    assert "/question/" in page.url
    assert opened.complaints == []


def test_searching_and_choosing_by_column(go):
    opened = go("documents")
    page = opened.page
    page.keyboard.press("/")
    page.keyboard.type("paris")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "36 of 126 documents with paris" in page.locator(".found").inner_text()
    assert page.url.endswith("documents?q=paris&sort=match")  # what was left empty is not said
    assert page.locator(".line .hit").first.inner_text().lower() == "paris"
    page.get_by_text("Choose by column").click()
    page.get_by_label("lang").select_option(label="emoji (18)")
    follow(page, page.get_by_role("button", name="Find"))
    assert "18 of 126 documents" in page.locator(".found").inner_text()
    page.get_by_label("from").fill("10")
    follow(page, page.get_by_role("button", name="Find"))
    shown = page.locator(".hit > .what").all_inner_texts()
    assert 0 < len(shown) < 18
    assert all(float(re.search(r"rating: ([\d.]+)", text)[1]) >= 10 for text in shown)
    follow(page, page.get_by_role("link", name="Take it all back"))
    assert "All 126 documents" in page.locator(".found").inner_text()
    assert opened.complaints == []


def test_documents_are_sorted_by_influence_on_a_question_of_choice(go, run):
    page = go("documents?q=paris").page
    page.get_by_label("Order").select_option(label="lowers the answer")
    page.get_by_label("Answer to sort by").select_option(index=2)
    follow(page, page.get_by_role("button", name="Find"))
    assert "once upon" in page.locator(".found").first.inner_text()
    shown = [place.split(" · ")[0] for place in page.locator(".hit .from").all_inner_texts()]
    whole = [row["where"] for row in run.bottom(DOCUMENTS, 2) if "paris" in row["text"].lower()]
    assert shown == whole


def test_a_page_beyond_the_last_leads_to_the_last(go):
    page = go("question/1?page=99").page
    assert page.locator(".pager:has-text('of 3')").count() == 0
    follow(page, page.locator(".empty a"))
    assert page.locator(".hit").count() == DOCUMENTS % 50


def test_paging_through_a_ranking_to_its_other_end(go):
    page = go("question/1").page
    follow(page, page.get_by_role("link", name="last »"))
    assert page.locator(".hit .rank").last.inner_text() == str(DOCUMENTS)
    last = page.locator(".hit .from").last.inner_text()
    follow(page, page.get_by_role("link", name="Lowers it"))
    assert page.locator(".hit .from").first.inner_text() == last
    page.keyboard.press("n")
    page.wait_for_url("**page=2**")
    page.keyboard.press("p")
    page.wait_for_url("**page=1")


def test_keys_walk_along_the_rows(go):
    page = go("question/0").page
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    wanted = page.locator(".hit a.line").nth(1).get_attribute("href")
    assert page.evaluate("document.activeElement.getAttribute('href')") == wanted
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{wanted}")
    page.goto(page.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_tokens_are_coloured_by_what_was_kept(go, run):
    document = run.top(1, 0)[0]["document"]
    page = go(f"document/{document}?question=0").page
    assert page.locator(".switch a").all_inner_texts() == ["where the gradient arises", "output tokens", "input tokens"]
    assert page.locator(".tokens .p8, .tokens .n8").count() >= 1
    before = page.locator(".tokens").inner_html()
    follow(page, page.get_by_role("link", name="output tokens"))
    assert page.locator(".tokens").inner_html() != before
    assert "nats per copy" in page.locator(".tokens [title]").nth(2).get_attribute("title")
    page.get_by_text("Through which layers").click()
    assert page.locator(".layers tr").count() == len(run.answers.layers)


def test_hostile_text_is_text(go, served):
    opened = go("document/6")
    page = opened.page
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in page.locator(".tokens").inner_text()
    assert "⟨U+202E⟩" in page.locator(".tokens").inner_text()
    for path in (
        "documents?q=%3Cscript%3E",
        "documents?q=%22%3E%3Csvg%20onload=alert(3)%3E",
        "question/2",
        "document/0",
        "",
    ):
        page.goto(f"{served.url}run/{served.key('geography')}/{path}")
        assert page.locator("main script, main img, main svg[onload], main b:text-is('bold')").count() == 0
    assert HOSTILE[:8] in page.locator(".asks").inner_text()
    assert opened.complaints == []


def test_all_of_it_works_without_scripts(go):
    page = go("documents", java_script_enabled=False).page
    page.locator("input[name=q]").fill("フランス")
    follow(page, page.get_by_role("button", name="Find"))
    assert "18 of 126 documents" in page.locator(".found").inner_text()
    follow(page, page.locator(".hit a.line").first)
    follow(page, page.locator("#moves .what > a").first)
    assert page.locator(".hit").count() == 50
    assert not page.locator("#theme").is_visible()


def test_colours_are_chosen_and_kept_from_page_to_page(go):
    page = go("documents", color_scheme="light").page
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    follow(page, page.locator(".hit a.line").first)
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "documents?q=paris&page=2", "document/6?question=2", "question/1?q=1"])
def test_text_stays_legible(go, path, scheme):
    """WCAG AA, 4.5 to 1, for all text on the page and ink on each level of colour."""
    ratios = go(path, color_scheme=scheme).page.evaluate(CONTRASTS)

    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_controls_have_names(go):
    page = go("documents?q=a").page
    nameless = page.evaluate(
        """[...document.querySelectorAll('a, button, input:not([type=hidden]), select')].filter((node) =>
        !(node.textContent.trim() || node.getAttribute('aria-label') || node.labels?.length)).length"""
    )
    assert nameless == 0
    assert page.locator("h1").count() == 1


def test_the_report_opens_inside_its_sandbox(go, served):
    opened = go("report.html#q1")
    page = opened.page
    page.wait_for_selector(".doc .tokens")
    page.locator("nav a[href='#trust']").click()
    page.wait_for_selector("#trust", state="visible")
    assert page.evaluate("origin") == "null"
    assert opened.complaints == []


def test_another_page_of_this_machine_gets_nothing(visit, served, tmp_path):
    """A page from disk that knows even the token: it can neither read nor frame nor send."""
    asking = f"""<script>
      const say = (word) => () => (document.title = word);
      fetch("{served.url}").then((answer) => answer.text()).then(say("read"), say("refused"));
    </script><iframe src="{served.url}"></iframe>"""
    (tmp_path / "evil.html").write_text(asking)
    page = visit(tmp_path / "evil.html").page
    page.wait_for_function("() => document.title === 'refused'")
    page.wait_for_timeout(300)
    assert "geography" not in (page.frames[-1].locator("body").text_content() or "")


def test_a_run_that_goes_on_is_seen_to_go_on(visit, folder, tmp_path):
    run = tmp_path / "runs" / "young"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"kind": "run", "schema": 1, "settings": {}, "made_from": {}}))
    log = Log.silent()
    log.keep(run)
    log.step("scores", 1, 16)
    served = Served(tmp_path / "runs")
    opened = visit(f"{served.url}run/{served.key('young')}/", viewport=WIDE)
    page = opened.page
    assert "1 of 16" in page.locator("#progress").inner_text()
    log.step("fit", 7, 7)
    log.step("scores", 16, 16)
    page.wait_for_selector("#progress >> text=16 of 16", timeout=20_000)
    shutil.copytree(folder / "geography", tmp_path / "runs" / "done")
    page.goto(served.url)
    assert page.locator(".run").count() == 2
    served.end()
    assert opened.complaints == []
