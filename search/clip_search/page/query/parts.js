// A chip for each part of a mix: its weight, its sign, and a way to remove it.

import { MOST_WEIGHT } from "../address.js";
import { $, button, make, plain, say } from "../elements.js";
import { change, part, search } from "../search.js";
import { dataOf } from "./pictures.js";

const NOUNS = { text: "words", picture: "picture", url: "picture at", row: "like" };

export function showParts({ parts }) {
  const isPlain = parts.length === 1 && parts[0].kind === "text" && !parts[0].minus;
  const focus = document.activeElement?.closest("#parts li")?.dataset;
  const [at, control] = [focus?.at, document.activeElement?.dataset.control];
  $("parts").replaceChildren(...(isPlain ? [] : parts.map((each, n) => chip(each, n, parts.length))));
  $("mix").hidden = !parts.length;
  if (control) ($("parts").querySelector(`[data-at="${at}"] [data-control="${control}"]`) || $("text")).focus();
}

function chip(each, n, total) {
  const name =
    `${each.minus ? "without " : ""}${NOUNS[each.kind]} ${each.kind === "picture" ? "" : plain(each.value, 60)}`.trim();
  const chip = make("li", { className: each.minus ? "minus" : "", "data-at": n });
  const sign = button(each.minus ? "−" : "+", () => replace(n, { minus: !each.minus }), {
    className: "sign",
    title: each.minus ? "Look for it instead" : "Look for what is unlike it",
    "aria-label": `${name}: ${each.minus ? "look for it" : "search without it"}`,
    "data-control": "sign",
  });
  const remove = button("×", () => change({ parts: search().parts.filter((_, at) => at !== n) }), {
    className: "remove",
    "aria-label": removal(each, name),
    "data-control": "remove",
  });
  chip.append(sign, noun(each), ...(total > 1 ? [weight(each, n, name)] : []), remove);
  return chip;
}

const removal = ({ kind }, name) => (kind === "picture" ? "Remove the picture" : `Remove ${name}`);

function noun({ kind, value }) {
  if (kind !== "picture")
    return make("span", {
      className: "noun",
      dir: "auto",
      title: plain(value),
      textContent: kind === "text" ? plain(value, 60) : `${NOUNS[kind]} ${plain(value, 60)}`,
    });
  const image = make("img", { alt: "the picture that is searched for" });
  dataOf(value).then(
    (data) => (image.src = data),
    () => image.classList.add("gone"),
  );
  return image;
}

function weight(each, n, name) {
  const range = make("input", {
    type: "range",
    min: 0,
    max: MOST_WEIGHT,
    step: 0.05,
    "aria-label": `Weight of ${name}`,
    "data-control": "weight",
  });
  range.value = each.weight;
  range.title = `weight ${each.weight}`;
  range.addEventListener("change", () => replace(n, { weight: Number(range.value) }));
  return range;
}

const replace = (n, values) => change({ parts: search().parts.map((each, at) => (at === n ? { ...each, ...values } : each)) });

// Another part in words

function open(sign) {
  $("another").hidden = false;
  $("another-sign").value = sign;
  $("another-text").focus();
}

function close() {
  $("another").hidden = true;
  $("another-text").value = "";
}

export function prepareParts() {
  $("with").addEventListener("click", () => open(""));
  $("without").addEventListener("click", () => open("minus"));
  $("clear").addEventListener("click", () => {
    $("text").value = "";
    change({ parts: [] });
    $("text").focus();
  });
  $("another").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("another-text").value.trim(),
      minus = $("another-sign").value === "minus";
    if (!text) return say("Type the words first, or press Escape.");
    close();
    change({ parts: [...search().parts, part("text", text, minus)], view: "" });
    $(minus ? "without" : "with").focus();
  });
  $("another").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
    $("without").focus();
  });
}
