// The shape of a question's influences: tail, concentration, layers by depth, and what scores go along with.

const TAIL_DECADES = 5; // below the largest: what is smaller cannot be told from nothing

const shares = (value) => `${Number((100 * value).toPrecision(2))} %`;

/** The share of documents with at least so much influence, log by log, and the power law fitted to its end. */
function tailPlot(index, short) {
  const { values, ranks, fit, positive } = index.tail;
  if (values.length < 2 || values[0] <= values.at(-1)) return null;
  const high = values[0] * 1.15;
  const low = Math.max(values.at(-1), values[0] / 10 ** TAIL_DECADES);
  const points = values.map((value, k) => [value, ranks[k] / index.n]).filter(([value]) => value >= low);
  const law = !short && fit && ((value) => (fit.count / index.n) * (value / fit.threshold) ** fit.slope);
  const caption = !fit ? `${count(positive)} of ${plural(index.n, "document")} have positive influence; too few different values to fit a power law.` : [
    "Dashed: a power law fitted to the largest ", `${count(fit.count)}. Density exponent `, el("b", { class: "num" }, fit.exponent.toFixed(2)), ` [${fit.low.toFixed(2)}, ${fit.high.toFixed(2)}], slope here ${fit.slope.toFixed(2).replace("-", "−")}. `,
    `KS distance ${fit.ks.toFixed(3)}; a true power law exceeds ${fit.ks_critical.toFixed(3)} one time in twenty`, fit.ks > fit.ks_critical ? ": this tail is not one." : "."];
  return plot({
    title: short ? "" : "Tail.",
    caption: short ? [] : caption,
    spoken: `${count(positive)} of ${plural(index.n, "document")} have positive influence, the largest ${plain(values[0])} nats per copy.`,
    x: { low, high, log: true, label: "influence, nats per copy" },
    y: { low: Math.min(0.8 / index.n, 0.008), high: 1, log: true, label: "share with at least this", name: shares },
    draw: (x, y, box) => [
      svg("rect", { class: "band", x: box.left, y: y(0.01), width: box.right - box.left, height: Math.max(0, box.bottom - y(0.01)) }),
      svg("text", { class: "note", x: box.left + 6, y: box.bottom - 6 }, "top 1 % of documents"),
      svg("path", { class: "curve", d: line(points.map(([value, share]) => [x(value), y(share)])) }),
      ...(law ? [svg("path", { class: "law", d: line([Math.max(low, fit.threshold), values[0]].map((value) => [x(value), Math.min(box.bottom, y(Math.max(law(value), 1e-12)))])) })] : []),
      dots(points.slice(0, 10).map(([value, share]) => [x(value), y(share)]), "up"),
    ],
  });
}

/** How much of all positive influence the top so many hold. */
function sharePlot(index) {
  const { ranks, held } = index.tail;
  if (ranks.length < 2) return null;
  const points = ranks.map((rank, k) => [rank / index.n, held[k]]);
  const at = (share) => held[ranks.findLastIndex((rank) => rank <= Math.max(1, Math.ceil(share * index.n)))] ?? 0;
  return plot({
    title: "Concentration.",
    caption: `Of all positive influence, the top 1 % of documents hold ${percent(at(0.01))}, the top 10 % ${percent(at(0.1))}. The thin line is where all documents would be alike.`,
    spoken: `The top 1 % of documents hold ${percent(at(0.01))} of all positive influence.`,
    x: { low: 1 / index.n, high: 1, log: true, label: "top share of documents", name: shares },
    y: { low: 0, high: 1, label: "share of positive influence", name: shares },
    draw: (x, y) => [
      svg("path", { class: "even", d: line([...points.map(([share]) => share), 0.25, 0.5, 0.75, 1].sort((a, b) => a - b).map((share) => [x(share), y(share)])) }),
      svg("path", { class: "curve", d: line([...points, [1, 1]].map(([share, sum]) => [x(share), y(sum)])) }),
    ],
  });
}

