// What can be done with a search: a link to it, its hits as a file, the other view.

import { $, say } from "../elements.js";
import { boxText, change, search } from "../search.js";
import { save } from "./files.js";

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } catch {
    say("The link stands in the address bar.");
  }
}

async function download(feed) {
  if (!feed?.taken) return say("There are no hits to download: search first.", true);
  try {
    const { collection, filter } = search(),
      hits = await feed.whole();
    const content = JSON.stringify(
      { collection, text: boxText(search())?.value || "", filter, link: location.href, hits },
      null,
      1,
    );
    save(new Blob([content], { type: "application/json" }), `${collection}-hits.json`);
  } catch (problem) {
    say(problem.message, true);
  }
}

/** Let the buttons work; `feedOf()` gives the hits that are shown. */
export function prepareActions(feedOf) {
  $("link").addEventListener("click", copyLink);
  $("download").addEventListener("click", () => download(feedOf()));
  $("duplicates").addEventListener("click", () => change({ view: search().view ? "" : "duplicates" }));
  $("home").addEventListener("click", () => {
    change({ parts: [], view: "", filter: "", facets: {}, threshold: "", sort: "" });
    $("text").value = "";
    $("text").focus();
  });
}
