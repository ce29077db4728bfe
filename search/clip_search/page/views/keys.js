// Keys: / to the box, arrows between hits, Enter opens one, m for more like it, r and w mark it as right or wrong, Escape back to the box.

import { $ } from "../elements.js";

const MARKS = { r: "right", w: "wrong" };

export function prepareKeys(grid) {
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.matches("input:not([type=checkbox]):not([type=range]), select"),
      at = grid.focused();
    if (event.key === "/" && !isTyping) take(event, () => $("text").select());
    else if (event.key === "Escape") $("text").focus();
    else if (event.key === "ArrowDown" && event.target === $("text") && grid.hits.length) take(event, () => grid.focus(0));
    else if (event.key === "m" && at >= 0) take(event, () => grid.actions(grid.hits[at], at).more());
    else if (MARKS[event.key] && at >= 0) take(event, () => grid.actions(grid.hits[at], at).mark?.(MARKS[event.key]));
    else if (event.key.startsWith("Arrow") && at >= 0) step(event, grid, at);
  });
}

function take(event, act) {
  event.preventDefault();
  act();
}

function step(event, grid, at) {
  const across = grid.measures().columns;
  const next = at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
  if (next < 0) take(event, () => $("text").focus());
  else if (next < grid.hits.length) take(event, () => grid.focus(next));
}
