// Theme, tooltips, and which runs are drawn. Without scripts the report is complete and does none of this.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const show = (name) => {
    root.dataset.theme = name;
    toggle.textContent = name === "dark" ? "Light theme" : "Dark theme";
  };
  let chosen = null; // until the reader decides, the system does
  show(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => chosen || show(dark.matches ? "dark" : "light"));
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    show(chosen);
  });

  const tip = document.getElementById("tip");
  const hide = () => {
    tip.hidden = true;
    document.querySelectorAll(".here").forEach((mark) => mark.classList.remove("here"));
  };
  const say = (mark) => {
    hide();
    mark.classList.add("here");
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 6);
    const above = box.top - own.height - 8;
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  };
  const visible = (mark) => getComputedStyle(mark).visibility !== "hidden";
  const marksOf = (chart) => [...chart.querySelectorAll("[data-tip]")].filter(visible);
  // The nearest mark within a finger's width: dots are small.
  const nearest = (chart, x, y) => {
    let best = null, least = 26;
    for (const mark of marksOf(chart)) {
      const box = mark.getBoundingClientRect();
      const apart = Math.hypot(
        Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
      if (apart < least) [best, least] = [mark, apart];
    }
    return best;
  };
  document.querySelectorAll("svg[role=img]").forEach((chart) => {
    const point = (event) => {
      const mark = nearest(chart, event.clientX, event.clientY);
      if (mark) say(mark); else hide();
    };
    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      const marks = marksOf(chart);
      if (!marks.length) return;
      event.preventDefault();
      const now = marks.findIndex((mark) => mark.classList.contains("here"));
      say(marks[(now + step + marks.length + (now < 0 && step < 0 ? 1 : 0)) % marks.length]);
    });
  });
  addEventListener("scroll", hide, {passive: true});

  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!on));
      button.closest("section").classList.toggle(`off${button.dataset.slot}`, on);
    });
  });
})();
