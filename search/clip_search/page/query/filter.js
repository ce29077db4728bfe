// The filter box: a combobox that completes the collection's own columns.

import { columnsOf } from "../collections.js";
import { $, make, plain } from "../elements.js";
import { change, search } from "../search.js";
import { valuesOf } from "./facets.js";
import { completions } from "./words.js";

let offered = { from: 0, texts: [] },
  chosen = -1;

function offer() {
  const before = $("filter").value.slice(0, $("filter").selectionStart);
  offered = completions(before, columnsOf(search().collection), valuesOf);
  chosen = -1;
  $("completions").replaceChildren(...offered.texts.map(option));
  show(offered.texts.length > 0);
}

function option(text, n) {
  const made = make("li", {
    role: "option",
    id: `completion-${n}`,
    "aria-selected": "false",
    dir: "auto",
    textContent: plain(text, 80),
  });
  made.addEventListener("mousedown", (event) => {
    event.preventDefault(); // the box keeps the focus
    accept(n);
  });
  return made;
}

function show(isOpen) {
  $("completions").hidden = !isOpen;
  $("filter").setAttribute("aria-expanded", isOpen);
  $("filter").removeAttribute("aria-activedescendant");
  if (!isOpen) offered = { from: 0, texts: [] };
}

function choose(n) {
  const options = [...$("completions").children];
  chosen = (n + options.length) % options.length;
  options.forEach((each, at) => each.setAttribute("aria-selected", at === chosen));
  options[chosen].scrollIntoView({ block: "nearest" });
  $("filter").setAttribute("aria-activedescendant", options[chosen].id);
}

function accept(n) {
  const box = $("filter"),
    end = box.selectionStart;
  box.setRangeText(offered.texts[n], offered.from, end, "end");
  show(false);
}

function key(event) {
  const isOpen = offered.texts.length > 0;
  if (event.key === "ArrowDown" && !isOpen) offer();
  if (event.key === "ArrowDown" && offered.texts.length) choose(isOpen ? chosen + 1 : 0);
  else if (event.key === "ArrowUp" && isOpen) choose(chosen < 0 ? offered.texts.length - 1 : chosen - 1);
  else if ((event.key === "Enter" || event.key === "Tab") && isOpen && chosen >= 0) accept(chosen);
  else if (event.key === "Escape" && isOpen) show(false);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** Mark the filter as wrong, or as right again. */
export function markFilter(isWrong) {
  if (isWrong) $("filter").setAttribute("aria-invalid", "true");
  else $("filter").removeAttribute("aria-invalid");
}

export function prepareFilter() {
  $("filter").addEventListener("input", offer);
  $("filter").addEventListener("keydown", key);
  $("filter").addEventListener("blur", () => show(false));
  $("filter").setAttribute("aria-describedby", "status");
  $("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    show(false);
    change({ filter: $("filter").value.trim() });
  });
}
