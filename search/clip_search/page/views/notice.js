// What the model is for, beside the collection: as its makers say it.

import { statistics } from "../collections.js";
import { $, make, plain, unturned } from "../elements.js";

const SHORT = 240;
const OTHER = "Another model: clipserve up FOLDER --model openai/clip-vit-base-patch32";

export function showNotice({ collection }) {
  const text = (statistics(collection)?.notice || "").trim();
  $("notice").hidden = !text;
  const long = text.length > SHORT || text.includes("\n");
  $("notice").replaceChildren(
    long
      ? make(
          "details",
          {},
          make("summary", { dir: "auto", textContent: plain(text, SHORT) }),
          make("p", { dir: "auto", tabIndex: 0, textContent: unturned(text) }),
        )
      : make("p", { dir: "auto", textContent: plain(text, SHORT) }),
    ...(text ? [make("div", { textContent: OTHER })] : []),
  );
}
