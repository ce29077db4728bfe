// Completions of a filter: the columns of the collection, and the values of a column.

const NAME = /[\p{L}_][\p{L}\d_]*$/u;
const VALUE =
  /(?:"((?:[^"]|"")*)"|([\p{L}_][\p{L}\d_]*))\s*(?:=|!=|<>|like|ilike|in\s*\((?:\s*'(?:[^']|'')*'\s*,)*)\s*'((?:[^']|'')*)$/iu;
const MOST = 12;

/**
 * Return the completions of what stands before the caret: `{from, texts}`, where each text takes the place of what stands
 * from there to the caret. `valuesOf(column)` are values that are frequent in it.
 */
export function completions(before, columns, valuesOf) {
  const value = VALUE.exec(before);
  if (value) return values(before, value, columns, valuesOf);
  if (isInText(before)) return { from: before.length, texts: [] };
  const word = NAME.exec(before)?.[0] || "",
    start = word.toLowerCase();
  const names = [
    ...columns.filter((name) => name.toLowerCase().startsWith(start)),
    ...columns.filter((name) => name.toLowerCase().indexOf(start) > 0),
  ];
  const wanted = word || isPlaceForName(before) ? names.filter((name) => name !== word) : [];
  return { from: before.length - word.length, texts: wanted.slice(0, MOST) };
}

function values(before, [, quoted, bare, start], columns, valuesOf) {
  const name = quoted?.replaceAll('""', '"') ?? columns.find((column) => column.toLowerCase() === bare.toLowerCase());
  const near = (value) => value.toLowerCase().startsWith(start.replaceAll("''", "'").toLowerCase());
  const texts = (name ? valuesOf(name) : []).filter(near).map((value) => `${value.replaceAll("'", "''")}'`);
  return { from: before.length - start.length, texts: texts.slice(0, MOST) };
}

/** Tell if a quote is open. */
const isInText = (before) => (before.match(/'/g) || []).length % 2 === 1;

/** Tell if a condition may begin here. */
const isPlaceForName = (before) => /(^|\(|\b(and|or|not))\s*$/i.test(before);
