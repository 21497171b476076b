// The answer bar: one button a scored token. Pick some, and the documents are ranked for that part of the answer.

function answerBar(asked) {
  const { answer } = asked.index;
  const parts = whole(answer);
  if (parts.length < 2 || !asked.index.docs.some((doc) => doc.by)) return;
  const room = find(".answer", asked.view);
  const says = el("p", { class: "fine says" });
  const clear = el("button", { type: "button", class: "clear" }, "Whole answer");
  let last = 0;

  const chip = (part, k) => {
    const token = answer[part[0]];
    const button = el("button", { type: "button", class: /^\s/.test(token.text) ? "chip word" : "chip", "aria-pressed": "false", tabindex: k ? "-1" : "0" },
      el("bdi", { class: "piece" }, shownToken(token.text)), el("span", { class: "p" }, signed(total(part.map((one) => answer[one].p)))));
    button.addEventListener("click", (event) => pick(k, event.shiftKey));
    button.addEventListener("keydown", (event) => move(event, k));
    return button;
  };
  const chips = parts.map(chip);
  const own = chips.filter((_, k) => answer[parts[k][0]].at !== null);
  const other = chips.filter((_, k) => answer[parts[k][0]].at === null);
  const isPicked = (k) => asked.picked.has(parts[k][0]);

  function pick(k, span) {
    const on = !isPicked(k);
    const [from, to] = span ? [Math.min(last, k), Math.max(last, k)] : [k, k];
    for (const one of parts.slice(from, to + 1).flat()) asked.picked[on || span ? "add" : "delete"](one);
    last = k;
    show();
  }
  function move(event, k) {
    const rtl = getComputedStyle(chips[k].parentNode).direction === "rtl";
    const next = { [rtl ? "ArrowLeft" : "ArrowRight"]: k + 1, [rtl ? "ArrowRight" : "ArrowLeft"]: k - 1, Home: 0, End: chips.length - 1 }[event.key];
    if (event.key === "Escape" && asked.picked.size) {
      asked.picked.clear();
      show();
    }
    if (next === undefined || !chips[next]) return;
    event.preventDefault();
    chips[k].tabIndex = -1;
    chips[next].tabIndex = 0;
    chips[next].focus();
    if (event.shiftKey) pick(next, true);
  }
  function show() {
    chips.forEach((button, k) => button.setAttribute("aria-pressed", String(isPicked(k))));
    clear.hidden = !asked.picked.size;
    describe();
    asked.rank();
    asked.draw();
    find(".column", asked.view).hidden = !asked.columns || asked.picked.size > 0;
  }
  function describe() {
    if (!asked.picked.size) return says.replaceChildren("Pick tokens to rank the documents by their influence on that part of the answer alone. Under each, its log-probability.");
    const chosen = [...asked.picked];
    const named = parts.filter((part) => asked.picked.has(part[0]));
    const leaders = asked.index.docs.length > new Set([...asked.index.raises, ...asked.index.lowers]).size;
    const among = leaders ? `the ${plural(asked.index.docs.length, "document")} of this report, which leaders of each token in all the data are among` : `the ${plural(asked.index.docs.length, "document")} of this report (with --by answer, each token’s leaders in all the data join them)`;
    says.replaceChildren("Ranked by ", ...named.flatMap((part) => [quoted(answer[part[0]].text), " "]), `log p ${signed(total(chosen.map((k) => answer[k].p)))}, among ${among}.`);
  }

  clear.addEventListener("click", () => {
    asked.picked.clear();
    show();
    chips[last].focus();
  });
  clear.hidden = true;
  describe();
  const { direction } = getComputedStyle(find(".asked", asked.view)); // the question's own
  const row = (name, buttons) => el("div", { role: "group", "aria-label": name }, el("p", { class: "label" }, name), el("div", { class: "chips", dir: direction }, ...buttons));
  room.replaceChildren(row("Which part of the answer?", [...own, clear]), ...(other.length ? [row("… rather than", other)] : []), says);
  room.hidden = false;
}

/** The answer's tokens, those that hold later bytes of a character with the one that begins it. */
function whole(answer) {
  const parts = [];
  answer.forEach((token, k) => (token.text === "·" && token.bytes && parts.length ? parts.at(-1).push(k) : parts.push([k])));
  return parts;
}

/** A token that can be seen: what is all space is spelled out. */
const shownToken = (text) => (text.trim() ? text.trim() : text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅");
