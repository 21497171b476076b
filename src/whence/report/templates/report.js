// The page itself: which view is shown, which documents are open, search, keys.

const views = all(".view");
const questions = all(".view.question");
const current = () => find(".view.on") ?? views[0];

/** Show one view; an address of a document (#q3-l2) opens it there. */
function route() {
  const name = decodeURIComponent(location.hash.slice(1));
  const target = name ? document.getElementById(name) : null;
  if (target?.id === "main" && find(".view.on")) return target.focus(); // the skip link
  const view = target?.closest(".view") ?? find("#overview") ?? questions[0] ?? views[0];
  for (const other of views) other.classList.toggle("on", other === view);
  for (const link of all("nav a")) {
    if (link.hash === `#${view.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  find("#jump").value = view.id;
  hideTip();
  if (view.classList.contains("question")) enter(view);
  const doc = target?.closest(".doc");
  if (doc) {
    side(view, doc.closest(".panel").dataset.side);
    go(doc);
  } else if (name) scrollTo(0, 0);
}

/** First sight of a question: its leading document is open, its layers are drawn. */
async function enter(view) {
  if (view.dataset.seen) return;
  view.dataset.seen = "yes";
  const first = find(".panel.on .doc", view);
  if (first && !location.hash.includes("-")) first.open = true;
  try {
    const page = await openPage(view.dataset.page);
    const docs = page.raises.filter((doc) => doc.layers).map((doc) => values(doc.layers));
    if (!docs.length) return;
    const mean = page.layers.map((_, k) => total(docs.map((layers) => layers[k])) / docs.length);
    const strip = layerStrip(page.layers, mean, `Mean over the ${docs.length} documents shown that raise this answer, in nats per copy; numbers are blocks.`);
    const profile = find(".profile", view);
    profile.replaceWith(strip);
    strip.classList.add("profile");
  } catch (problem) {
    view.dataset.flat = "yes"; // excerpts stay
  }
}

/** Fill an opened document with all its text and figures, once. */
async function fill(details) {
  if (details.dataset.full) return;
  details.dataset.full = "yes";
  const view = details.closest(".view");
  const reader = find(".reader", details);
  let page;
  try {
    page = await openPage(view.dataset.page);
  } catch (problem) {
    reader.append(el("p", { class: "fine" }, "This browser cannot unpack the whole text; this is the part about the token with most influence."));
    return;
  }
  const doc = page[details.closest(".panel").dataset.side][Number(details.dataset.index)];
  let map = null;
  const text = tokenText(doc, (k) => map?.show(k));
  reader.replaceChildren(text.node);
  if (doc.heat) {
    map = heatMap(doc, page.groups, (k) => text.look(k));
    reader.append(map.node);
  }
  if (doc.layers) reader.append(layerStrip(page.layers, values(doc.layers), "This document, in nats per copy; numbers are blocks."));
}

function side(view, name) {
  for (const panel of all(".panel", view)) panel.classList.toggle("on", panel.dataset.side === name);
  for (const tab of all("[role=tab]", view)) {
    const on = tab.getAttribute("aria-controls").endsWith(name);
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
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
  const docs = all(".panel.on li:not([hidden]) > .doc", current());
  if (!docs.length) return;
  const here = docs.indexOf(document.activeElement?.closest?.(".doc") ?? walked);
  const open = here < 0 ? docs.findIndex((doc) => doc.open) : here;
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

/** Keep the documents whose text, source or metadata hold every word that was typed. */
async function search(view, typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const page = await openPage(view.dataset.page).catch(() => null);
  if (find(".search input", view).value !== typed) return; // typed on meanwhile
  const counts = {};
  for (const panel of all(".panel", view)) {
    const items = all(".docs > li", panel);
    let left = 0;
    for (const item of items) {
      const doc = find(".doc", item);
      const text = page?.[panel.dataset.side][Number(doc.dataset.index)].tokens.join("") ?? find(".passage", doc)?.textContent ?? "";
      const about = `${find(".from", doc).textContent} ${find(".meta", doc).textContent}`;
      const hay = `${text} ${about}`.toLowerCase();
      item.hidden = !words.every((word) => hay.includes(word));
      left += !item.hidden;
    }
    const none = find(".nothing", panel);
    if (none) none.hidden = left > 0 || !words.length;
    find(`#${view.id}-tab-${panel.dataset.side} .n`).textContent = words.length ? `${left} of ${items.length}` : items.length;
    counts[panel.dataset.side] = left;
  }
  find("[role=status]", view).textContent = words.length ? `${counts.raises} documents that raise it match, ${counts.lowers} that lower it` : "";
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

const keys = {
  j: () => step(1),
  k: () => step(-1),
  s: () => find(".tabs [aria-selected=false]", current())?.click(),
  n: () => question(1),
  p: () => question(-1),
  "/": () => find(".search input", current())?.focus(),
  "?": () => find("#keys").showModal(),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
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

document.addEventListener("toggle", (event) => event.target.matches?.(".doc[open]") && fill(event.target), true);
for (const view of questions) {
  const tabs = all("[role=tab]", view);
  tabs.forEach((tab, k) => {
    find(`#${tab.getAttribute("aria-controls")}`).setAttribute("role", "tabpanel");
    tab.addEventListener("click", () => side(view, tab.getAttribute("aria-controls").split("-").pop()));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      tabs[1 - k].click();
      tabs[1 - k].focus();
    });
  });
  find(".search input", view).addEventListener("input", (event) => search(view, event.target.value));
}
find("#jump").addEventListener("change", (event) => (location.hash = event.target.value));
find("#theme").addEventListener("click", theme);
find("#help").addEventListener("click", keys["?"]);
find("#close").addEventListener("click", () => find("#keys").close());
const copy = find(".copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", () => navigator.clipboard.writeText(find(".command code").textContent).then(() => (copy.textContent = "Copied")));
}
addEventListener("scroll", scrolled, { passive: true });
addEventListener("hashchange", route);
route();
