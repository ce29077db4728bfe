// A hit in a list: its picture or its words, its caption and score.

import { button, make, plain } from "../elements.js";
import { marks } from "../views/feedback.js";
import { showThumbnail } from "./thumbnails.js";

const MOST_CAPTION = 300; // characters that are kept of a caption
const MOST_SAME = 20; // ids of duplicates that an answer names

/** Return what is kept of a row or hit of the API: little, since there may be thousands. */
export function slim({ id, row, score, thumbnail, metadata, same }, sort = "") {
  const caption =
    metadata.caption === null || metadata.caption === undefined || metadata.caption === ""
      ? ""
      : plain(metadata.caption, MOST_CAPTION);
  const column = sort.replace(/^-/, ""),
    value = column && Object.hasOwn(metadata, column) ? metadata[column] : undefined;
  return {
    id,
    row,
    score,
    thumbnail,
    caption,
    same: same?.length || 0,
    value: value === undefined || value === null ? "" : plain(value, 40),
  };
}

export const nameOf = (hit) => hit.caption || plain(hit.id, 120);

/** Return the list item of a hit, with a function `gone` to call once it isn't shown any more; without `mark` it has no marks. */
export function tile(hit, { open, more, mark }) {
  const opener = button("", open, { className: "open", "data-id": hit.id, draggable: true });
  const score = hit.score === undefined ? "" : hit.score.toFixed(3),
    name = nameOf(hit);
  const item = make("li", { className: "tile" }, opener);
  if (hit.thumbnail) opener.append(picture(hit, name, item));
  else opener.append(make("span", { className: "words", dir: "auto", textContent: name }));
  opener.setAttribute(
    "aria-label",
    [name, score && `score ${score}`, hit.same && `and ${hit.same} like it`].filter(Boolean).join(", "),
  );
  if (hit.same)
    opener.append(
      make("span", {
        className: "same",
        title: "duplicates folded",
        textContent: `+${hit.same}${hit.same >= MOST_SAME ? " or more" : ""}`,
      }),
    );
  item.append(
    button("≈", more, { className: "more", title: "More like this", "aria-label": `More like ${name}`, tabIndex: -1 }),
  );
  if (mark) item.append(make("div", { className: "marks" }, ...marks(hit, mark, true)));
  item.append(
    make(
      "p",
      { className: "caption" },
      make("b", { textContent: score }),
      " ",
      make("span", { dir: "auto", textContent: [hit.value, name].filter(Boolean).join(" · ") }),
    ),
  );
  return item;
}

function picture(hit, name, item) {
  const image = make("img", { alt: "", draggable: false, decoding: "async" });
  image.addEventListener("load", () => {
    const shape = image.naturalWidth / image.naturalHeight;
    image.classList.toggle("whole", shape < 0.6 || shape > 1.7); // others fill their square
  });
  image.addEventListener(
    "error",
    () => image.replaceWith(make("span", { className: "words", dir: "auto", textContent: name })),
    { once: true },
  );
  item.gone = showThumbnail(image, hit.thumbnail);
  return image;
}
