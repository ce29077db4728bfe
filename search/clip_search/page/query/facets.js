// Columns as facets, made from the data: values with the number of their rows, ranges of numbers and times.

import { statistics } from "../collections.js";
import { $, button, count, counted, make, plain } from "../elements.js";
import { change, search } from "../search.js";
import { askJson, pathOf } from "../server.js";
import { condition } from "./conditions.js";

const MOST_COLUMNS = 40; // that are counted; the filter takes the others too

let shown = {},
  notes = [],
  wanted = 0;

/** Return the frequent values of a column of texts. */
export const valuesOf = (column) =>
  (shown[column]?.values || []).map(({ value }) => value).filter((value) => typeof value === "string");

/** Load the facets of what the search keeps; a column with a choice shows all that others leave. */
export async function loadFacets() {
  const current = search(),
    kinds = statistics(current.collection)?.columns || {},
    mine = (wanted += 1);
  const own = Object.keys(current.facets).filter((column) => Object.hasOwn(kinds, column));
  const others = Object.keys(kinds).filter((column) => !own.includes(column));
  const answers = await Promise.all([
    others.length ? facetsOf(current, condition(current, kinds), others.slice(0, MOST_COLUMNS)) : { facets: {} },
    ...own.map((column) => facetsOf(current, condition(current, kinds, column), [column])),
  ]).catch((problem) => problem);
  if (mine !== wanted) return;
  shown = answers instanceof Error ? {} : Object.assign({}, ...answers.map(({ facets }) => facets));
  notes = notesOn(answers, others.length - MOST_COLUMNS);
  showFacets();
}

async function facetsOf({ collection }, filter, columns) {
  return askJson(`${pathOf(collection, "/facets")}?${new URLSearchParams({ filter, columns })}`);
}

/** Return what the facets don't show. */
function notesOn(answers, uncounted) {
  if (answers instanceof Error) return [503, 504].includes(answers.status) ? [answers.message] : []; // the search says the rest
  const sampled = answers.some((answer) => answer.sampled) ? ["Numbers are of 100,000 rows."] : [];
  return [...sampled, ...(uncounted > 0 ? [`${counted(uncounted, "more column")}: use the filter.`] : [])];
}

export function showFacets() {
  const focus = document.activeElement?.dataset?.facet,
    chosen = Object.keys(search().facets).length;
  const groups = Object.entries(shown)
    .filter(([column, facet]) => isUseful(facet) || search().facets[column])
    .map(group);
  $("narrow").hidden = !groups.length && !chosen && !notes.length;
  $("narrow").textContent = chosen ? `Columns (${chosen})` : "Columns";
  const words = notes.map((text) => make("p", { className: "note", textContent: plain(text) }));
  $("facets").replaceChildren(make("h2", { textContent: "Columns" }), ...groups, ...words);
  if (chosen) $("facets").append(button("Show all", () => change({ facets: {} }), { "data-facet": "all" }));
  if (focus) (withFacet(focus) || $("narrow")).focus();
}

const withFacet = (name) => [...$("facets").querySelectorAll("[data-facet]")].find(({ dataset }) => dataset.facet === name);

/** Tell if choosing narrows: several rows share a value, or there is a range. */
function isUseful({ kind, values, min, max }) {
  if (!values && kind.startsWith("list")) return false; // of numbers: a range says nothing of a list
  return values ? values.some(({ rows }) => rows > 1) : min !== undefined && min !== null && min !== max;
}

function group([column, facet]) {
  const made = make("fieldset", {}, make("legend", { dir: "auto", textContent: plain(column, 64) }));
  made.append(...(facet.values ? values(column, facet) : range(column, facet)));
  return made;
}

function values(column, { values: frequent, missing, more }) {
  const chosen = chosenOf(column),
    extra = chosen.filter((value) => value !== null && !frequent.some((each) => each.value === value));
  const boxes = [...frequent, ...extra.map((value) => ({ value }))].map(({ value, rows }) =>
    box(column, value, plain(value, 60), rows),
  );
  if (missing || chosen.includes(null)) boxes.push(box(column, null, "without a value", missing));
  if (more) boxes.push(make("p", { className: "note", textContent: "and rarer ones: use the filter" }));
  return boxes;
}

const chosenOf = (column) => (Array.isArray(search().facets[column]) ? search().facets[column] : []);

function box(column, value, words, rows) {
  const input = make("input", {
    type: "checkbox",
    checked: chosenOf(column).includes(value),
    "data-facet": `${column}=${value}`,
  });
  input.addEventListener("change", () => {
    const others = chosenOf(column).filter((each) => each !== value);
    choose(column, input.checked ? [...others, value] : others);
  });
  return make(
    "label",
    {},
    input,
    make("span", { dir: "auto", textContent: words || "(empty)" }),
    make("small", { textContent: rows === undefined ? "" : count(rows) }),
  );
}

function range(column, { kind, min, max }) {
  const choice = Array.isArray(search().facets[column]) ? {} : search().facets[column] || {};
  const ends = [
    ["from", min],
    ["to", max],
  ].map(([end, limit]) => {
    const value =
      kind.startsWith("timestamp") || kind === "date" ? String(choice[end] ?? "").slice(0, 10) : (choice[end] ?? "");
    const type = kind.startsWith("timestamp") || kind === "date" ? "date" : "number";
    const input = make("input", {
      type,
      value,
      step: "any",
      placeholder: plain(limit ?? "", 20),
      title: plain(limit ?? "", 40),
      "aria-label": `${plain(column, 64)} ${end}`,
      "data-facet": `${column} ${end}`,
    });
    input.addEventListener("change", () => choose(column, { ...choice, [end]: endOf(kind, end, input.value) }));
    return input;
  });
  return [make("div", { className: "range" }, ends[0], "–", ends[1])];
}

/** A day's end is its last moment, where there are times. */
const endOf = (kind, end, value) =>
  kind.startsWith("timestamp") && value ? `${value} ${end === "to" ? "23:59:59.999999" : "00:00:00"}` : value;

function choose(column, choice) {
  const others = Object.fromEntries(Object.entries(search().facets).filter(([name]) => name !== column));
  const isEmpty = Array.isArray(choice) ? !choice.length : !choice.from && !choice.to;
  change({ facets: isEmpty ? others : { ...others, [column]: choice } });
}

export function prepareFacets() {
  $("narrow").addEventListener("click", () => {
    $("facets").hidden = !$("facets").hidden;
    $("narrow").setAttribute("aria-expanded", !$("facets").hidden);
  });
}
