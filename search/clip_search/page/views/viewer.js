// A hit in full: the picture, its path and columns, and what can be done with it.

import { isReadOnly } from "../collections.js";
import { $, button, make, plain, say, unturned } from "../elements.js";
import { nameOf } from "../hits/tile.js";
import { change, part, search } from "../search.js";
import { ask, askJson, pathOf } from "../server.js";
import { marks } from "./feedback.js";
import { save } from "./files.js";

const DELETION =
  "Delete this row from the collection? Its file stays where it is, and as long as it does, the next “clipserve up” or “search add” of its folder brings the row back.";
const ROW = /^row \d+ of collection [\w-]+ has no picture in full: /; // which one is seen
let shown = null; // {hits, at, end, leave, removed, near, mark}

/** Show the hit at a place in a list; `leave(at)` is called when it is closed, `removed(hit, at)` after a deletion, `near()` when the end comes near; `mark(at, kind)` sends a mark, if they are taken. */
export function view(hits, at, { leave, removed, near = () => {}, mark }) {
  shown?.end?.();
  shown = { hits, at, leave, removed, near, mark, end: () => {} };
  const hit = hits[at],
    dialog = $("viewer");
  const frame = make("div", { className: "frame", "aria-busy": "true" }),
    words = make("p", { className: "words", role: "status", dir: "auto" });
  const facts = make("dl"),
    columns = make("div", { className: "facts", role: "group", tabIndex: 0, "aria-label": "Columns" }, facts);
  const side = make(
    "div",
    { className: "side" },
    make("h2", { dir: "auto", textContent: nameOf(hit) }),
    words,
    doings(hit, words),
    columns,
  );
  dialog.replaceChildren(
    make("div", { className: "stage" }, frame, ...steps()),
    side,
    button("×", close, { className: "close", "aria-label": "Close" }),
  );
  if (!dialog.open) dialog.showModal();
  if (at >= hits.length - 2) near();
  showPicture(hit, frame, words);
  showFacts(hit, facts, words);
}

function steps() {
  const { hits, at } = shown;
  const go = (by, name) => () => {
    view(hits, at + by, shown);
    const next = $("viewer").querySelector(name);
    (next.disabled ? $("viewer").querySelector(".close") : next).focus();
  };
  const back = button("‹", go(-1, ".back"), { className: "step back", "aria-label": "The one before", disabled: at === 0 });
  return [
    back,
    button("›", go(1, ".on"), { className: "step on", "aria-label": "The next", disabled: at === hits.length - 1 }),
  ];
}

