// Near-duplicates: groups of rows whose pictures are almost the same.

import { statistics } from "../collections.js";
import { $, button, count, counted, make, say } from "../elements.js";
import { nameOf, slim, tile } from "../hits/tile.js";
import { condition } from "../query/conditions.js";
import { change, part, search } from "../search.js";
import { askJson, pathOf } from "../server.js";
import { view } from "./viewer.js";

const GROUPS = 20,
  MOST_SHOWN = 48; // rows of a group
let items = [];

let recount = async () => {};

/** Let near-duplicates bring the numbers in line after a deletion, `recounting()`. */
export function prepareNear(recounting) {
  recount = recounting;
}

export function clearNear() {
  items.forEach((item) => item.gone?.());
  items = [];
  $("near").replaceChildren();
}

/** Show groups from an offset on; return a line that says how many there are. */
export async function showNear(offset, signal, report) {
  const { collection, near } = search(),
    filter = condition(search(), statistics(collection)?.columns || {});
  const body = { threshold: Number(near), filter, limit: GROUPS, offset };
  const answer = await askJson(pathOf(collection, "/duplicates"), body, signal);
  if (!offset) {
    clearNear();
    $("near").append(head());
  }
  $("near").querySelector(".further")?.remove();
  $("near").append(...answer.groups.map(group));
  const shown = $("near").querySelectorAll(".group").length;
  if (answer.more)
    $("near").append(button("Show more", () => report(() => showNear(shown, signal, report)), { className: "further" }));
  const of = answer.checked === undefined ? "" : `, ${counted(answer.checked, "row")} compared`;
  if (!shown) return `No near-duplicates${of}.`;
  return `${answer.more ? `${count(shown)} or more groups` : counted(shown, "group")} of near-duplicates${of}`;
}

function head() {
  const range = make("input", { type: "range", min: 0.8, max: 1, step: 0.005, "aria-label": "Least likeness" });
  range.value = search().near;
  const words = make("output", { textContent: Number(search().near).toFixed(3) });
  range.addEventListener("input", () => (words.textContent = Number(range.value).toFixed(3)));
  range.addEventListener("change", () => change({ near: String(Number(range.value)) }));
  return make(
    "div",
    { className: "order" },
    make("h2", { textContent: "Near-duplicates" }),
    make("label", { textContent: "as like as " }, range, words),
    button("Back to the search", () => change({ view: "" }), { className: "quiet" }),
  );
}

function group({ rows, size = rows.length }) {
  const hits = rows.slice(0, MOST_SHOWN).map((hit) => slim(hit)),
    heading = make("h3", { textContent: counted(size, "row") }),
    left = () => (heading.textContent = counted((size -= 1), "row")),
    list = make("ul", { className: "tiles", role: "list", "aria-label": `${hits.length} like ${nameOf(hits[0])}` });
  hits.forEach((hit) => list.append(itemOf(hit, hits, list, left)));
  const rest =
    size > hits.length ? [make("p", { className: "note", textContent: `and ${count(size - hits.length)} more` })] : [];
  return make("div", { className: "group" }, heading, list, ...rest);
}

function itemOf(hit, hits, list, left) {
  const focus = (at) => (list.querySelectorAll(".open")[at] || $("duplicates")).focus();
  const removed = async (gone, at) => {
    hits.splice(hits.indexOf(gone), 1);
    list.children[at].remove();
    left();
    if (hits.length > 1) focus(Math.min(at, hits.length - 1));
    else leaveGroup(list.closest(".group"));
    await recount();
  };
  const open = () => view(hits, hits.indexOf(hit), { leave: focus, removed });
  const item = tile(hit, { open, more: () => change({ parts: [part("row", hit.id)], view: "" }) });
  items.push(item);
  return item;
}

/** Take a group away that has no duplicates any more; the focus goes to the next one, and the last is said to be. */
function leaveGroup(group) {
  const next = group.nextElementSibling || group.previousElementSibling;
  group.remove();
  const open = next?.querySelector(".open");
  (open || $("duplicates")).focus();
  if (!$("near").querySelector(".group")) $("near").append(make("p", { className: "note", textContent: "No near-duplicates are left." }));
}
