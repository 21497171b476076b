// An open document: its text, what it has in common with the question, its figures and its facts.

/** Fill an opened document, once. */
async function fillDocument(details) {
  if (details.dataset.full) return;
  details.dataset.full = "yes";
  const asked = await openQuestion(details.closest(".view"));
  const k = Number(details.dataset.index);
  const doc = asked.index.docs[k];
  const text = await asked.text(k);
  let map = null;
  const reader = tokenText(text, doc.score, (token) => map?.show(token));
  const parts = [reader.node];
  if (text.shared) parts.unshift(inCommon(asked, text, reader.spans));
  if (doc.by?.length > 1) parts.push(answerStrip(asked.index.answer.map((token) => token.text), doc.by, "This document’s score, by token of the answer, in nats per copy."));
  if (text.heat) {
    map = heatMap(text, asked.index.groups, (token) => reader.look(token));
    parts.push(map.node);
  }
  if (text.layers) parts.push(layerStrip(asked.index.layers, values(text.layers), "This document, in nats per copy; numbers are blocks."));
  const copies = asked.copies.get(k);
  if (copies || doc.times) parts.push(copiesOf(asked, doc, copies ?? []));
  find(".body", details).replaceChildren(el("div", { class: "reader" }, ...parts), about(asked, doc, text));
}

/** The question with the runs of words underlined that the document has too; each side lights up the other. */
function inCommon(asked, text, spans) {
  const { tokens, scored, special } = asked.index;
  const marks = new Set(scored);
  const words = tokens.map((token, k) => el(special.includes(k) ? "bdi" : "span", { class: [marks.has(k) && "scored", special.includes(k) && "special"].filter(Boolean).join(" ") }, token));
  text.shared.forEach(([from, to, first, last], run) => {
    const [theirs, ours] = [spans.slice(from, to), words.slice(first, last)];
    for (const word of [...theirs, ...ours]) word.dataset.run ??= run;
    const light = (on) => [...theirs, ...ours].forEach((word) => word.classList.toggle("lit", on));
    for (const word of ours) word.classList.add("shared");
    for (const word of [...theirs, ...ours]) {
      word.addEventListener("pointerenter", () => light(true));
      word.addEventListener("pointerleave", () => light(false));
    }
    ours[0].tabIndex = 0;
    ours[0].addEventListener("focus", () => light(true));
    ours[0].addEventListener("blur", () => light(false));
  });
  return el("div", { class: "common" },
    el("p", { class: "fine" }, el("b", {}, "In common with the question, word for word. "), "Underlined in both; point at one to see the other."),
    el("p", { class: "asked-again", dir: "auto" }, ...words));
}

/** Who else says this. */
function copiesOf(asked, doc, copies) {
  const elsewhere = (doc.times ?? 1) - 1 - copies.length;
  return el("div", { class: "copies" },
    el("h4", {}, `Said ${doc.times ?? copies.length + 1} times`),
    el("ul", {},
      ...copies.map((k) => {
        const copy = asked.index.docs[k];
        return el("li", {}, el("b", { class: copy.score > 0 ? "up" : "down" }, signed(copy.score)), " ", el("bdi", {}, copy.place), el("span", { class: "fine" }, (copy.like ?? 1) < 1 ? ` ${percent(copy.like)} of its runs of words` : " word for word"));
      }),
      ...(elsewhere > 0 ? [el("li", {}, `${elsewhere === 1 ? "1 exact copy" : `${count(elsewhere)} exact copies`} in the rest of the data`)] : [])));
}

/** Numbers and metadata, beside the text. */
function about(asked, doc, text) {
  const share = doc.percentile / 100;
  const facts = [
    ["Score", `${signed(doc.score)} nats per copy`, "change of log p(answer) when one more copy is added"],
    asked.index.noise && ["Sampling noise", `± ${plain(asked.index.noise)}`, "one standard deviation of any score here"],
    ["Rank", `${doc.score >= 0 ? `higher than ${percent(share)}` : `lower than ${percent(1 - share)}`} of ${plural(asked.index.n, "document")}`],
    doc.cosine != null && ["Cosine", signed(doc.cosine), "score over the size of both gradients, in the curvature’s own geometry"],
    doc.normalised != null && ["Self-normalised", signed(doc.normalised), "raw score over √self-influence: less in favour of documents that move everything"],
    doc.self != null && ["Self-influence", plain(doc.self), "how much training on it moves itself; high for what is unusual"],
    asked.index.raw != null && ["Raw score", signed(doc.score * asked.index.raw), "per-copy score times the number of training sequences"],
    ["Length", plural(doc.length, "token") + (doc.windows ? ` in ${doc.windows} windows` : "")],
    doc.bm25 && ["Search", `BM25 no. ${count(doc.bm25)} of ${count(asked.index.n)}`, "its place in a search for the question’s own words"],
    ...Object.values(BADGES).map((of) => of(doc, asked)).filter((badge) => badge && badge[1]).map(([name, , why]) => [name[0].toUpperCase() + name.slice(1), "", why]),
  ].filter(Boolean);
  const pair = ([name, value, meaning]) => el("div", {}, el("dt", {}, name), ...(value ? [el("dd", {}, value)] : []), ...(meaning ? [el("dd", { class: "meaning" }, meaning)] : []));
  const rows = [["where", doc.place], ["document", String(doc.id)], ...(doc.hash ? [["content hash", doc.hash]] : []), ...text.meta];
  return el("div", { class: "about" },
    el("dl", { class: "facts" }, ...facts.map(pair)),
    el("dl", { class: "meta" }, ...rows.map(([name, value]) => el("div", {}, el("dt", { dir: "auto" }, name), el("dd", { dir: "auto" }, value)))));
}
