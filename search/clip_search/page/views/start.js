// Before a search: what the collection is, examples, and some of its rows.

import { statistics } from "../collections.js";
import { $, button, counted, make, plain } from "../elements.js";
import { slim } from "../hits/tile.js";
import { condition } from "../query/conditions.js";
import { change, part, search } from "../search.js";
import { askJson, pathOf } from "../server.js";

const ROWS = 60,
  EXAMPLES = 6;
const NEUTRAL = ["a red car", "people at a table", "water", "something round", "a face", "letters and words"];
let seed = 1 + Math.floor(Math.random() * 1e6);

/** Return rows to show before a search, and show what the collection is. */
export async function loadStart(signal) {
  const { collection, order } = search(),
    kinds = statistics(collection)?.columns || {};
  const asked = new URLSearchParams({ order, seed, limit: ROWS, filter: condition(search(), kinds) });
  const { rows } = await askJson(`${pathOf(collection, "/rows")}?${asked}`, undefined, signal);
  return rows;
}

export function showStart(rows, again) {
  const { collection, order } = search(),
    about = statistics(collection);
  const examples = examplesOf(rows).map((text) =>
    make(
      "li",
      {},
      button(text, () => change({ parts: [part("text", text)] }), { className: "example", dir: "auto" }),
    ),
  );
  const select = make(
    "select",
    { id: "order", "aria-label": "Rows shown before a search" },
    make("option", { value: "random", textContent: "a random selection" }),
    make("option", { value: "newest", textContent: "the newest" }),
  );
  select.value = order;
  select.addEventListener("change", () => change({ order: select.value }));
  const others = button(
    "Others",
    () => {
      seed += 1;
      again();
    },
    { className: "quiet", hidden: order !== "random" },
  );
  $("start").replaceChildren(
    make("h2", { dir: "auto", textContent: plain(collection, 80) }),
    make("p", { className: "about", id: "about" }, ...aboutOf(about)),
    ...(examples.length
      ? [
          make("h3", { textContent: "Try" }),
          make("ul", { className: "examples", role: "list", "aria-label": "Example searches" }, ...examples),
        ]
      : []),
    make("p", { className: "order" }, select, others),
  );
}

/** Show what the collection is by now. */
export function showAbout() {
  $("about")?.replaceChildren(...aboutOf(statistics(search().collection)));
}

function aboutOf({ rows, model, indexes }) {
  const texts = [counted(rows, "row")];
  if (model) texts.push(`model ${plain(model, 80)}`);
  return [
    ...texts.map((text) => make("span", { dir: "auto", textContent: text })),
    ...Object.values(indexes || {})
      .filter((index) => index.rows)
      .slice(0, 1)
      .map(recallOf),
  ];
}

/** The recall of an index is about the index: it compares with a search of every row by the same model. */
function recallOf({ recall, parts, engine }) {
  const title =
    "Share of the ten nearest rows of an exact search that the index returns too. It says nothing about how well the model understands pictures.";
  if (engine === "faiss" && (parts || []).every(({ kind }) => /flat|exact/i.test(kind) && !/ivf/i.test(kind)))
    return make("span", { title: "Every row is compared.", textContent: "searched exactly" });
  if (typeof recall !== "number") return make("span", { title, textContent: "index: not measured" });
  return make("span", { title, textContent: `index: ${(100 * recall).toFixed(1)} % of an exact search, measured` });
}

/** Return short captions of the rows, or a few neutral words. */
function examplesOf(rows) {
  const captions = rows
    .map(({ metadata }) =>
      String(metadata.caption ?? "")
        .split("\n")[0]
        .trim(),
    )
    .map((caption) => caption.split(/\s+/).slice(0, 6).join(" "));
  const short = [...new Set(captions.map((caption) => plain(caption, 50)))].filter(
    (caption) => caption.length > 1 && !caption.endsWith("…"),
  );
  if (short.length) return short.slice(0, EXAMPLES);
  return rows.length && !statistics(search().collection).notice ? NEUTRAL : []; // a model with a notice may not know them
}

export const slimRows = (rows) => rows.map((row) => slim(row));
