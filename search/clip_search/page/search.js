// The search that the page shows: it stands in the address, and whatever changes it is told to all who listen.

import { read, written } from "./address.js";

const listeners = [];
let current = read("");

export const search = () => current;

export const onChange = (listener) => listeners.push(listener);

/** Change some of the search, and tell if it did change; a step back in the browser's history undoes it, unless it replaces the step before. */
export function change(values, { replace = false } = {}) {
  const before = current;
  current = { ...current, ...values };
  const hash = written(current),
    isNew = hash !== (location.hash || "#");
  if (isNew) history[replace ? "replaceState" : "pushState"](null, "", hash);
  for (const listener of listeners) listener(current, before);
  return isNew;
}

export function readAddress() {
  const before = current;
  current = { ...read(location.hash.slice(1)) };
  for (const listener of listeners) listener(current, before);
}

/** Return the text in the box: the first that is looked for, not avoided. */
export const boxText = ({ parts }) => parts.find((part) => part.kind === "text" && !part.minus);

export function withBoxText(parts, text) {
  const box = boxText({ parts });
  if (!text) return parts.filter((part) => part !== box);
  if (box) return parts.map((part) => (part === box ? { ...part, value: text } : part));
  return [{ kind: "text", value: text, weight: 1, minus: false }, ...parts];
}

export const part = (kind, value, minus = false) => ({ kind, value, weight: 1, minus });

/** Tell if two states ask for the same hits; captions are only shown or hidden. */
export function isSameSearch(one, other) {
  const asked = (state) => JSON.stringify({ ...state, captions: "" });
  return asked(one) === asked(other);
}
