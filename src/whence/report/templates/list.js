// The lists of one question: which documents, in which order, how many of them drawn so far.

/** Rows drawn at a time: a text page each, and more on demand. */
const BATCH = 40;

const COLUMNS = {
  score: { name: "score", unit: "nats per copy" },
  cosine: { name: "cosine", unit: "" },
  normalised: { name: "self-normalised", unit: "" },
};

/** View → what is known and chosen of its question, once its index is unpacked. */
const questionsOpen = new Map();

async function openQuestion(view) {
  const number = view.dataset.number;
  const index = await openPage(`index-${number}`);
  if (!questionsOpen.has(view)) questionsOpen.set(view, new Asked(view, number, index));
  return questionsOpen.get(view);
}

/** One question: its documents as they are ranked now. */
class Asked {
  constructor(view, number, index) {
    Object.assign(this, { view, number, index, picked: new Set(), column: "score", words: [], ranked: {}, matching: {}, drawn: {} });
    this.place = new Map(index.docs.map((doc, k) => [doc.id, k]));
    this.rank();
  }

  text(k) {
    return openText(this.number, k, this.index.chunk);
  }

  panel(side) {
    return find(`[data-side=${side}]`, this.view);
  }

  /** What a document is ranked by now: the picked tokens' part of its score, or the chosen column. */
  value(doc) {
    if (this.picked.size) return [...this.picked].reduce((sum, k) => sum + (doc.by?.[k] ?? 0), 0);
    return doc[this.column] ?? 0;
  }

  get unit() {
    return this.picked.size ? "nats per copy" : COLUMNS[this.column].unit;
  }

  /** Both ends in order. As the report ranked them; or all documents that are here, by other numbers. */
  rank() {
    const { docs, raises, lowers } = this.index;
    if (!this.picked.size && this.column === "score") this.ranked = { raises, lowers };
    else {
      const pool = this.picked.size ? docs.map((_, k) => k) : [...raises, ...lowers];
      const by = (sign) => pool.filter((k) => sign * this.value(docs[k]) > 0).sort((a, b) => sign * (this.value(docs[b]) - this.value(docs[a])) || a - b);
      this.ranked = { raises: by(1), lowers: by(-1) };
    }
    this.copies = new Map();
    for (const side of ["raises", "lowers"]) {
      const here = new Set(this.ranked[side]);
      this.ranked[side] = this.ranked[side].filter((k) => {
        const leader = this.place.get(docs[k].under);
        if (leader === undefined || leader === k || !here.has(leader)) return true;
        this.copies.set(leader, [...(this.copies.get(leader) ?? []), k]);
        return false;
      });
    }
    this.top = Object.fromEntries(["raises", "lowers"].map((side) => [side, largest(this.ranked[side].map((k) => this.value(docs[k])))]));
  }

  /** Draw both lists from the start; rows that were open stay open. */
  async draw() {
    await this.match();
    const open = new Set(all(".doc[open]", this.view).map((doc) => Number(doc.dataset.index)));
    for (const side of ["raises", "lowers"]) {
      const total = this.ranked[side].length;
      const left = this.matching[side].length;
      find(`#${this.view.id}-tab-${side} .n`).textContent = this.words.length ? `${left} of ${total}` : total;
      this.drawn[side] = 0;
      const list = el("ol", { class: "docs" });
      const more = el("button", { type: "button", class: "more" });
      more.addEventListener("click", () => this.more(side));
      const none = this.words.length ? "No document here matches." : `No document in this report ${side} ${this.picked.size ? "these tokens" : "this answer"}.`;
      this.panel(side).replaceChildren(list, left ? more : el("p", { class: "empty" }, none));
      if (left) this.more(side, open);
    }
    find("[role=status]", this.view).textContent = this.words.length ? `${this.matching.raises.length} documents that raise it match, ${this.matching.lowers.length} that lower it` : "";
  }

  /** The next rows of a list. */
  more(side, open = new Set()) {
    const panel = this.panel(side);
    const [from, to] = [this.drawn[side], Math.min(this.matching[side].length, this.drawn[side] + BATCH)];
    this.drawn[side] = to;
    const rows = this.matching[side].slice(from, to).map((k) => documentRow(this, side, k, this.ranked[side].indexOf(k) + 1));
    find(".docs", panel).append(...rows);
    const left = this.matching[side].length - to;
    const more = find(".more", panel);
    more.hidden = !left;
    more.textContent = `${count(Math.min(BATCH, left))} more of ${count(left)}`;
    for (const row of rows) if (open.has(Number(row.firstChild.dataset.index))) row.firstChild.open = true;
  }

