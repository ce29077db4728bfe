// The parts of a search as the API takes them, and as people read them.

import { plain } from "../elements.js";
import { condition } from "./conditions.js";
import { dataOf } from "./pictures.js";

const FIELDS = { text: "text", picture: "image", url: "image_url", row: "id" };

/** Return the body of a request, without the range of hits. */
export async function requestOf(search, kinds) {
  const terms = await Promise.all(search.parts.map(term));
  const sided = (minus) => terms.filter((_, n) => search.parts[n].minus === minus);
  const body = { mix: sided(false), minus: sided(true), filter: condition(search, kinds) };
  if (search.modality) body.modality = search.modality;
  if (search.threshold) body.threshold = Number(search.threshold);
  if (search.fold) body.deduplicate = true;
  if (search.sort) body.sort = { column: search.sort.replace(/^-/, ""), descending: search.sort.startsWith("-") };
  return body;
}

async function term({ kind, value, weight }) {
  return { [FIELDS[kind]]: kind === "picture" ? await dataOf(value) : value, weight };
}

/** Return a line that names a search. */
export function titleOf(search) {
  const words = search.parts.map(({ kind, value, minus }) => {
    const noun = { text: plain(value, 60), picture: "a picture", url: plain(value, 60), row: `like ${plain(value, 60)}` }[kind];
    return minus ? `without ${noun}` : noun;
  });
  if (search.view) words.unshift("near-duplicates");
  if (search.filter) words.push(`where ${plain(search.filter, 60)}`);
  return words.join(", ");
}
