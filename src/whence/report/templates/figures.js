// Axes, curves and points: what the figures of a question are drawn with.

/** A place on an axis from `start` to `stop`, linear or logarithmic. */
function axis(low, high, start, stop, log) {
  const at = log ? Math.log : (value) => value;
  const span = at(high) - at(low) || 1;
  return (value) => start + ((stop - start) * (at(value) - at(low))) / span;
}

/** Round numbers between two ends: powers of ten (and 2, 5 where there are few), or steps of 1, 2 or 5. */
function ticks(low, high, log) {
  if (log) {
    const powers = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) powers.push(10 ** power);
    const inside = (all) => all.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    const few = inside(powers).length < 2 ? inside(powers.flatMap((power) => [power, 2 * power, 5 * power])) : inside(powers);
    const every = Math.ceil(few.length / 6);
    return few.filter((_, k) => k % every === 0);
  }
  const rough = (high - low) / 4 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * unit >= rough) * unit;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(Math.abs(value) < step / 1e6 ? 0 : value);
  return found;
}

/** A number on an axis: plain where that is short, else a power of ten. */
function tickName(value) {
  if (value === 0) return "0";
  const power = Math.log10(Math.abs(value));
  if (Math.abs(power) < 3.5) return String(Number(value.toPrecision(3))).replace("-", "−");
  const exact = Math.round(power);
  if (Math.abs(power - exact) < 1e-9) return `${value < 0 ? "−" : ""}10${raised(exact)}`;
  return plain(value);
}

const line = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

/** A figure with two axes. `draw(x, y)` gives what lies inside them; `spoken` says it in words. */
function plot({ title, caption, spoken, x, y, draw }) {
  return drawn(el("figure", { class: "plot" }, el("figcaption", {}, el("b", {}, title), " ", ...[caption].flat())), (room) => {
    const [wide, tall] = [Math.max(220, Math.min(room, 460)), 240];
    const names = ticks(y.low, y.high, y.log).map((value) => [value, (y.name ?? tickName)(value)]);
    const left = 26 + Math.max(...names.map(([, name]) => width(name)), 10);
    const [right, top, bottom] = [20, 10, 40];
    const across = axis(x.low, x.high, left, wide - right, x.log);
    const up = axis(y.low, y.high, tall - bottom, top, y.log);
    return svg("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": spoken },
      ...names.flatMap(([value, name]) => [
        svg("path", { class: "grid", d: `M${left} ${up(value).toFixed(1)}H${wide - right}` }),
        svg("text", { x: left - 5, y: up(value) + 3.5, "text-anchor": "end" }, name)]),
      ...ticks(x.low, x.high, x.log).flatMap((value) => [
        svg("path", { class: "grid", d: `M${across(value).toFixed(1)} ${top}V${tall - bottom}` }),
        svg("text", { x: across(value), y: tall - bottom + 14, "text-anchor": "middle" }, (x.name ?? tickName)(value))]),
      svg("text", { x: (left + wide - right) / 2, y: tall - 6, "text-anchor": "middle" }, x.label),
      svg("text", { transform: `translate(11 ${(top + tall - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label),
      ...draw(across, up, { left, right: wide - right, top, bottom: tall - bottom }));
  });
}

/** Dots as one path: circles of no length, drawn by their round ends. */
const dots = (points, style) => svg("path", { class: `dots ${style}`, d: points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("") });
