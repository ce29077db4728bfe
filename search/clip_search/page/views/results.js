// What the search shows: hits, near-duplicates, or a start. It waits, tells how many there are, and says what went wrong.

import { collections, columnsOf, first, isReadOnly, loadCollections, refresh, rowsOf, showCollections, statistics } from "../collections.js";
import { $, button, count, counted, plain, say } from "../elements.js";
import { Feed } from "../hits/feed.js";
import { Grid } from "../hits/grid.js";
import { condition } from "../query/conditions.js";
import { markFilter } from "../query/filter.js";
import { change, part, search } from "../search.js";
import { askJson, pathOf } from "../server.js";
import { askWhatFor } from "./adding.js";
import { isTaken, tell } from "./feedback.js";
import { clearNear, showNear } from "./near.js";
import { remember } from "./searches.js";
import { loadStart, showAbout, showStart, slimRows } from "./start.js";
import { clearState, showEmpty, showGone, showNoCollection, showTrouble } from "./states.js";
import { view } from "./viewer.js";

const SKELETONS = 12,
  PATIENCE_MS = 150; // a quick answer shows none
let feed = null,
  stop = new AbortController(),
  waiting = 0,
  lastTold = "",
  reload = () => {};

export const shownFeed = () => feed;

export const grid = new Grid(
  $("hits"),
  (hit, at) => ({
    open: () => {
      tell(feed, grid.hits, at, "click");
      view(grid.hits, at, { leave: (last) => grid.focus(last), removed: removedFrom, near: more, mark: isTaken(feed) && marked });
    },
    mark: isTaken(feed) && ((kind) => tell(feed, grid.hits, at, kind)),
    more: () => change({ parts: [part("row", hit.id)], view: "" }),
  }),
  more,
);

const marked = (at, kind) => tell(feed, grid.hits, at, kind);

/** Take a deleted hit away, and bring the numbers in line. */
async function removedFrom(hit, at) {
  const mine = feed;
  grid.remove(at);
  if (grid.hits.length) grid.focus(Math.min(at, grid.hits.length - 1));
  else $("text").focus();
  if (mine) mine.removed();
  await recount();
  if (!grid.hits.length && mine === feed && !mine?.isLoading) await run();
}

/** Load the numbers of the collections again, and show them. */
export async function recount() {
  await refresh();
  showCounts();
}

/** Show the numbers of the collections as they are known by now. */
export function showCounts() {
  showCollections(search().collection);
  if (statistics(search().collection)) showAbout();
  if (feed?.passing && !feed.hasFailed && $("status").textContent === lastTold) say((lastTold = told(feed)));
}

/** Say that a query can't be searched with; the hits of another would seem to be its own. */
export function refuse(message) {
  stop.abort();
  feed?.end();
  feed = null;
  clearState();
  clearNear();
  grid.clear();
  for (const id of ["start", "near"]) $(id).hidden = true;
  $("hits").setAttribute("aria-busy", "false");
  say(message, true);
}

/** Let results begin anew from the collections, `load()`, once one of them is gone. */
export function prepareResults(load) {
  reload = load;
}

/** Show the search from its beginning. */
export function run() {
  stop.abort();
  stop = new AbortController();
  feed?.end();
  feed = null;
  clearState();
  clearNear();
  grid.clear();
  say("");
  markFilter(false);
  const { collection, view: wanted, parts } = search();
  $("start").hidden = true;
  $("near").hidden = wanted !== "duplicates";
  if (!collections().length && !collection) return showNoCollection(() => askWhatFor([]));
  if (!collection) return change({ collection: first() }, { replace: true });
  if (!statistics(collection)) return attempt(lookAgain);
  if (wanted === "duplicates") return attempt(() => showNear(0, stop.signal, attempt));
  if (!parts.length) return attempt(start);
  feed = new Feed(search());
  return more();
}

/** Begin anew for a collection that was made since the list was loaded, or say that it is gone. */
async function lookAgain() {
  const { signal } = stop,
    { collection } = search();
  await loadCollections();
  if (signal.aborted) return;
  if (statistics(collection)) return reload();
  showGone(collection, reload);
}

async function start() {
  const { signal } = stop,
    rows = await loadStart(signal);
  if (signal.aborted) return "";
  showStart(rows, () => run());
  $("start").hidden = false;
  grid.append(slimRows(rows), false);
  if (rows.length && isNarrowed(search())) return narrowed(rows.length, signal);
  if (rows.length) return "Describe what you look for, or drop, paste or choose a picture.";
  return statistics(search().collection).rows ? nothing() : empty();
}

