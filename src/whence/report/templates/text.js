// A document's text as tokens: coloured by one of its views, walked with arrow keys, explained in the tip.

const VIEWS = {
  gradient: {
    name: "Where the gradient arises",
    shift: 1,
    says: "Each value belongs to the weight gradient at position t and is shown on token t + 1, the one predicted there. It carries that token’s loss and, through attention, that of all later tokens; only the output-token view isolates the loss of one token.",
  },
  output: {
    name: "Output tokens",
    shift: 1,
    says: "How the log-probability of each token would move along this question’s direction: the loss of that token alone. Position t is shown on token t + 1, the one it predicts.",
  },
  input: {
    name: "Input tokens",
    shift: 0,
    says: "How much of the influence passes through each token as it is read: the derivative in the size of its embedding, shown on the token itself. These need not add up to the score.",
  },
};

/** The reader of one document's text, whose whole score is `score`. `onToken(k)` is told which token is looked at, or −1. */
function tokenText(doc, score, onToken) {
  const names = Object.keys(doc.views);
  const text = el("p", { class: doc.tokens.length > 1500 ? "tokens very-long" : "tokens", dir: "auto", role: "group", tabindex: "-1" });
  const convention = el("p", { class: "fine convention" });
  const legend = el("div", { class: "legend", "aria-hidden": "true" });
  const unread = new Set(doc.unscored ?? []);
  const windows = new Set(doc.windows ?? []);
  const inRun = new Set((doc.shared ?? []).flatMap(([from, to]) => Array.from({ length: to - from }, (_, k) => from + k)));
  let view = names[0] ?? null;
  let shown = [];
  let at = -1;

  const spans = doc.tokens.map((token, k) => {
    const span = el(doc.kinds[k] === "special" ? "bdi" : "span"); // <s> must not decide the direction of a sentence
    if (continues(doc, k)) token = ""; // a character's later bytes: a place for their value, and no sign of their own
    token.split("\n").forEach((part, line) => {
      if (line) span.append(el("span", { class: "nl", "aria-hidden": "true" }, "↵"), "\n");
      span.append(part);
    });
    span.dataset.k = k;
    return span;
  });
  text.append(...spans);

  function paint() {
    shown = view ? values(doc.views[view]) : [];
    const top = largest(shown);
    spans.forEach((span, k) => {
      const marks = [continues(doc, k) && "later", inRun.has(k) && "shared", levelClass(level(shown[k] ?? 0, top)), doc.kinds[k], unread.has(k) && "unread", windows.has(k) && "window"];
      const name = marks.filter(Boolean).join(" ");
      if (name) span.className = name;
      else span.removeAttribute("class");
    });
    paintLegend(legend, top);
    convention.replaceChildren(...(view ? [VIEWS[view].says + sums(doc, view, score)] : ["Influence by token is not in this report for this document."]));
    if (doc.cut) convention.append(` ${plural(doc.cut[0] + doc.cut[1], "token")} of the text ${doc.cut[0] + doc.cut[1] === 1 ? "is" : "are"} left out, ${count(doc.cut[0])} before and ${count(doc.cut[1])} after.`);
    if (unread.size) convention.append(" Pale, slanted tokens were read but carried no loss of their own.");
    if (windows.size) convention.append(" A bar marks where a new window of the context begins.");
    const label = view ? `Text, coloured by influence (${VIEWS[view].name}). ` : "Text. ";
    text.setAttribute("aria-label", `${label}Arrow keys move from token to token.`);
  }

  function look(k, focus) {
    spans[at]?.classList.remove("at");
    at = k;
    onToken(k);
    if (k < 0) return hideTip();
    const span = spans[k];
    span.classList.add("at");
    if (focus) {
      for (const other of all("[tabindex]", text)) other.removeAttribute("tabindex");
      span.tabIndex = 0;
      span.focus({ preventScroll: false });
    }
    // A token may run over two lines: the tip belongs to its first box.
    showTip(span.getClientRects()[0] ?? span.getBoundingClientRect(), ...explain(k));
  }

  /** A token in words; one that holds only later bytes of a character is told by its bytes. */
  const says = (k) => quoted(continues(doc, k) ? `⟨${doc.raw[k]}⟩` : doc.tokens[k]);
  const onward = (k) => (k + 1 < doc.tokens.length ? ["; it predicts ", says(k + 1)] : []);
  function explain(k) {
    const parts = [];
    if (view) {
      const all = total(shown.map(Math.abs));
      const share = all && shown[k] ? ` · ${percent(Math.abs(shown[k]) / all)} of all |values|` : "";
      const first = VIEWS[view].shift === 1 && k === 0;
      parts.push(first ? el("b", {}, "no value") : amount(shown[k], `nats per copy${share}`));
      if (first) parts.push("nothing predicts the first token");
      else if (VIEWS[view].shift === 1) parts.push("position ", String(k - 1), " reads ", says(k - 1), " and predicts token ", String(k), " ", says(k));
      else parts.push("token ", String(k), " ", says(k), ", as it is read", ...onward(k));
    } else parts.push("token ", String(k), " ", says(k), ...onward(k));
    if (doc.raw[k]) parts.push(el("br"), `bytes ${doc.raw[k]}`);
    if (unread.has(k)) parts.push(el("br"), "read, but not scored");
    return parts;
  }

  const which = (event) => Number(event.target.closest?.("[data-k]")?.dataset.k ?? -1);
  text.addEventListener("pointerover", (event) => which(event) >= 0 && look(which(event), false));
  text.addEventListener("pointerleave", () => look(-1, false));
  text.addEventListener("click", (event) => which(event) >= 0 && getSelection().isCollapsed && look(which(event), true));
  text.addEventListener("focusin", (event) => which(event) >= 0 && which(event) !== at && look(which(event), false));
  text.addEventListener("focusout", (event) => text.contains(event.relatedTarget) || look(-1, false));
  text.addEventListener("keydown", (event) => {
    const onward = getComputedStyle(text).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const back = onward === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    const next = { [onward]: at + 1, [back]: at - 1, Home: 0, End: spans.length - 1 }[event.key];
    if (next === undefined || !spans[next]) return;
    event.preventDefault();
    look(next, true);
  });
  if (spans.length) spans[0].tabIndex = 0;

  const tools = el("div", { class: "tools" }, names.length > 1 ? viewSwitch(names, (name) => ((view = name), paint())) : el("span"), legend);
  paint();
  return { node: el("div", {}, tools, text, convention), text, spans, look: (k) => look(k, false) };
}

