// The collections that there are, and the one that is searched. One that is gone is said to be gone, not replaced.

import { $, count, make, plain } from "./elements.js";
import { askJson } from "./server.js";

const AGAIN_MS = 10_000;
let list = [],
  readOnly = false,
  feedback = false;

export async function loadCollections() {
  const answer = await askJson("/v1/collections");
  list = answer.collections.map(({ behind_s, ...kept }) => kept); // which differs each time
  readOnly = Boolean(answer.read_only);
  feedback = Boolean(answer.feedback);
  $("add").hidden = readOnly;
}

/** Tell if the sidecar only follows what another one writes. */
export const isReadOnly = () => readOnly;

/** Tell if the sidecar takes clicks and marks on hits. */
export const takesFeedback = () => feedback;

/** Load the collections again while the page is seen, and call `changed()` if one has: others add and delete meanwhile. */
export function keepFresh(changed) {
  const look = () => !document.hidden && list.length && refresh().then((isOther) => isOther && changed());
  setInterval(look, AGAIN_MS);
  addEventListener("focus", look);
  document.addEventListener("visibilitychange", look);
}

/** Load the collections again, if they can be had; tell if one has changed. */
export async function refresh() {
  const before = JSON.stringify(list);
  await loadCollections().catch(() => {});
  return JSON.stringify(list) !== before;
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
  const shown = ({ value, textContent }) => `${value}\n${textContent}`;
  if (options.map(shown).join() !== [...$("collection").options].map(shown).join()) $("collection").replaceChildren(...options); // an open list stays open
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
