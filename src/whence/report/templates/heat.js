// Layer × token heat map with its marginals, and the strip of layers: drawn to the width there is.

const WIDEST_LABEL = 120;
/** Columns of a heat map that are still named by their tokens, and the room of such a name. */
const MOST_NAMES = 40;
const NAME_HEIGHT = 64;

const width = (text) => 5.6 * text.length;

/** Redraw whenever the width given to a figure changes. */
function drawn(figure, draw) {
  const room = el("div", { class: "scroll" });
  figure.append(room);
  let last = 0;
  const redraw = () => {
    const now = Math.floor(room.clientWidth);
    if (now && now !== last) room.replaceChildren(draw((last = now)));
  };
  new ResizeObserver(redraw).observe(room);
  return figure;
}

/** Where zero lies in a room of this size that must hold the values on both its sides, and the size of a unit. */
function span(values, room) {
  const above = Math.max(0, ...values);
  const below = Math.max(0, ...values.map((value) => -value));
  const unit = above + below ? room / (above + below) : 0;
  return { unit, above: above * unit, below: below * unit };
}

/** The colours of a figure's cells, from the lowest value to the highest. */
function scale(top) {
  const steps = Array.from({ length: 17 }, (_, k) => svg("rect", { class: levelClass(k - 8) || "back", x: 11 * k, width: 11, height: 12 }));
  const strip = svg("svg", { width: 187, height: 12, viewBox: "0 0 187 12", role: "img", "aria-label": `Colours from ${signed(-top)} to ${signed(top)} nats per copy` }, ...steps);
  return el("div", { class: "legend" }, `lowers ${signed(-top)}`, strip, `${signed(top)} raises, nats per copy`);
}

/** Bars of values about a line at `zero`, as two paths. `place(k)` gives [start, breadth] of the k-th along the line. */
function bars(values, unit, zero, place, upright) {
  const paths = { up: "", down: "" };
  values.forEach((value, k) => {
    const length = Math.abs(value) * unit;
    if (length < 0.05) return;
    const [start, breadth] = place(k).map((number) => number.toFixed(2));
    const from = (zero - (value > 0 === upright ? length : 0)).toFixed(2);
    const long = length.toFixed(2);
    paths[value > 0 ? "up" : "down"] += upright
      ? `M${start} ${from}h${breadth}v${long}h-${breadth}z`
      : `M${from} ${start}h${long}v${breadth}h-${long}z`;
  });
  return [svg("path", { class: "b-up", d: paths.up }), svg("path", { class: "b-down", d: paths.down })];
}