/** Whether a token holds only later bytes of a character that was begun before it. */
const continues = (doc, k) => doc.kinds[k] === "bytes" && doc.tokens[k] === "·";

/** What the values add up to, beside the score: a reader should see when a split is not exact. */
function sums(doc, view, score) {
  if (view === "input" || score == null) return "";
  return ` Tokens add up to ${signed(doc.views[view].sum)} (score ${signed(score)}).`;
}

function viewSwitch(names, choose) {
  const buttons = names.map((name, k) =>
    el("button", { type: "button", role: "radio", "aria-checked": k ? "false" : "true", tabindex: k ? "-1" : "0" }, VIEWS[name].name),
  );
  const pick = (k, focus) => {
    buttons.forEach((button, other) => {
      button.setAttribute("aria-checked", String(other === k));
      button.tabIndex = other === k ? 0 : -1;
    });
    if (focus) buttons[k].focus();
    choose(names[k]);
  };
  buttons.forEach((button, k) => {
    button.addEventListener("click", () => pick(k, false));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      pick((k + step + buttons.length) % buttons.length, true);
    });
  });
  return el("div", { class: "switch", role: "radiogroup", "aria-label": "What the colours show" }, ...buttons);
}

function paintLegend(legend, top) {
  if (!top) return legend.replaceChildren();
  const steps = Array.from({ length: 17 }, (_, k) => el("i", { class: levelClass(k - 8) }));
  legend.replaceChildren(`lowers ${signed(-top)}`, el("span", {}, ...steps), `${signed(top)} raises`);
}

/** A line of a document about the token with most influence, coloured: what a closed row quotes. */
function excerpt(doc, sign) {
  const shown = doc.views.gradient ? values(doc.views.gradient) : doc.tokens.map(() => 0);
  const top = largest(shown);
  const peak = top ? shown.reduce((best, value, k) => (sign * value > sign * shown[best] ? k : best), 0) : 0;
  let start = peak;
  for (let spent = 0; start > 0 && spent + doc.tokens[start - 1].length <= 50; start--) spent += doc.tokens[start - 1].length;
  if (doc.tokens.slice(0, start).join("").length < 20) start = 0;
  else for (let k = start; k < peak; k++) if (/^\s/.test(doc.tokens[k])) { start = k; break; } // begin with a word
  const line = [];
  let stop = start, apart = false, said = "";
  for (let spent = 0; stop < doc.tokens.length && spent < 220; spent += doc.tokens[stop++].length) {
    if (doc.kinds[stop] === "special") apart = true;
    if (doc.kinds[stop] === "special" || continues(doc, stop)) continue;
    const words = doc.tokens[stop].replace(/\s+/g, " ").slice(0, 300);
    if (apart && said && !said.endsWith(" ") && !words.startsWith(" ")) line.push(" "); // nor do two turns run together
    [apart, said] = [false, words];
    const style = levelClass(level(shown[stop], top));
    line.push(style ? el("span", { class: style }, words) : words);
  }
  const left = (from, to) => doc.tokens.slice(from, to).some((token, k) => doc.kinds[from + k] !== "special" && token.trim());
  if (left(0, start) || doc.cut?.[0]) line.unshift(el("bdi", { class: "cut" }, "… "));
  if (left(stop) || doc.cut?.[1]) line.push(el("bdi", { class: "cut" }, " …"));
  return line;
}