/** Scores beside another number of the same documents. */
function scatter(one) {
  const finite = one.x.map((x, k) => [x, one.y[k]]).filter(([x, y]) => x != null && y != null);
  if (finite.length < 3) return null;
  const positive = finite.every(([x]) => x > 0);
  const [xs, ys] = [finite.map(([x]) => x), finite.map(([, y]) => y)];
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const log = positive && high / low > 20;
  const pad = log ? 1 : (high - low) * 0.04 || 1;
  const reach = Math.max(...ys) - Math.min(...ys) || 1;
  return plot({
    title: `Score against ${one.name}.`,
    caption: one.r == null ? "" : `Rank correlation ${one.r.toFixed(2).replace("-", "−")} over ${plural(one.of, "document")}${one.of > finite.length ? `; drawn: those shown and ${count(finite.length)} in all` : ""}.`,
    spoken: `Score against ${one.name}: rank correlation ${one.r == null ? "unknown" : one.r.toFixed(2)}.`,
    x: { low: log ? low / 1.1 : low - pad, high: log ? high * 1.1 : high + pad, log, label: one.name },
    y: { low: Math.min(...ys) - 0.04 * reach, high: Math.max(...ys) + 0.04 * reach, label: "nats per copy" },
    draw: (x, y, box) => [
      svg("path", { class: "zero", d: `M${box.left} ${y(0)}H${box.right}` }),
      dots(finite.filter(([, value]) => value > 0).map(([at, value]) => [x(at), y(value)]), "up"),
      dots(finite.filter(([, value]) => value <= 0).map(([at, value]) => [x(at), y(value)]), "down"),
    ],
  });
}

/** Attention and MLP by depth: the mean of the documents that raise the answer, and of those that lower it. */
function layerMap(index, texts, side) {
  const own = texts.filter((text) => text.layers).map((text) => values(text.layers));
  if (!own.length) return null;
  const mean = index.layers.map((_, k) => total(own.map((layers) => layers[k])) / own.length);
  const sums = index.groups.map((_, g) => total(mean.filter((_, k) => index.of[k] === g)));
  const cells = index.groups.map((name, g) => ({ name, value: sums[g], block: name.match(/^(\d+) /)?.[1], kind: name.replace(/^\d+ /, "") }));
  const top = largest(sums);
  const depths = [...new Set(cells.map((cell) => cell.block))];
  const kinds = [...new Set(cells.map((cell) => cell.kind))];
  if (depths.length < 2 || depths.includes(undefined)) return layerStrip(index.layers, mean, `Mean of ${plural(own.length, "document")} that ${side} this answer.`);
  const cell = (kind, block) => {
    const found = cells.find((one) => one.kind === kind && one.block === block);
    return el("td", { class: `num ${found ? levelClass(level(found.value, top)) : ""}` }, found ? signed(found.value) : "");
  };
  return el("figure", { class: "layermap" },
    el("figcaption", {}, el("b", {}, "Layers by depth. "), `Mean over ${plural(own.length, "document")} that ${side} this answer, nats per copy; columns are blocks.`),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Layers by depth, ${side}` },
      el("table", {},
        el("thead", {}, el("tr", {}, el("th", {}), ...depths.map((block) => el("th", { scope: "col", class: "num" }, block)))),
        el("tbody", {}, ...kinds.map((kind) => el("tr", {}, el("th", { scope: "row" }, kind), ...depths.map((block) => cell(kind, block))))))));
}

/** The whole panel, drawn when it is first looked at. */
async function drawShape(asked) {
  const { index } = asked;
  const panel = asked.panel("shape");
  const texts = async (side) => Promise.all(index[side].slice(0, index.chunk).map((k) => asked.text(k)));
  const [raising, lowering] = [await texts("raises"), await texts("lowers")];
  const figures = [tailPlot(index), sharePlot(index), ...index.against.map(scatter)].filter(Boolean);
  const maps = [layerMap(index, raising, "raise"), layerMap(index, lowering, "lower")].filter(Boolean);
  panel.replaceChildren(el("div", { class: "maps" }, ...maps), el("div", { class: "plots" }, ...figures));
  if (!figures.length && !maps.length) panel.replaceChildren(el("p", { class: "empty" }, "There is too little here to have a shape."));
}
