// Which groups of documents move this answer: totals over all documents that were scored, not only those that are listed.

function drawGroups(asked) {
  const { totals } = asked.index;
  const panel = asked.panel("groups");
  if (!totals.length) {
    panel.replaceChildren(el("p", { class: "empty" }, "Nothing tells these documents apart: one file, one script, no copies, and no metadata whose values repeat."));
    return;
  }
  panel.replaceChildren(
    el("p", { class: "fine" }, `Influence of all documents of a group${asked.index.filtered ? " that were scored" : ""}, added up: nats when each of them gets one more copy. What raises and what lowers is drawn apart; the number is their sum.`),
    el("div", { class: "grouped" }, ...totals.map(groupTable)));
}

function groupTable({ by, rows }) {
  const [up, down] = [Math.max(0, ...rows.map(([, , raises]) => raises)), Math.max(0, ...rows.map(([, , , lowers]) => -lowers))];
  const unit = 100 / (up + down || 1);
  const zero = down * unit;
  const row = ([name, documents, raises, lowers]) =>
    el("tr", {},
      el("th", { scope: "row", dir: "auto" }, name),
      el("td", { class: "num" }, count(documents)),
      el("td", { class: `num ${raises + lowers > 0 ? "up" : "down"}` }, signed(raises + lowers)),
      el("td", { class: "num per" }, signed((raises + lowers) / documents)),
      el("td", { class: "drawn" },
        svg("svg", { class: "bar both", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": `raises ${signed(raises)}, lowers ${signed(lowers)}` },
          svg("rect", { class: "rail", width: 100, height: 8 }),
          svg("rect", { class: "b-up", x: zero, width: Math.max(0, raises * unit), height: 8 }),
          svg("rect", { class: "b-down", x: zero + lowers * unit, width: Math.max(0, -lowers * unit), height: 8 }),
          svg("rect", { class: "middle", x: zero - 0.15, width: 0.3, height: 8 }))));
  return el("section", {},
    el("h3", {}, "By ", el("bdi", {}, by)),
    el("table", { class: "groups" },
      el("thead", {}, el("tr", {}, ...["", "documents", "total", "each", ""].map((name, k) => el("th", { scope: "col", class: k > 0 && k < 4 ? (k === 3 ? "num per" : "num") : "" }, name)))),
      el("tbody", {}, ...rows.map(row))));
}
