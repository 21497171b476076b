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

const tip = find("#tip");
let tipSince = 0;
const hideTip = () => (tip.hidden = true);
/** Scrolling takes the tip away, unless it was the keyboard's own move that scrolled. */
const scrolled = () => performance.now() - tipSince > 200 && hideTip();

/** Show the tip beside a rectangle, inside the window. */
function showTip(box, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  tipSince = performance.now();
  const { width, height } = tip.getBoundingClientRect();
  const above = box.top - height - 8;
  tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - width / 2, innerWidth - width - 8))}px`;
  tip.style.top = `${above > 60 ? above : Math.min(box.bottom + 8, innerHeight - height - 8)}px`;
}

/** A token as text with its spaces and line breaks to be seen. */
const quoted = (text) => el("code", {}, text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥"));

/** The reader of one document. `onToken(k)` is told which token is being looked at, or −1. */
function tokenText(doc, onToken) {
  const names = Object.keys(doc.views);
  const text = el("p", { class: doc.tokens.length > 1500 ? "tokens very-long" : "tokens", dir: "auto", role: "group", tabindex: "-1" });
  const convention = el("p", { class: "fine convention" });
  const legend = el("div", { class: "legend", "aria-hidden": "true" });
  const unread = new Set(doc.unscored ?? []);
  const windows = new Set(doc.windows ?? []);
  let view = names[0] ?? null;
  let shown = [];
  let at = -1;

  const spans = doc.tokens.map((token, k) => {
    const span = el(doc.kinds[k] === "special" ? "bdi" : "span"); // <s> must not decide the direction of a sentence
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
      const marks = [levelClass(level(shown[k] ?? 0, top)), doc.kinds[k], unread.has(k) && "unread", windows.has(k) && "window"];
      const name = marks.filter(Boolean).join(" ");
      if (name) span.className = name;
      else span.removeAttribute("class");
    });
    paintLegend(legend, top);
    convention.replaceChildren(...(view ? [VIEWS[view].says + sums(doc, view)] : ["Influence per token was not computed in this run."]));
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
  const says = (k) => quoted(doc.raw[k] && doc.tokens[k] === "·" ? `⟨${doc.raw[k]}⟩` : doc.tokens[k]);
  const onward = (k) => (k + 1 < doc.tokens.length ? ["; it predicts ", says(k + 1)] : []);
  function explain(k) {
    const parts = [];
    if (view) {
      const all = total(shown.map(Math.abs));
      const share = all && shown[k] ? ` · ${percent(Math.abs(shown[k]) / all)} of all |values|` : "";
      const first = VIEWS[view].shift === 1 && k === 0;
      parts.push(el("b", { class: shown[k] > 0 ? "up" : shown[k] < 0 ? "down" : "" }, first ? "no value" : `${signed(shown[k])} nats per copy${share}`));
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
  return { node: el("div", {}, tools, text, convention), look: (k) => look(k, false) };
}

/** What the values add up to, beside the score: a reader should see when a split is not exact. */
function sums(doc, view) {
  if (view === "input" || doc.total == null) return "";
  return ` Tokens add up to ${signed(doc.views[view].sum)} (score ${signed(doc.total)}).`;
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