function heatMap(doc, groups, look) {
  const cells = doc.heat.rows.map((row) => row.map((count) => count * (doc.heat.step ?? 0)));
  const rows = values(doc.heat.sums);
  const columns = doc.tokens.map((_, k) => total(cells.map((row) => row[k])));
  const top = largest(cells.flat());
  const name = (g) => groups[g] ?? `group ${g + 1}`;
  const peak = rows.reduce((best, value, g) => (Math.abs(value) > Math.abs(rows[best]) ? g : best), 0);
  let mark = null;
  let place = () => [0, 0];
  const named = columns.length <= MOST_NAMES;

  function draw(room) {
    const label = Math.min(WIDEST_LABEL, 14 + Math.max(...cells.map((_, g) => width(name(g)))));
    const side = Math.min(90, room * 0.16);
    const high = Math.max(12, Math.min(18, 220 / cells.length));
    const head = 44;
    const broad = Math.max(named ? 12 : 2.5, Math.min(26, (room - label - side - 8) / columns.length));
    const wide = label + columns.length * broad;
    const tall = head + cells.length * high;
    const under = named ? NAME_HEIGHT : 2;
    const marks = new Map();
    cells.forEach((row, g) =>
      row.forEach((value, k) => {
        const style = levelClass(level(value, top));
        if (!style) return;
        const at = `M${(label + k * broad).toFixed(2)} ${(head + g * high).toFixed(2)}`;
        marks.set(style, `${marks.get(style) ?? ""}${at}h${broad.toFixed(2)}v${(high - 1).toFixed(2)}h-${broad.toFixed(2)}z`);
      }),
    );
    place = (k) => [label + k * broad, broad];
    const across = span(rows, side);
    const upward = span(columns, head - 6);
    const zeroX = wide + 6 + across.below;
    const zeroY = 2 + upward.above;
    mark = svg("rect", { class: "mark", visibility: "hidden" });
    const picture = svg(
      "svg",
      { width: wide + side + 8, height: tall + under, viewBox: `0 0 ${wide + side + 8} ${tall + under}`, role: "img", "aria-label": spoken() },
      svg("rect", { class: "back", x: label, y: head, width: wide - label, height: tall - head }),
      ...[...marks].map(([style, path]) => svg("path", { class: style, d: path })),
      ...bars(columns, upward.unit, zeroY, (k) => [label + k * broad + broad * 0.1, broad * 0.8], true),
      svg("line", { class: "zero", x1: label, x2: wide, y1: zeroY, y2: zeroY }),
      ...bars(rows, across.unit, zeroX, (g) => [head + g * high + 2, high - 5], false),
      svg("line", { class: "zero", x1: zeroX, x2: zeroX, y1: head, y2: tall }),
      ...cells.map((_, g) => svg("text", { x: label - 6, y: head + g * high + high / 2 + 3, "text-anchor": "end" }, cropped(name(g)))),
      ...(named ? doc.tokens.map((token, k) => svg("text", { class: "token", transform: `translate(${label + (k + 0.5) * broad + 3} ${tall + 5}) rotate(-90)`, "text-anchor": "end" }, brief(token))) : []),
      mark,
    );
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      const k = Math.floor((event.clientX - box.left - label) / broad);
      const g = Math.floor((event.clientY - box.top - head) / high);
      if (k < 0 || k >= columns.length || g >= cells.length) return leave();
      look(k);
      mark.setAttribute("height", g < 0 ? tall - head : high - 1);
      if (g >= 0) mark.setAttribute("y", head + g * high);
      const value = g < 0 ? columns[k] : cells[g][k];
      showTip(around(event), amount(value), `${g < 0 ? "all layers" : name(g)} × token ${k} `, quoted(doc.tokens[k]));
    });
    const leave = () => look(-1);
    picture.addEventListener("pointerleave", leave);
    return picture;
  }

  function spoken() {
    return `Heat map of ${cells.length} layer groups by ${columns.length} tokens. Most influence: ${name(peak)}, ${signed(rows[peak])} nats per copy.`;
  }
  const brief = (token) => {
    const text = token.trim() || token.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
    const signs = [...text];
    return signs.length > 10 ? `${signs.slice(0, 9).join("")}…` : text;
  };
  const cropped = (text) => (text.length > 19 ? `${text.slice(0, 8)}…${text.slice(-10)}` : text);

  const figure = el("figure", { class: "heat" }, el("figcaption", {}, el("b", {}, "Layers × tokens. "), "Above, the sum over layers; at the right, the sum over tokens. As in the text, position t is shown on token t + 1."));
  if (top) figure.append(scale(top));
  function show(k) {
    if (!mark) return;
    const [x, broad] = place(k);
    const back = find(".scroll .back", figure);
    for (const [key, value] of Object.entries({ x, width: broad, y: back.getAttribute("y"), height: back.getAttribute("height") })) mark.setAttribute(key, value);
    mark.setAttribute("visibility", k < 0 ? "hidden" : "visible");
  }
  return { node: drawn(figure, draw), show };
}

/** Depth of a layer, told from the first number in its name: model.layers.7.mlp.up_proj → 7. */
const depth = (name) => name.match(/(?:^|[._])(\d+)(?=[._]|$)/)?.[1] ?? "";

/** Where a new block begins among layers, and what it is called. */
const blocks = (names) => names.map((name, k) => (k === 0 || depth(name) !== depth(names[k - 1]) ? [k, depth(name)] : null)).filter(Boolean);

