// Files of a drop, those in folders too; each gets the path below what was dropped as its name.

const MOST_FILES = 10_000;

/** Return `{name, file}` for each, or `{name, reason}` for what can't be read; folders are read to their ends. */
export async function filesOf(transfer) {
  const entries = [...(transfer.items || [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files].map((file) => ({ name: file.name, file }));
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return files;
}

async function walk(entry, files) {
  if (files.length > MOST_FILES) return;
  const name = entry.fullPath.replace(/^\//, "");
  if (files.length === MOST_FILES) {
    files.push({
      name,
      reason: `this and what follows: a drop has at most ${MOST_FILES} files, clipserve search add takes whole folders`,
    });
  } else if (entry.isFile) {
    files.push(
      await new Promise((resolve) =>
        entry.file(
          (file) => resolve({ name, file }),
          (problem) => resolve({ name, reason: problem.message }),
        ),
      ),
    );
  } else {
    await walkFolder(entry, name, files);
  }
}

async function walkFolder(entry, name, files) {
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve) =>
      reader.readEntries(resolve, (problem) => {
        files.push({ name, reason: problem.message });
        resolve([]);
      }),
    );
    if (!some.length) return;
    for (const child of some) await walk(child, files);
  }
}
