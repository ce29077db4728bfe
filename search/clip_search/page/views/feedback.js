// Feedback on hits: clicks, and marks as right or wrong. Each is sent once; nobody waits for it, and a failure disturbs nothing.

import { takesFeedback } from "../collections.js";
import { button } from "../elements.js";
import { ask, pathOf } from "../server.js";

const MOST = 1_000, // ids of an answer that the API takes
  BELOW = 40; // hits behind the chosen one that are told
const SIGNS = { right: "✓", wrong: "✗" },
  WORDS = { right: "Right", wrong: "Wrong" },
  TITLES = { right: "This is what I looked for (r)", wrong: "This isn't what I looked for (w)" };

/** Tell if feedback on a search is taken: hits that are sorted by a column say nothing about the ranking. */
export const isTaken = (feed) => Boolean(feed) && takesFeedback() && !feed.search.sort;

/** Send a click or a mark on the hit at a place in a list, unless it was sent before. */
export function tell(feed, hits, at, kind) {
  const hit = hits[at];
  if (!isTaken(feed) || at >= MOST || hit.told?.has(kind)) return;
  (hit.told ??= new Set()).add(kind);
  for (const sign of document.querySelectorAll(`.mark.${kind}`)) if (sign.hit === hit) sign.setAttribute("aria-pressed", "true");
  const { mix, minus } = feed.request,
    shown = hits.slice(0, Math.min(MOST, at + 1 + BELOW)).map(({ id }) => id);
  const body = { mix, minus, shown, chosen: hit.id, kind, query_id: feed.id, client: feed.client, ...feed.origin };
  ask(pathOf(feed.search.collection, "/feedback"), body).catch(() => {});
}

/** Return the buttons that mark a hit by `mark(kind)`; small ones are signs. */
export function marks(hit, mark, isSmall) {
  return Object.keys(SIGNS).map((kind) => {
    const made = button(isSmall ? SIGNS[kind] : `${SIGNS[kind]} ${WORDS[kind]}`, () => mark(kind), {
      className: `mark ${kind}`,
      title: TITLES[kind],
      "aria-pressed": String(Boolean(hit.told?.has(kind))),
      ...(isSmall ? { "aria-label": WORDS[kind], tabIndex: -1 } : {}),
    });
    return Object.assign(made, { hit });
  });
}