  /** Keep the documents whose text, place or metadata hold every word that was typed. */
  async match() {
    const holds = new Set();
    if (this.words.length) {
      const { docs, chunk } = this.index;
      const pages = await Promise.all(Array.from({ length: Math.ceil(docs.length / chunk) }, (_, c) => openPage(`texts-${this.number}-${c}`)));
      pages.flat().forEach((text, k) => {
        text.hay ??= `${text.tokens.join("")} ${docs[k].place} ${text.meta.flat().join(" ")}`.toLowerCase();
        if (this.words.every((word) => text.hay.includes(word))) holds.add(k);
      });
    }
    const matches = (k) => !this.words.length || holds.has(k) || (this.copies.get(k) ?? []).some((copy) => holds.has(copy));
    for (const side of ["raises", "lowers"]) this.matching[side] = this.ranked[side].filter(matches);
  }

  /** Show a document's row, drawing as many rows as that takes; null where it is in no list now. */
  reveal(id) {
    let k = this.place.get(id);
    for (const [leader, copies] of this.copies) if (copies.includes(k)) k = leader;
    const side = ["raises", "lowers"].find((one) => this.matching[one].includes(k));
    if (!side) return null;
    while (this.drawn[side] <= this.matching[side].indexOf(k)) this.more(side);
    return document.getElementById(`${this.view.id}/doc-${this.index.docs[k].id}`);
  }
}

const BADGES = {
  planted: (doc, asked) => doc.id === asked.index.planted && ["planted", "planted", "known to be the document that taught the fact"],
  times: (doc) => doc.times && [`×${doc.times}`, "", `${doc.times} documents say this, word for word or nearly`],
  quotes: (doc) => doc.quotes && ["says the answer", "", "it holds the answer word for word: overlap alone may explain it"],
  words: (doc) => doc.words >= 6 && [`shares ${doc.words} words`, "", `a run of ${doc.words} words is the same in the question: overlap alone may explain it`],
  bm25: (doc) => doc.bm25 <= 10 && [`BM25 no. ${doc.bm25}`, "", "a search of all documents for the question’s own words finds it, too"],
  spurious: (doc) => doc.spurious && ["one token carries it", "caution", "‖a‖₂/‖a‖₁ of its tokens’ influences is above 2/3: in the paper a sign of a spurious document"],
  windows: (doc) => doc.windows && [`${doc.windows} windows`, "", "longer than the context: read in parts whose scores were added"],
};

/** One document, closed; its text and figures come when it is opened. */
function documentRow(asked, side, k, rank) {
  const doc = asked.index.docs[k];
  const value = asked.value(doc);
  const sign = value >= 0 ? "up" : "down";
  const share = (size) => Math.min(100, asked.top[side] ? (100 * size) / asked.top[side] : 0);
  const noise = asked.unit && asked.index.noise && !asked.picked.size ? share(asked.index.noise) : 0;
  const bar = svg("svg", { class: `bar ${sign}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "rail", width: 100, height: 6 }),
    svg("rect", { class: "fill", width: share(Math.abs(value)), height: 6 }),
    ...(noise ? [svg("rect", { class: "noise", x: Math.max(0, share(Math.abs(value)) - noise), width: Math.min(2 * noise, share(Math.abs(value))), height: 6 })] : []));
  const line = el("span", { class: "line", dir: "auto" }, "…");
  const badges = Object.values(BADGES).map((of) => of(doc, asked)).filter(Boolean);
  const tick = el("input", { type: "checkbox", class: "tick", "aria-label": `${doc.place}: on your list` });
  tick.checked = ticked.has(doc.id);
  tick.addEventListener("click", (event) => event.stopPropagation());
  tick.addEventListener("change", () => tickDocument(asked, doc, tick.checked));
  const details = el("details", { class: "doc", id: `${asked.view.id}/doc-${doc.id}` },
    el("summary", {}, tick,
      el("span", { class: "rank" }, rank),
      el("span", { class: `amount ${sign}` }, el("span", { class: "score" }, signed(value)), bar),
      el("span", { class: "what" }, line,
        el("span", { class: "from" }, ...badges.flatMap(([name, style, why]) => [el("span", { class: `badge ${style}`.trim(), title: why }, name), " "]), el("bdi", {}, doc.place)))),
    el("div", { class: "body" }));
  details.dataset.index = k;
  details.dataset.document = doc.id;
  asked.text(k).then((text) => line.replaceChildren(...excerpt(text, value >= 0 ? 1 : -1)));
  return el("li", {}, details);
}
