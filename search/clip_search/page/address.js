// A search as the fragment of an address, and back. Fragments of earlier versions are read too: `image` with a whole picture, `share`.

export const EMPTY = {
  collection: "",
  parts: [], // {kind: text | picture | url | row, value, weight, minus}; the value of a picture is its id, or a data: URI
  filter: "",
  facets: {}, // choices by column: a list of values, or {from, to}
  threshold: "",
  sort: "", // a column, with - in front if it descends
  fold: false,
  modality: "",
  captions: false,
  view: "", // duplicates, or the search
  near: "0.95", // of duplicates
  order: "random", // of rows before a search
};
export const MOST_WEIGHT = 2;
const KINDS = { text: "text", q: "picture", image: "picture", url: "url", like: "row" };
const MOST_PARTS = 32; // the API takes no more

export function read(fragment) {
  const given = new URLSearchParams(fragment);
  const parts = [];
  for (const [name, value] of given) {
    const minus = name.startsWith("-"),
      kind = KINDS[minus ? name.slice(1) : name];
    if (Object.hasOwn(KINDS, minus ? name.slice(1) : name) && value) parts.push({ kind, value, weight: 1, minus });
  }
  const text = (name) => given.get(name) || EMPTY[name];
  return {
    ...EMPTY,
    parts: weighted(parts.slice(0, MOST_PARTS), given),
    collection: text("collection"),
    filter: text("filter"),
    facets: facets(given.get("facets")),
    threshold: number(given.get("threshold"), -1, 1, ""),
    sort: text("sort"),
    fold: given.has("fold"),
    modality: ["image", "text"].includes(given.get("modality")) ? given.get("modality") : "",
    captions: Boolean(given.get("captions")),
    view: given.get("view") === "duplicates" ? "duplicates" : "",
    near: number(given.get("near"), 0.5, 1, EMPTY.near),
    order: given.get("order") === "newest" ? "newest" : EMPTY.order,
  };
}

export function written(search) {
  const pairs = [];
  for (const name of ["collection", "filter", "threshold", "sort", "modality", "view", "near", "order"]) {
    if (search[name] !== EMPTY[name]) pairs.push([name, search[name]]);
  }
  for (const { kind, value, minus } of search.parts) pairs.push([(minus ? "-" : "") + nameOf(kind, value), value]);
  if (search.parts.some(({ weight }) => weight !== 1)) pairs.push(["weights", search.parts.map(({ weight }) => weight).join()]);
  if (Object.keys(search.facets).length) pairs.push(["facets", JSON.stringify(search.facets)]);
  for (const name of ["fold", "captions"]) if (search[name]) pairs.push([name, "1"]);
  return "#" + new URLSearchParams(pairs).toString().replaceAll("+", "%20");
}

function nameOf(kind, value) {
  if (kind === "picture") return value.startsWith("data:") ? "image" : "q";
  return Object.keys(KINDS).find((name) => KINDS[name] === kind);
}

function weighted(parts, given) {
  const shared = given.get("share"),
    weights = (given.get("weights") || "").split(",").map((weight) => weight && Number(weight));
  const inRange = (weight) => (typeof weight === "number" && weight >= 0 && weight <= MOST_WEIGHT ? weight : 1);
  if (given.has("weights")) return parts.map((part, n) => ({ ...part, weight: inRange(weights[n]) }));
  if (shared === null || !given.get("text") || !given.get("image")) return parts;
  const share = Number(number(shared, 0, 1, "0.5")),
    shares = { text: 2 - 2 * share, picture: 2 * share };
  return parts.map((part) => ({ ...part, weight: shares[part.kind] ?? 1 }));
}

function number(text, least, most, otherwise) {
  const value = Number(text);
  return text && value >= least && value <= most ? String(value) : otherwise;
}

function facets(text) {
  try {
    const choices = Object.entries(JSON.parse(text || "{}") || {});
    return Object.fromEntries(choices.filter(([, choice]) => isChoice(choice)));
  } catch {
    return {};
  }
}

function isChoice(choice) {
  const isValue = (value) => value === null || ["string", "number", "boolean"].includes(typeof value);
  if (Array.isArray(choice)) return choice.length > 0 && choice.every(isValue);
  return (
    typeof choice === "object" &&
    choice !== null &&
    ["from", "to"].some((end) => choice[end]) &&
    isValue(choice.from ?? "") &&
    isValue(choice.to ?? "")
  );
}