/** Return a line on how many rows a filter keeps. */
async function narrowed(shown, signal) {
  const { collection } = search(),
    about = statistics(collection),
    asked = new URLSearchParams({ filter: condition(search(), about.columns || {}), columns: "has_image" });
  const { rows } = await askJson(`${pathOf(collection, "/facets")}?${asked}`, undefined, signal);
  const some = rows > shown ? `, ${count(shown)} of them shown` : "";
  return `${count(rows)} of ${counted(about.rows, "row")} ${rows === 1 ? "passes" : "pass"}${some}. Describe what you look for among them.`;
}

const isNarrowed = (current) => Boolean(current.filter || Object.keys(current.facets).length);

async function more() {
  if (!feed || feed.isLoading || feed.isWhole || feed.hasFailed) return;
  const mine = feed;
  await attempt(async () => {
    const hits = await mine.next();
    if (mine !== feed) return "";
    grid.append(hits, !mine.isWhole);
    if (mine.taken === hits.length) remember(mine.search);
    if (!mine.taken) return nothing();
    if (mine.taken === hits.length) recount(); // a folder may be watched
    return (lastTold = told(mine));
  });
}

/** Do what takes time: the list is busy meanwhile, and a failure is told with a way to go on. */
async function attempt(work) {
  const mine = stop;
  $("hits").setAttribute("aria-busy", "true");
  clearTimeout(waiting);
  waiting = setTimeout(() => grid.wait(SKELETONS), PATIENCE_MS);
  try {
    const words = await work();
    if (mine === stop && words) say(words);
  } catch (problem) {
    if (mine === stop && problem.name !== "AbortError") await fail(problem, work);
  }
  if (mine !== stop) return;
  clearTimeout(waiting);
  if (grid.skeletons) grid.wait(0);
  $("hits").setAttribute("aria-busy", "false");
}

async function fail(problem, work) {
  if (feed) feed.hasFailed = true;
  if (problem.status === 404 && (await isGone())) return reload();
  const mine = stop,
    message = await explained(problem);
  if (mine !== stop) return;
  $("hits")[grid.hits.length ? "after" : "before"]($("state"));
  await showTrouble(Object.assign(problem, { message }), () => {
    if (feed) feed.hasFailed = false;
    clearState();
    attempt(work);
  });
}

/** Tell if the collection was dropped meanwhile. */
async function isGone() {
  await loadCollections().catch(() => {});
  return !statistics(search().collection);
}

/** Return an error's message; that of a filter has the names of the collection's columns. */
async function explained(problem) {
  const { collection } = search(),
    filter = condition(search(), statistics(collection)?.columns || {});
  if (problem.status !== 400 || !filter) return problem.message;
  try {
    await askJson(`${pathOf(collection, "/rows")}?${new URLSearchParams({ filter, limit: 1 })}`);
    return problem.message;
  } catch (reason) {
    markFilter(reason.status === 400);
    return /columns|fields are/i.test(reason.message)
      ? reason.message
      : `${reason.message} The columns here: ${columnsOf(collection).slice(0, 20).join(", ")}.`;
  }
}

/** Return a line on how many rows pass, and how long the answer took. */
function told({ search: asked, kinds, passing, milliseconds, isWhole }) {
  const all = rowsOf(asked.collection, asked.modality) || statistics(asked.collection)?.rows || 0;
  const hasCondition = Boolean(asked.threshold || condition(asked, kinds)),
    { embed, search: index, total } = milliseconds;
  const hits = isWhole ? counted(grid.hits.length, "hit") : `${count(grid.hits.length)} or more hits`;
  const passed =
    passing && hasCondition
      ? `${count(passing.rows)}${passing.more ? " or more" : ""} of ${counted(all, "row")} ${passing.rows === 1 ? "passes" : "pass"}`
      : counted(all, "row");
  const order = asked.sort ? `by ${plain(asked.sort.replace(/^-/, ""), 40)}` : "nearest first";
  const shares = index === undefined ? "" : ` (model ${Math.round(embed)}, index ${Math.round(index)})`;
  return `${passing ? passed : hits}, ${order}${asked.fold ? ", duplicates folded" : ""} · ${Math.round(total)} ms${shares}`;
}

function nothing() {
  const { threshold } = search();
  const actions = [];
  if (isNarrowed(search()))
    actions.push(button("Without the filter", () => change({ filter: "", facets: {} })));
  if (threshold) actions.push(button("Any score", () => change({ threshold: "" })));
  showEmpty(
    "Nothing passes",
    actions.length
      ? "No row passes what is asked of the columns and the score."
      : "No row of this collection can be searched so.",
    ...actions,
  );
  return "Nothing passes.";
}

function empty() {
  $("start").hidden = true;
  showEmpty(
    "This collection is empty",
    ...(isReadOnly()
      ? ["Pictures are added at the sidecar that writes."]
      : [
          "Drop pictures here, or run: clipserve search add FOLDER",
          button("Add pictures…", () => askWhatFor([]), { className: "main" }),
        ]),
  );
  return "This collection is empty.";
}
