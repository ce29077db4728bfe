// Searches of before, and those that were saved: in this browser alone.

import { written } from "../address.js";
import { $, button, make, plain, say } from "../elements.js";
import { titleOf } from "../query/terms.js";
import { search } from "../search.js";
import { store, storedList } from "../storage.js";

const RECENT = "clipserve.recent",
  SAVED = "clipserve.saved",
  MOST = { [RECENT]: 30, [SAVED]: 200 };
const LONGEST = 4000; // characters of an address; longer ones hold a whole picture

/** Note a search that has hits. */
export function remember(current) {
  keep(RECENT, current);
}

function keep(name, current) {
  const hash = written(current),
    title = titleOf(current);
  if (!title || hash.length > LONGEST) return false;
  const others = storedList(name).filter((entry) => entry.hash !== hash);
  return store(
    "localStorage",
    name,
    JSON.stringify([{ hash, title, collection: current.collection }, ...others].slice(0, MOST[name])),
  );
}

function save() {
  if (!search().parts.length && !search().filter && !search().view) return say("There is no search to save yet.", true);
  if (keep(SAVED, search())) say("The search is saved: Searches lists it.");
  else
    say(
      "This search can't be saved: the browser's storage is full or forbidden, or its picture isn't kept by the sidecar.",
      true,
    );
}

function show() {
  const close = button("Close", () => $("kept").close());
  $("kept").replaceChildren(
    make("h2", { id: "kept-title", textContent: "Searches" }),
    ...section("Saved", SAVED),
    ...section("Recent", RECENT),
    make("div", { className: "choices" }, close),
  );
  if (!$("kept").open) $("kept").showModal();
}

function section(title, name) {
  const entries = storedList(name);
  const items = entries.map((entry) => item(entry, name));
  const clear =
    entries.length > 1
      ? [button(`Forget all ${title.toLowerCase()}`, () => forget(name, () => true), { className: "quiet" })]
      : [];
  return [
    make("h3", { textContent: title }),
    entries.length
      ? make("ul", { role: "list", "aria-label": `${title} searches` }, ...items)
      : make("p", { className: "note", textContent: "none" }),
    ...clear,
  ];
}

function item({ hash, title, collection }, name) {
  const open = make(
    "a",
    { href: hash, dir: "auto" },
    plain(title, 120),
    make("small", { dir: "auto", textContent: plain(collection || "", 40) }),
  );
  open.addEventListener("click", () => $("kept").close());
  return make(
    "li",
    {},
    open,
    button("×", () => forget(name, (entry) => entry.hash === hash), {
      className: "remove",
      "aria-label": `Forget ${plain(title, 60)}`,
    }),
  );
}

function forget(name, isForgotten) {
  store("localStorage", name, JSON.stringify(storedList(name).filter((entry) => !isForgotten(entry))));
  show();
}

export function prepareSearches() {
  $("searches").addEventListener("click", show);
  $("save").addEventListener("click", save);
}
