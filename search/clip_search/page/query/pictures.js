// Pictures to search with: made small here, kept by the sidecar, so that a link to the search stays short.

import { counted, make, plain } from "../elements.js";
import { ask, askJson, Refused } from "../server.js";

const SIDE = 384,
  MOST_BYTES = 32 * 2 ** 20,
  MOST_PIXELS = 50e6; // larger ones would take a browser's memory
const loaded = new Map(); // id -> promise of a data: URI

/** Return the value of a part for a file: an id of the sidecar's, or a data: URI if it can't keep the picture. */
export async function kept(file) {
  const name = plain(file.name || "What was given", 80);
  if (file.size > MOST_BYTES)
    throw new Refused(`${name} has ${counted(Math.round(file.size / 2 ** 20), "megabyte")}, at most 32 can be sent: make it smaller.`, 413);
  try {
    return (await askJson("/v1/queries", { image: base64Of(await asData(file)) })).id; // its copy is what is searched with: a link gives the same hits
  } catch (problem) {
    if (problem.status === 400 || problem.status === 413) throw new Refused(`${name}: ${problem.message}`, problem.status); // a browser would repair it without a word
    if (problem.status === 401) throw problem;
    return small(file, name);
  }
}

const base64Of = (uri) => uri.slice(uri.indexOf(",") + 1);

/** Return a picture as a data: URI; raise Refused if it isn't kept any more. */
export function dataOf(value) {
  if (value.startsWith("data:")) return Promise.resolve(value);
  if (!loaded.has(value)) {
    loaded.set(value, fetched(value));
    loaded.get(value).catch(() => loaded.delete(value));
  }
  return loaded.get(value);
}

async function fetched(id) {
  if (!/^[\w-]{6,128}$/.test(id))
    throw new Refused("The picture of this link isn't one that is kept: remove it, or give it again.", 400);
  try {
    return await asData(await (await ask(`/v1/queries/${id}`)).blob());
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    throw new Refused("The picture of this link isn't kept any more: remove it, or give it again.", 400);
  }
}

function asData(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function small(file, name) {
  const url = URL.createObjectURL(file);
  try {
    const image = make("img", { src: url }); // decoded only when it is drawn
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject })).catch(() => {});
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    if (!width || !height) throw new Refused(`${name} isn't a picture that this browser can read.`, 400);
    if (width * height > MOST_PIXELS) {
      throw new Refused(
        `${name} has ${width} × ${height} pixels, at most 50 megapixels can be searched with: make it smaller.`,
        400,
      );
    }
    return drawn(image, name);
  } finally {
    URL.revokeObjectURL(url);
  }
}

function drawn(image, name) {
  const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = make("canvas", { width, height }),
    context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  try {
    context.drawImage(image, 0, 0, width, height);
  } catch {
    throw new Refused(`${name} is a damaged picture: this browser can't decode it.`, 400);
  }
  return canvas.toDataURL("image/jpeg", 0.85);
}
