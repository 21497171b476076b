// The page itself: which view is shown, which documents are open, search, keys.

const views = all(".view");
const questions = all(".view.question");
const current = () => find(".view.on") ?? views[0];

/** Show one view. An address is a view, and of a question perhaps a document or a panel: #q3/doc-4711, #q3/shape. */
async function route() {
  const [name, part] = decodeURIComponent(location.hash.slice(1)).split("/");
  const target = name ? document.getElementById(name) : null;
  if (target?.id === "main" && find(".view.on")) return target.focus(); // the skip link
  const view = target?.closest(".view") ?? find("#overview") ?? questions[0] ?? views[0];
  const other = !view.classList.contains("on");
  for (const one of views) one.classList.toggle("on", one === view);
  for (const link of all("nav a")) {
    if (link.hash === `#${view.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  find("#jump").value = view.id;
  hideTip();
  if (view.id === "list") drawTicks();
  if (other || !part) scrollTo(0, 0);
  if (view.classList.contains("question")) await enter(view, part);
}

/** First sight of a question draws its lists; its leading document is open, or the one that the address names. */
async function enter(view, part) {
  let asked;
  try {
    asked = await openQuestion(view);
  } catch (problem) {
    find(".panel", view).replaceChildren(el("p", { class: "empty" }, "This browser cannot unpack the documents. A newer one can; and with scripts turned off the first of them are shown."));
    return;
  }
  if (!view.dataset.seen) {
    view.dataset.seen = "yes";
    const tail = tailPlot(asked.index, true);
    if (tail) find(".tailbox", view).append(tail);
    answerBar(asked);
    columnChoice(asked);
    await asked.draw();
    if (!part?.startsWith("doc-")) {
      const first = find(".panel.on .doc", view);
      if (first) first.open = true;
    }
  }
  if (part?.startsWith("doc-")) {
    const row = asked.reveal(Number(part.slice(4)));
    if (row) {
      side(view, row.closest(".panel").dataset.side);
      go(row);
    } else find("[role=status]", view).textContent = "That document is not in this report.";
  } else if (part) side(view, part);
}

/** What the documents of a question can be ranked by, where more than the score was computed. */
function columnChoice(asked) {
  const there = Object.keys(COLUMNS).filter((name) => name === "score" || asked.index.docs.some((doc) => doc[name] != null));
  const label = find(".column", asked.view);
  asked.columns = there.length > 1;
  label.hidden = !asked.columns;
  const select = find("select", label);
  select.replaceChildren(...there.map((name) => el("option", { value: name }, COLUMNS[name].name)));
  select.addEventListener("change", () => {
    asked.column = select.value;
    asked.rank();
    asked.draw();
  });
}

async function side(view, name) {
  if (!find(`.panel[data-side="${CSS.escape(name)}"]`, view)) return;
  for (const panel of all(".panel", view)) panel.classList.toggle("on", panel.dataset.side === name);
  for (const tab of all("[role=tab]", view)) {
    const on = tab.id.endsWith(`-${name}`);
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
  view.dataset.side = name;
  const lists = name === "raises" || name === "lowers";
  find(".toolbar", view).classList.toggle("still", !lists);
  const panel = find(`[data-side=${name}]`, view);
  if (panel.dataset.seen || lists) return;
  panel.dataset.seen = "yes";
  const asked = await openQuestion(view);
  (name === "groups" ? drawGroups : drawShape)(asked);
}

/** Open a document, bring it up and put the keyboard on it. */
function go(doc) {
  doc.open = true;
  const summary = find("summary", doc);
  summary.focus({ preventScroll: true });
  summary.scrollIntoView({ block: "start" });
}

let walked = null;
function step(by) {
  const rows = () => all(".panel.on .doc", current());
  let docs = rows();
  if (!docs.length) return;
  const here = docs.indexOf(document.activeElement?.closest?.(".doc") ?? walked);
  const open = here < 0 ? docs.findIndex((doc) => doc.open) : here;
  if (open + by >= docs.length) {
    find(".panel.on .more:not([hidden])", current())?.click();
    docs = rows();
  }
  const next = docs[Math.max(0, Math.min(docs.length - 1, open + by))] ?? docs[0];
  if (docs[open] && docs[open] !== next) docs[open].open = false;
  walked = next;
  go(next);
}

function question(by) {
  const here = questions.indexOf(current());
  const next = questions[Math.max(0, Math.min(questions.length - 1, here + by))];
  if (next) location.hash = next.id;
}

async function search(view, typed) {
  const asked = await openQuestion(view);
  asked.words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (find(".search input", view).value !== typed) return; // typed on meanwhile
  await asked.draw();
}

function theme() {
  const order = ["auto", "light", "dark"];
  const next = order[(order.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  const says = { auto: "as the system", light: "light", dark: "dark" }[next];
  find("#theme").setAttribute("aria-label", `Colours: ${says}`);
  find("#theme span").textContent = ` ${next}`;
}

const other = (name) => (name === "raises" ? "lowers" : "raises");
const after = { groups: "shape", shape: "raises" };
const keys = {
  j: () => step(1),
  k: () => step(-1),
  s: () => side(current(), other(current().dataset.side ?? "raises")),
  g: () => side(current(), after[current().dataset.side] ?? "groups"),
  x: () => (document.activeElement?.closest?.(".doc") ?? walked)?.querySelector(".tick").click(),
  n: () => question(1),
  p: () => question(-1),
  a: () => find(".chip[tabindex='0']", current())?.focus(),
  "/": () => {
    if (find(".toolbar.still", current())) side(current(), "raises");
    find(".search input", current())?.focus();
  },
  "?": () => find("#keys").showModal(),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape") {
    hideTip();
    if (typing?.type === "search") {
      typing.value = "";
      typing.dispatchEvent(new Event("input"));
      typing.blur();
    }
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || find("#keys").open || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

/** Opening a document draws it, and makes the address one that leads back to it. */
document.addEventListener("toggle", (event) => {
  const doc = event.target;
  if (!doc.matches?.("details.doc[open]")) return;
  fillDocument(doc);
  if (doc.contains(document.activeElement)) history.replaceState(null, "", `#${doc.id}`);
}, true);
for (const view of questions) {
  const tabs = all("[role=tab]", view);
  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => side(view, tab.id.split("-").pop()));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const next = tabs[(k + by + tabs.length) % tabs.length];
      next.click();
      next.focus();
    });
  });
  find(".search input", view).addEventListener("input", (event) => search(view, event.target.value));
}
find("#jump").addEventListener("change", (event) => (location.hash = event.target.value));
find("#theme").addEventListener("click", theme);
find("#help").addEventListener("click", keys["?"]);
find("#close").addEventListener("click", () => find("#keys").close());
const command = find(".command");
if (command) command.append(copyButton(find("code", command)));
restoreTicks();
keepTicks();
addEventListener("scroll", scrolled, { passive: true });
addEventListener("hashchange", route);
route();
