// Pictures that are dropped, pasted or chosen, as files or as addresses.

import { $, say } from "../elements.js";
import { boxText, change, part, search, withBoxText } from "../search.js";
import { askWhatFor } from "../views/adding.js";
import { refuse } from "../views/results.js";
import { filesOf } from "./dropped.js";
import { kept } from "./pictures.js";

const DRAGGED = "application/x-clipserve-row"; // a hit of this page

export async function searchWith(file) {
  try {
    searchBeside(part("picture", await kept(file)));
  } catch (problem) {
    refuse(problem.message);
  }
}

/** Tell if a text is the address of a picture elsewhere. */
export const isAddress = (text) => /^https?:\/\/[^\s]{3,2000}$/i.test(text);

export const searchWithAddress = (url) => searchBeside(part("url", url));

/** Search for a picture, and for the words that are looked for or were typed meanwhile. */
function searchBeside(picture) {
  const typed = $("text").value.trim(),
    words = search().parts.filter((each) => each === boxText(search()));
  change({ parts: [...withBoxText(words, isAddress(typed) ? "" : typed), picture], view: "" });
}

function paste(event) {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) return void searchWith(file);
  const isInText = event.target === $("text"),
    isElsewhere = event.target.matches?.("input, textarea") && !isInText;
  const text = (event.clipboardData.getData?.("text/plain") || "").trim();
  if (!isAddress(text) || isElsewhere || (isInText && $("text").value.trim())) return;
  event.preventDefault();
  searchWithAddress(text);
}

function drop(event) {
  const given = event.dataTransfer,
    id = given.getData(DRAGGED);
  const lines = `${given.getData("text/uri-list")}\n${given.getData("text/plain")}`.split(/\r?\n/).map((line) => line.trim());
  const url = lines.find(isAddress);
  document.body.classList.remove("dropping");
  if (!id && !url && !given.files.length && event.target.matches?.("input")) return; // words into a box
  event.preventDefault();
  if (id) searchBeside(part("row", id));
  else if (url) searchWithAddress(url);
  else if (given.files.length) dropFiles(given);
  else say("What was dropped is neither a picture nor the address of one.", true);
}

async function dropFiles(given) {
  const files = await filesOf(given);
  if (files.length) askWhatFor(files);
  else say("There is no file in what was dropped.", true);
}

function drag(event) {
  const tile = event.target.closest?.("[data-id]");
  if (tile) event.dataTransfer.setData(DRAGGED, tile.dataset.id);
}

function over(event) {
  const isText = event.dataTransfer.types.every((type) => ["text/plain", "text/html"].includes(type));
  if (isText && event.target.matches?.("input")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
}

export function prepareGiven() {
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) searchWith(file);
    $("file").value = "";
  });
  addEventListener("paste", paste);
  addEventListener("dragstart", drag);
  addEventListener("dragover", over);
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", drop);
}