async function showPicture(hit, frame, words) {
  const stop = new AbortController(),
    urls = [];
  shown.end = () => {
    stop.abort();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
  const load = async (path) => {
    const url = URL.createObjectURL(await (await ask(path, undefined, stop.signal)).blob());
    urls.push(url);
    const image = make("img", { src: url, alt: nameOf(hit) });
    await image.decode();
    frame.replaceChildren(image);
  };
  if (hit.thumbnail) await load(hit.thumbnail).catch(() => {});
  try {
    if (hit.thumbnail) await load(pathOf(search().collection, `/pictures/${hit.row}`));
  } catch (problem) {
    if (stop.signal.aborted) return;
    const reason = plain(problem.message, 400).replace(ROW, "");
    words.textContent = `Only the small picture can be shown: ${reason}`;
  }
  if (!frame.firstChild)
    frame.append(make("p", { className: "words", dir: "auto", tabIndex: 0, textContent: hit.caption || plain(hit.id, 2000) }));
  frame.setAttribute("aria-busy", "false");
}

async function showFacts(hit, facts, words) {
  const fact = (name, value) =>
    facts.append(
      make("dt", { dir: "auto", textContent: plain(name, 64) }),
      make("dd", { dir: "auto", textContent: unturned(value) }),
    );
  if (hit.score !== undefined) fact("score", hit.score.toFixed(4));
  fact("id", hit.id);
  try {
    const [row] = (await askJson(pathOf(search().collection, "/get"), { ids: [hit.id] })).rows;
    if (!row) throw new Error("This row is gone: another has deleted it.");
    hit.source = row.source || "";
    if (row.source) fact("path", row.source);
    for (const [name, value] of Object.entries(row.metadata))
      if (value !== null) fact(name, typeof value === "object" ? JSON.stringify(value) : value);
    if (row.time) fact("added", row.time.slice(0, 19).replace("T", " "));
  } catch (problem) {
    words.textContent = plain(problem.message, 400);
  }
}

function doings(hit, words) {
  const more = button("More like this", () => leaveFor([part("row", hit.id)]), { className: "main" });
  const less = button("Less like this", () =>
    leaveFor([...search().parts.filter(({ value, kind }) => kind !== "row" || value !== hit.id), part("row", hit.id, true)]),
  );
  const path = button("Copy path", () => copy(hit.source || hit.id, words));
  const { at, mark } = shown;
  return make(
    "div",
    { className: "doings" },
    more,
    less,
    ...(mark ? marks(hit, (kind) => mark(at, kind), false) : []),
    button("Download", () => download(hit, words)),
    path,
    ...(isReadOnly() ? [] : [button("Delete…", () => askToDelete(hit, words), { className: "danger", id: "delete" })]),
  );
}

function leaveFor(parts) {
  shown.leave = () => $("text").focus();
  close();
  change({ parts, view: "" });
}

async function download(hit, words) {
  try {
    const answer = await ask(pathOf(search().collection, `/pictures/${hit.row}?download=1`));
    save(await answer.blob(), nameIn(answer.headers.get("Content-Disposition")) || hit.id.split(/[\\/]/).pop());
    words.textContent = "It is downloaded.";
  } catch (problem) {
    words.textContent = plain(problem.message, 400);
  }
}

function nameIn(disposition) {
  const encoded = /filename\*=UTF-8''([^;]+)/i.exec(disposition || "")?.[1];
  try {
    return encoded ? decodeURIComponent(encoded) : /filename="([^"]+)"/i.exec(disposition || "")?.[1];
  } catch {
    return "";
  }
}

async function copy(text, words) {
  try {
    await navigator.clipboard.writeText(text);
    words.textContent = "The path is copied.";
  } catch {
    words.textContent = "This browser doesn't let pages copy here: mark the path below.";
  }
}

function askToDelete(hit, words) {
  const keep = button(
    "Keep it",
    () => $("viewer").querySelector(".sure").replaceWith(doings(hit, words)) || $("delete").focus(),
  );
  const remove = button("Delete it", () => deleteRow(hit, words), { className: "danger" });
  const question = make("p", { textContent: DELETION });
  $("viewer")
    .querySelector(".doings")
    .replaceWith(make("div", { className: "sure", role: "group", "aria-label": "Deletion" }, question, remove, keep));
  keep.focus();
}

async function deleteRow(hit, words) {
  try {
    await ask(pathOf(search().collection, "/delete"), { ids: [hit.id] });
  } catch (problem) {
    words.textContent = plain(problem.message, 400);
    return;
  }
  const { at, removed } = shown;
  close();
  const told = `${plain(nameOf(hit), 80)} is deleted.`;
  say(told);
  await removed(hit, at);
  const state = $("status").textContent; // of a list that is empty now
  if (state !== told) say(`${told} ${state}`);
}

/** Close at once: the event of a closed dialog comes later, and would take the focus from where a quick key has moved it. */
function close() {
  if (!shown) return;
  const { at, leave, end } = shown;
  shown = null;
  end();
  $("viewer").close();
  $("viewer").replaceChildren();
  leave(at);
}

export function prepareViewer() {
  $("viewer").addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  $("viewer").addEventListener("close", close); // by the browser itself
  $("viewer").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: ".back", ArrowRight: ".on" }[event.key];
    if (!step || event.target.closest(".facts")) return;
    const next = $("viewer").querySelector(step);
    if (!next.disabled) next.click();
  });
  $("viewer").addEventListener("click", (event) => event.target === $("viewer") && close());
}
