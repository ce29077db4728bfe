// Files sent to a collection, some at a time. A bad file stops no other, and its reason names it.

import { count } from "../elements.js";
import { askJson, pathOf } from "../server.js";

const BATCH_FILES = 16,
  BATCH_BYTES = 8 * 2 ** 20,
  MOST_BYTES = 32 * 2 ** 20; // base64 and JSON make it a third more

/** Return the books of an addition: read = added + present + left. */
export async function addFiles(collection, isNew, files, signal, progress) {
  const outcomes = new Map(); // by file: "added", "present", or {reason}
  try {
    if (isNew) await askJson("/v1/collections", { name: collection }, signal);
    for (const batch of batches(files)) {
      if (signal.aborted) break;
      await addBatch(collection, batch, outcomes);
      progress(outcomes.size);
    }
  } catch (problem) {
    for (const given of files) if (!outcomes.has(given)) outcomes.set(given, { reason: problem.message });
  }
  return booksOf(files, outcomes);
}

function booksOf(files, outcomes) {
  const all = [...outcomes],
    number = (wanted) => all.filter(([, outcome]) => outcome === wanted).length;
  const left = all.filter(([, outcome]) => outcome.reason).map(([{ name }, { reason }]) => ({ name, reason }));
  return { sent: files.length, read: all.length, added: number("added"), present: number("present"), left };
}

function* batches(files) {
  let batch = [],
    bytes = 0;
  for (const given of files) {
    const size = given.file?.size || 0;
    if (batch.length && (batch.length === BATCH_FILES || bytes + size > BATCH_BYTES)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(given);
    bytes += size;
  }
  if (batch.length) yield batch;
}

async function addBatch(collection, batch, outcomes) {
  const known = await knownOf(
      collection,
      batch.map(({ name }) => name),
    ),
    rows = [];
  for (const given of batch) {
    const content = known.has(given.name) ? null : await row(given);
    if (!content) outcomes.set(given, "present");
    else if (content.reason) outcomes.set(given, content);
    else rows.push([given, content]);
  }
  if (rows.length) await send(collection, rows, outcomes);
}

async function knownOf(collection, ids) {
  try {
    return new Set((await askJson(pathOf(collection, "/get"), { ids })).rows.map(({ id }) => id));
  } catch (problem) {
    if (problem.status === 400) return new Set(); // a name that can't be sent: its row gets a reason
    throw problem;
  }
}

async function send(collection, rows, outcomes) {
  try {
    const answer = await askJson(pathOf(collection, "/rows"), {
      rows: rows.map(([, content]) => content),
      on_conflict: "skip",
    });
    let skipped = answer.skipped; // by another who added them meanwhile
    const reasons = new Map(answer.errors.map(({ index, message }) => [index, message]));
    rows.forEach(([given], n) =>
      outcomes.set(given, reasons.has(n) ? { reason: reasons.get(n) } : skipped-- > 0 ? "present" : "added"),
    );
  } catch (problem) {
    if (problem.status !== 400 && problem.status !== 413) throw problem;
    if (rows.length > 1)
      for (const each of rows) await send(collection, [each], outcomes); // each has a reason of its own
    else outcomes.set(rows[0][0], { reason: problem.message });
  }
}

async function row({ name, file, reason }) {
  if (reason) return { reason };
  if (!file.size) return { reason: "the file is empty" };
  if (file.size > MOST_BYTES)
    return { reason: `it has ${count(Math.round(file.size / 2 ** 20))} MB, at most 32 can be sent: use clipserve search add` };
  try {
    return { id: name, image: await base64(file) };
  } catch (problem) {
    return { reason: `it can't be read (${problem.message})` };
  }
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
