// Small pictures of rows. With a token they are fetched, since an image alone sends none.

import { ask, hasToken } from "../server.js";

/** Let an image show a thumbnail; returns a function that ends it and gives the memory back. */
export function showThumbnail(image, path) {
  if (!hasToken()) {
    image.src = path;
    return () => {};
  }
  const fetching = new AbortController();
  let url = "";
  ask(path, undefined, fetching.signal)
    .then((answer) => answer.blob())
    .then((blob) => {
      if (!fetching.signal.aborted) image.src = url = URL.createObjectURL(blob);
    })
    .catch(() => image.dispatchEvent(new Event("error")));
  return () => {
    fetching.abort();
    if (url) URL.revokeObjectURL(url);
  };
}
