// The one tip of the page: a few words beside whatever is being looked at.

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

/** A rectangle about a pointer. */
const around = (event) => ({ left: event.clientX, top: event.clientY - 12, width: 0, bottom: event.clientY + 12 });

/** A value in the words and the colour of its sign. */
const amount = (value, unit = "nats per copy") => el("b", { class: value > 0 ? "up" : value < 0 ? "down" : "" }, `${signed(value)} ${unit}`.trim());

/** A token as text with its spaces and line breaks to be seen. */
const quoted = (text) => el("code", {}, text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥"));
