// Pictures added from the page: what they are for is asked, and the books of what became of each balance.

import { collections, isReadOnly } from "../collections.js";
import { $, button, count, counted, make, plain, say } from "../elements.js";
import { change, search } from "../search.js";
import { addFiles } from "./upload.js";

const NEW = "\n"; // no collection has this name
let searchWith = () => {},
  recount = async () => {},
  stop = null;

/** Let pictures be added; `searching(file)` searches with one, `recounting()` brings the numbers of the page in line. */
export function prepareAdding(searching, recounting) {
  searchWith = searching;
  recount = recounting;
  $("add").addEventListener("click", () => askWhatFor([]));
  $("adding").addEventListener("close", () => stop?.abort());
}

/** Ask if files are to be searched with or added; without files, for those to add. */
export function askWhatFor(files) {
  const dialog = $("adding"),
    single = files.length === 1 && files[0].file;
  if (isReadOnly()) return single ? void searchWith(single) : say("This sidecar only reads: add pictures at the one that writes.", true);
  const choose = make("input", {
    type: "file",
    multiple: true,
    accept: "image/*,.heic,.heif,.avif,.tif,.tiff",
    "aria-label": "Pictures to add",
  });
  choose.addEventListener("change", () => askWhatFor([...choose.files].map((file) => ({ name: file.name, file }))));
  const head = make("h2", { id: "adding-title", textContent: title(files) });
  const add = files.length ? [target(), button("Add", () => start(files), { id: "adding-add" })] : [make("p", {}, choose)];
  const searching = single
    ? [
        button(
          "Search with it",
          () => {
            dialog.close();
            searchWith(single);
          },
          { className: "main" },
        ),
      ]
    : [];
  const note = make("p", {
    className: "note",
    textContent: files.length
      ? "The collection keeps their vectors and small copies; the files stay where they are, and can't be opened in full here."
      : "Or drop files and folders anywhere on the page.",
  });
  dialog.replaceChildren(
    head,
    note,
    make(
      "div",
      { className: "choices" },
      ...searching,
      ...add,
      button("Cancel", () => dialog.close()),
    ),
  );
  if (!dialog.open) dialog.showModal();
}

function title(files) {
  if (!files.length) return "Add pictures";
  return files.length === 1 ? plain(files[0].name, 60) : counted(files.length, "file");
}

function target() {
  const options = collections().map(({ name }) => make("option", { value: name, textContent: plain(name, 60) }));
  const select = make(
    "select",
    { id: "adding-to", "aria-label": "Collection to add to" },
    ...options,
    make("option", { value: NEW, textContent: "a new collection…" }),
  );
  const name = make("input", {
    id: "adding-name",
    "aria-label": "Name of the new collection",
    placeholder: "name",
    autocomplete: "off",
    maxLength: 64,
  });
  const show = () => (name.hidden = select.value !== NEW);
  if (collections().some((each) => each.name === search().collection)) select.value = search().collection;
  select.addEventListener("change", show);
  show();
  return make("label", { className: "in", textContent: "Add to " }, select, name);
}

async function start(files) {
  const isNew = $("adding-to").value === NEW,
    collection = isNew ? $("adding-name").value.trim() : $("adding-to").value;
  if (isNew && !collection) return $("adding-name").focus();
  const bar = make("progress", { max: files.length, value: 0, "aria-label": "Files that were read" });
  const words = make("p", { role: "status", textContent: `0 of ${count(files.length)}` });
  const cancel = button("Stop", () => stop.abort());
  $("adding").replaceChildren(
    make("h2", { id: "adding-title", textContent: `Adding to ${plain(collection, 60)}` }),
    bar,
    words,
    make("div", { className: "choices" }, cancel),
  );
  cancel.focus();
  stop = new AbortController();
  const books = await addFiles(collection, isNew, files, stop.signal, (read) => {
    bar.value = read;
    words.textContent = `${count(read)} of ${count(files.length)}`;
  });
  stop = null;
  report(collection, books);
}

async function report(collection, { read, added, present, left, sent }) {
  const line = `read ${count(read)} = ${count(added)} added + ${count(present)} there already + ${count(left.length)} left out`;
  const rest = sent > read ? `; stopped before ${count(sent - read)} more` : "";
  const reasons = left
    .slice(0, 200)
    .map(({ name, reason }) =>
      make("li", { dir: "auto" }, make("b", { textContent: plain(name, 120) }), ` ${plain(reason, 400)}`),
    );
  if (left.length > 200) reasons.push(make("li", { textContent: `and ${count(left.length - 200)} more` }));
  const close = button(
    "Show the collection",
    () => {
      $("adding").close();
      change({ collection, parts: [], view: "", order: "newest" });
    },
    { className: "main" },
  );
  $("adding").replaceChildren(
    make("h2", { id: "adding-title", textContent: `Added to ${plain(collection, 60)}` }),
    make("p", { role: "status", textContent: line + rest }),
    ...(reasons.length
      ? [make("ul", { className: "reasons", tabIndex: 0, role: "list", "aria-label": "Files that were left out" }, ...reasons)]
      : []),
    make(
      "div",
      { className: "choices" },
      ...(added || present ? [close] : []),
      button("Close", () => $("adding").close()),
    ),
  );
  await recount();
  if (!search().collection && added) change({ collection }, { replace: true });
}
