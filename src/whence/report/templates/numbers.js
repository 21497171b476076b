// Elements, numbers and levels. Text only ever becomes text: nothing here parses HTML.

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null && value !== "") node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const raised = (power) => String(power).replace(/[-0-9]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));

/** Three significant digits, as numbers.py prints them. */
function plain(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const [mantissa, power] = Math.abs(value).toExponential(2).split("e").map(Number);
  const minus = value < 0 ? "−" : "";
  if (power > -4 && power < 6) return minus + Number(Math.abs(value).toPrecision(3)).toFixed(Math.max(0, 2 - power));
  return `${minus}${mantissa.toFixed(2)} × 10${raised(power)}`;
}
const signed = (value) => (value > 0 ? "+" : "") + plain(value);
/** A share in percent: more digits near both ends, never rounded up to the whole. As numbers.py prints it. */
function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const hundredths = share * 100;
  const near = Math.min(hundredths, 100 - hundredths);
  const few = near >= 1 ? 1 : Math.min(4, Math.max(2, Math.ceil(-Math.log10(near))));
  const digits = near === 0 || (hundredths >= 10 && hundredths <= 99) ? 0 : few;
  const text = hundredths.toFixed(digits);
  return `${Number(text) >= 100 && hundredths < 100 ? "> 99.9999" : text}\u202f%`;
}
/** Whole numbers with thin spaces between thousands. */
const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const plural = (number, thing) => `${count(number)} ${thing}${number === 1 ? "" : "s"}`;

const largest = (values) => values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
const total = (values) => values.reduce((sum, value) => sum + value, 0);

/** −8 … 8 of a scale that ends at top; the style sheet's p8 … p1, n1 … n8. */
function level(value, top) {
  return top ? Math.sign(value) * Math.min(8, Math.floor((8 * Math.abs(value)) / top + 0.5)) : 0;
}
const levelClass = (step) => (step > 0 ? `p${step}` : step < 0 ? `n${-step}` : "");
