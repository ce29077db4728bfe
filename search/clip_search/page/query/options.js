// The box and the options beside it: they show the search, and change it.

import { columnsOf, rowsOf, statistics } from "../collections.js";
import { $, make, plain } from "../elements.js";
import { boxText, change, search, withBoxText } from "../search.js";
import { isAddress, searchWithAddress } from "./given.js";

const NOT_SORTED = /^(list|binary)/;

export function showOptions(current, before) {
  const text = (state) => (state && boxText(state)?.value) || "";
  if (!before || text(current) !== text(before)) $("text").value = text(current); // what is being typed stays
  if (!before || current.filter !== before.filter) $("filter").value = current.filter;
  $("threshold").value = current.threshold;
  $("fold").checked = current.fold;
  $("captions").checked = current.captions;
  $("modality").value = current.modality || "image";
  $("modalities").hidden = !rowsOf(current.collection, "image") || !rowsOf(current.collection, "text");
  $("duplicates").setAttribute("aria-pressed", current.view === "duplicates");
  $("filter").placeholder = exampleOf(statistics(current.collection)?.columns || {});
  for (const id of ["save", "link", "download"]) $(id).hidden = !current.parts.length && !current.filter && !current.view;
  showOrders(current);
}

/** Return a condition as an example, on a column that there is. */
function exampleOf(kinds) {
  const names = Object.keys(kinds),
    number = names.find((name) => /^(int|float|uint)/.test(kinds[name]));
  if (number) return `${number} > ${number === "year" ? 2000 : 0}`;
  const text = names.find((name) => kinds[name] === "string");
  return `${text || "id"} LIKE '%cat%'`;
}

function showOrders({ collection, sort }) {
  const kinds = statistics(collection)?.columns || {};
  const columns = columnsOf(collection).filter(
    (name) => !name.startsWith("has_") && name !== "row" && !NOT_SORTED.test(kinds[name] || ""),
  );
  const orders = columns.flatMap((name) => [
    [name, `${name} ↑`],
    [`-${name}`, `${name} ↓`],
  ]);
  if (sort && !orders.some(([value]) => value === sort)) orders.push([sort, sort]);
  const options = orders.map(([value, words]) => make("option", { value, textContent: plain(words, 40) }));
  $("sort").replaceChildren(make("option", { value: "", textContent: "nearest first" }), ...options);
  $("sort").value = sort;
}

function submit(event, again) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (isAddress(text)) {
    $("text").value = "";
    return searchWithAddress(text);
  }
  const values = {
    parts: withBoxText(search().parts, text),
    filter: $("filter").value.trim(),
    view: text ? "" : search().view,
  };
  if (!change(values)) again();
}

/** Let the options work; `again()` repeats a search that stays as it is. */
export function prepareOptions(again) {
  $("form").addEventListener("submit", (event) => submit(event, again));
  $("collection").addEventListener("change", () => {
    const parts = search().parts.filter(({ kind }) => kind !== "row"); // a row is another collection's
    change({ collection: $("collection").value, parts, facets: {}, sort: "", modality: "" });
  });
  for (const name of ["modality", "sort"]) $(name).addEventListener("change", () => change({ [name]: $(name).value }));
  for (const name of ["fold", "captions"]) $(name).addEventListener("change", () => change({ [name]: $(name).checked }));
  $("threshold").addEventListener("change", () => {
    const value = $("threshold").valueAsNumber;
    change({ threshold: Number.isNaN(value) ? "" : String(Math.max(-1, Math.min(1, value))) });
  });
  $("options").addEventListener("click", () => openOptions($("tools").hidden));
  openOptions(matchMedia("(min-width: 800px)").matches);
  if (matchMedia("(max-width: 640px)").matches) $("text").placeholder = "Describe a picture"; // nothing is dropped there, nor is there room
}

export function openOptions(isOpen) {
  $("tools").hidden = !isOpen;
  $("options").setAttribute("aria-expanded", isOpen);
}
