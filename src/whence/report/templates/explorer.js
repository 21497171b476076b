"use strict";
// What the explorer's pages do with a script: colours, keys, and progress without a new page. All else works without.

(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const find = (what) => document.querySelector(what);
  const all = (what) => [...document.querySelectorAll(what)];

  // Colours: as the system, light or dark; kept in this browser where it keeps anything.
  const order = ["auto", "light", "dark"];
  const says = { auto: "as the system", light: "light", dark: "dark" };
  const stored = () => {
    try {
      return localStorage.getItem("whence-theme");
    } catch {
      return null;
    }
  };
  function colour(name) {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    find("#theme").setAttribute("aria-label", `Colours: ${says[name]}`);
    find("#theme span").textContent = ` ${name}`;
  }
  let theme = order.includes(stored()) ? stored() : "auto";
  colour(theme);
  find("#theme").addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    colour(theme);
    try {
      localStorage.setItem("whence-theme", theme);
    } catch {
      // a private window: the choice lasts as long as the page
    }
  });

  // Keys: / to the search, j and k along the rows, n and p to the next and the previous page.
  const rows = () => all(".hits a.line, .hits .what > a, .asks a.asked, .runs h2 a");
  function step(by) {
    const links = rows();
    const at = links.indexOf(document.activeElement);
    links[Math.max(0, Math.min(links.length - 1, at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by))]?.focus();
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const act = {
      "/": () => find("input[type=search]")?.focus(),
      j: () => step(1),
      k: () => step(-1),
      n: () => find(".pager a[rel=next]")?.click(),
      p: () => find(".pager a[rel=prev]")?.click(),
    }[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // An address says what was asked, and not what was left empty.
  for (const form of all("form"))
    form.addEventListener("submit", () => {
      const bySort = !form.elements.sort || ["raises", "lowers"].includes(form.elements.sort.value);
      const empty = [...form.elements].filter((one) => one.name && (!one.value.trim() || (one.name === "by" && !bySort)));
      for (const one of empty) one.disabled = true;
      setTimeout(() => empty.forEach((one) => (one.disabled = false)));
    });

  // What changes while a job is at work: one part of the page is asked for again; at its end, the page.
  async function follow() {
    const part = find("#progress[data-live]");
    if (!part) return;
    try {
      const answer = await fetch(part.dataset.live);
      const fresh = answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#progress") : null;
      if (!fresh?.dataset.live) return location.reload();
      const open = part.querySelector("details")?.open;
      part.replaceWith(fresh);
      if (open && fresh.querySelector("details")) fresh.querySelector("details").open = true;
    } catch {
      part.querySelector("p").textContent = "The server does not answer: it may have been ended.";
      return;
    }
    setTimeout(follow, 2000);
  }
  if (find("#progress[data-live]")) setTimeout(follow, 2000);
  if (find("[data-again]")) setTimeout(() => location.reload(), 1000);
})();
