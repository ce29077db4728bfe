// Choices among columns as a filter of the API: SQL, with every name and value quoted.

const NUMBERS = /^(int|uint|float|decimal)/;

/** Return the filter box's condition and those of the choices, but for one column's; `kinds` are the columns'. */
export function condition(search, kinds, without = "") {
  const choices = Object.entries(search.facets).filter(([column]) => column !== without);
  const kindOf = (column) => (Object.hasOwn(kinds, column) ? kinds[column] : "string"); // the sidecar says that it is unknown
  const conditions = choices.map(([column, choice]) => ofChoice(column, choice, kindOf(column))).filter(Boolean);
  if (!conditions.length) return search.filter;
  return [...(search.filter ? [`(${search.filter})`] : []), ...conditions].join(" AND ");
}

function ofChoice(column, choice, kind) {
  const name = `"${column.replaceAll('"', '""')}"`;
  if (!Array.isArray(choice)) return ofRange(name, choice, kind);
  const values = choice.filter((value) => value !== null).map((value) => literal(value, kind));
  const either = [];
  if (values.length && kind.startsWith("list")) either.push(`array_has_any(${name}, [${values.join(", ")}])`);
  else if (values.length) either.push(`${name} IN (${values.join(", ")})`);
  if (choice.includes(null)) either.push(`${name} IS NULL`);
  return either.length > 1 ? `(${either.join(" OR ")})` : either[0] || "";
}

function ofRange(name, { from, to }, kind) {
  const least = from ? `${name} >= ${literal(from, kind)}` : "",
    most = to ? `${name} <= ${literal(to, kind)}` : "";
  return [least, most].filter(Boolean).join(" AND ");
}

function literal(value, kind) {
  const text = `'${String(value).replaceAll("'", "''")}'`;
  if (kind === "date") return `date ${text}`;
  if (kind === "timestamp") return `timestamp ${text}`;
  if (kind.startsWith("decimal")) return `CAST(${text} AS ${kind})`;
  if (NUMBERS.test(kind) || kind === "list<int>" || kind === "list<float>")
    return Number.isFinite(Number(value)) && value !== "" ? String(value).trim() : text;
  if (kind === "bool" || kind === "list<bool>") return String(value) === "true" ? "true" : "false";
  return text;
}