/** Bars in an order that means something, with a line and a name wherever `marks` says so. */
function strip(title, caption, names, amounts, marks, kind) {
  const most = amounts.reduce((best, value, k) => (Math.abs(value) > Math.abs(amounts[best]) ? k : best), 0);
  let at = -1;
  const [high, low] = [Math.max(0, ...amounts), Math.min(0, ...amounts)];
  const left = 8 + Math.max(...[high, low].map((value) => width(signed(value))));

  function draw(room) {
    const broad = Math.max(3, Math.min(36, (room - left - 2) / amounts.length));
    const wide = broad * amounts.length;
    const tall = 64;
    const { unit, above } = span(amounts, tall - 4);
    const zero = above + 2;
    // The scale: both ends, and zero where it lies apart from them.
    const ends = [[high, 2], [low, tall - 2]].filter(([value]) => value);
    const ticks = ends.every(([, y]) => Math.abs(y - zero) > 11) ? [...ends, [0, zero]] : ends;
    const every = Math.ceil((marks.length * 26) / wide) || 1;
    const mark = svg("rect", { class: "mark", y: 1, height: tall - 2, width: broad, visibility: "hidden" });
    const picture = svg(
      "svg",
      { width: left + wide + 2, height: tall + 16, viewBox: `${-left - 1} 0 ${left + wide + 2} ${tall + 16}`, role: "img", tabindex: 0, "aria-label": `One bar a ${kind}, ${amounts.length} of them. Most influence: ${names[most]}, ${signed(amounts[most])} nats per copy. Arrow keys move from ${kind} to ${kind}.` },
      svg("rect", { class: "back", width: wide, height: tall }),
      ...ticks.map(([value, y]) => svg("text", { class: "tick", x: -5, y: Math.max(8, Math.min(tall, y + 3.5)), "text-anchor": "end" }, signed(value))),
      ...marks.filter(([k]) => k > 0 && kind === "layer").map(([k]) => svg("line", { class: "block", x1: k * broad, x2: k * broad, y1: 0, y2: tall + 4 })),
      ...bars(amounts, unit, zero, (k) => [k * broad + broad * 0.12, broad * 0.76], true),
      svg("line", { class: "zero", x1: 0, x2: wide, y1: zero, y2: zero }),
      ...marks.map(([k, name], number) => (number % every || !name ? "" : svg("text", { x: k * broad + 3, y: tall + 12 }, name))).filter(Boolean),
      mark,
    );
    const look = (k) => {
      at = k;
      mark.setAttribute("visibility", k < 0 ? "hidden" : "visible");
      if (k < 0) return hideTip();
      mark.setAttribute("x", k * broad);
      const box = picture.getBoundingClientRect();
      showTip({ left: box.left + left + k * broad, width: broad, top: box.top, bottom: box.bottom }, amount(amounts[k]), names[k]);
    };
    picture.addEventListener("pointermove", (event) => {
      const k = Math.floor((event.clientX - picture.getBoundingClientRect().left - left - 1) / broad);
      look(k >= 0 && k < amounts.length ? k : -1);
    });
    for (const gone of ["pointerleave", "blur"]) picture.addEventListener(gone, () => look(-1));
    picture.addEventListener("keydown", (event) => {
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: amounts.length - 1 }[event.key];
      if (next === undefined || next < 0 || next >= amounts.length) return;
      event.preventDefault();
      look(next);
    });
    return picture;
  }

  return drawn(el("figure", { class: "strip" }, el("figcaption", {}, el("b", {}, title), " ", caption)), draw);
}

const layerStrip = (names, amounts, caption) => strip("Layers.", caption, names, amounts, blocks(names), "layer");
const answerStrip = (tokens, amounts, caption) => strip("Answer tokens.", caption, tokens, amounts, tokens.map((token, k) => [k, [...shownToken(token)].slice(0, 6).join("")]), "token");
