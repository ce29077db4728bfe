// The collections that there are, and the one that is searched. One that is gone is said to be gone, not replaced.

import { $, count, make, plain } from "./elements.js";
import { askJson } from "./server.js";

let list = [];

export async function loadCollections() {
  list = (await askJson("/v1/collections")).collections;
}

export const collections = () => list;

export const statistics = (name) => list.find((entry) => entry.name === name);

/** Return the collection that is shown if none was chosen. */
export const first = () => (list.find(({ rows }) => rows) || list[0])?.name || "";

export function showCollections(chosen) {
  const options = list.map(({ name, rows }) =>
    make("option", { value: name, textContent: `${plain(name, 60)} (${count(rows)})` }),
  );
  if (chosen && !statistics(chosen))
    options.push(make("option", { value: chosen, textContent: `${plain(chosen, 60)} (gone)` }));
  $("collection").replaceChildren(...options);
  $("collection").value = chosen;
}

/** Return the names of a collection's columns, the sidecar's own last. */
export function columnsOf(name) {
  const own = Object.keys(statistics(name)?.columns || {});
  return [
    ...own,
    ...["id", "source", "time", "row", "has_image", "has_text", "has_thumbnail"].filter((column) => !own.includes(column)),
  ];
}

export function rowsOf(name, tower) {
  return statistics(name)?.indexes?.[tower]?.rows || 0;
}
