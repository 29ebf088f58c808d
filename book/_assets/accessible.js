/* What the theme and its extensions leave undone for readers without a mouse or without sight. */

(() => {
  "use strict";

  // Everything that may be wider than the page. Only what is can be focused, so that Tab stops nowhere in vain.
  const WIDE = ".plot-scroll, .pst-scrollable-table-container, .bd-content div.math, .bd-content pre, .cell_output, " +
    ".cell_output .output, .player-stills, .player-edge-table";

  const LABELS = { "plot-scroll": "Figure, scrolls sideways", math: "Formula, scrolls sideways" };

  function scrolls(element) {
    const { overflowX, overflowY } = getComputedStyle(element);
    const may = (overflow) => overflow === "auto" || overflow === "scroll";
    return (may(overflowX) && element.scrollWidth > element.clientWidth) ||
      (may(overflowY) && element.scrollHeight > element.clientHeight);
  }

  function reach(element) {
    if (scrolls(element)) {
      const kind = Object.keys(LABELS).find((name) => element.classList.contains(name));
      element.tabIndex = 0;
      element.setAttribute("role", "group");
      element.setAttribute("aria-label", LABELS[kind] ?? "Scrolls sideways");
      element.dataset.reached = "";
    } else if ("reached" in element.dataset) {
      for (const name of ["tabindex", "role", "aria-label", "data-reached"]) element.removeAttribute(name);
    }
    fade(element);
  }

  // Where a system hides its scroll bars, a cut looks like an end: the side that goes on fades (accessible.css).
  function fade(element) {
    const rest = element.scrollWidth - element.clientWidth - element.scrollLeft;
    const sideways = "reached" in element.dataset && element.scrollWidth > element.clientWidth;
    element.toggleAttribute("data-more-right", sideways && rest > 1);
    element.toggleAttribute("data-more-left", sideways && element.scrollLeft > 1);
  }

  function watch() {
    // A formula grows once it is set and an image once it is there: the content is watched, not only its frame.
    const sizes = new ResizeObserver((entries) => {
      for (const element of new Set(entries.map(({ target }) => target.closest(WIDE)))) reach(element);
    });
    for (const element of document.querySelectorAll(WIDE)) {
      for (const part of [element, ...element.children]) sizes.observe(part);
      element.addEventListener("scroll", () => fade(element), { passive: true });
    }
  }

  // "Toggle hidden content" hides from a screen reader what everybody else reads: "Show code cell source".
  function name() {
    for (const own of document.querySelectorAll("details > summary[aria-label], button.search-button-field[aria-label]")) {
      if (own.textContent.trim()) own.removeAttribute("aria-label");
    }
    // A long signature is set as a list of definitions without terms: to a screen reader it is one line of code.
    for (const own of document.querySelectorAll("dt.sig dl, dt.sig dl > dd")) own.setAttribute("role", "none");
    // The bibliography is a list by its role, and its entries are none.
    for (const entry of document.querySelectorAll("[role=list] > .citation")) entry.setAttribute("role", "listitem");
  }

  function start() {
    name();
    watch();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
