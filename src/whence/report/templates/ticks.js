// The list: documents ticked anywhere in the report, what is to be done with each, and JSON lines of them.

/** Document → what its line will say. Kept in this browser, where it lets a file keep anything. */
const ticked = new Map();
const STORE = `whence-list-${document.title}-${find(".day")?.textContent}`;
const ACTIONS = ["remove", "relabel", "weight"];

function restoreTicks() {
  try {
    for (const one of JSON.parse(localStorage.getItem(STORE) ?? "[]")) ticked.set(one.document, one);
  } catch {
    // a private window, or no storage for files: the list lasts as long as the page
  }
}

function keepTicks() {
  try {
    localStorage.setItem(STORE, JSON.stringify([...ticked.values()]));
  } catch {
    // as above
  }
  find("#ticks").textContent = count(ticked.size);
  for (const box of all(".tick")) box.checked = ticked.has(Number(box.closest(".doc").dataset.document));
}

function tickDocument(asked, doc, on) {
  if (on) ticked.set(doc.id, { document: doc.id, place: doc.place, hash: doc.hash ?? null, action: "remove", question: find(".eyebrow bdi", asked.view).textContent, score: doc.score });
  else ticked.delete(doc.id);
  keepTicks();
  if (find("#list").classList.contains("on")) drawTicks();
}

/** One line a document: what to find it by, and what to do. */
function tickLine({ document, place, hash, action, weight, label, question, score }) {
  const does = { remove: {}, relabel: { label: label ?? "" }, weight: { weight: weight ?? 0.5 } }[action];
  return JSON.stringify({ document, place, hash, action, ...does, question, score_per_copy: score });
}
const tickLines = () => [...ticked.values()].map((one) => `${tickLine(one)}\n`).join("");

function drawTicks() {
  const room = find("#ticked");
  if (!ticked.size) {
    room.replaceChildren(el("p", { class: "empty" }, "Nothing is ticked yet. Tick a document’s box, or press x on it."));
    return;
  }
  const text = el("code", {}, tickLines());
  const again = () => {
    keepTicks();
    text.textContent = tickLines();
  };
  const row = (one) => {
    const action = el("select", { "aria-label": `What to do with ${one.place}` }, ...ACTIONS.map((name) => el("option", { value: name }, name)));
    action.value = one.action;
    const how = el("span", { class: "how" });
    const ask = () => {
      const [key, kind, name, value] = one.action === "weight" ? ["weight", "number", "Weight", one.weight ?? 0.5] : ["label", "text", "Label", one.label ?? ""];
      const input = el("input", { type: kind, step: "any", "aria-label": `${name} of ${one.place}`, placeholder: name.toLowerCase() });
      input.value = value;
      input.addEventListener("input", () => ((one[key] = kind === "number" ? Number(input.value) : input.value), again()));
      how.replaceChildren(...(one.action === "remove" ? [] : [input]));
    };
    action.addEventListener("change", () => ((one.action = action.value), ask(), again()));
    ask();
    const off = el("button", { type: "button", "aria-label": `Take ${one.place} off the list` }, "✕");
    off.addEventListener("click", () => (ticked.delete(one.document), keepTicks(), drawTicks()));
    return el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, one.place)), el("td", {}, action, " ", how), el("td", { class: `num ${one.score > 0 ? "up" : "down"}` }, signed(one.score)), el("td", {}, el("bdi", {}, one.question)), el("td", {}, off));
  };
  const save = el("button", { type: "button" }, "Download JSON lines");
  save.addEventListener("click", () => {
    const link = el("a", { href: URL.createObjectURL(new Blob([tickLines()], { type: "application/jsonl" })), download: "documents.jsonl" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  const copy = copyButton(text);
  const clear = el("button", { type: "button" }, "Empty the list");
  clear.addEventListener("click", () => (ticked.clear(), keepTicks(), drawTicks()));
  room.replaceChildren(
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Ticked documents" },
      el("table", { class: "plain-table ticked" },
        el("thead", {}, el("tr", {}, ...["document", "to do", "score", "ticked at question", ""].map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, ...[...ticked.values()].map(row)))),
    el("p", { class: "buttons" }, save, copy, clear),
    el("pre", { class: "lines" }, text));
}

/** A button that puts a text on the clipboard; where that is refused it selects the text instead. */
function copyButton(text) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: copy it";
    }
  });
  return button;
}
