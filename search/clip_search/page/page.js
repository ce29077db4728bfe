// The page: the search stands in the address; each part of the page shows it, and changes it.

import { first, keepFresh, loadCollections, showCollections } from "./collections.js";
import { $, say } from "./elements.js";
import { loadFacets, prepareFacets, showFacets } from "./query/facets.js";
import { prepareFilter } from "./query/filter.js";
import { prepareGiven, searchWith } from "./query/given.js";
import { openOptions, prepareOptions, showOptions } from "./query/options.js";
import { prepareParts, showParts } from "./query/parts.js";
import { titleOf } from "./query/terms.js";
import { change, isSameSearch, onChange, readAddress, search } from "./search.js";
import { keepToken } from "./server.js";
import { prepareActions } from "./views/actions.js";
import { prepareAdding } from "./views/adding.js";
import { prepareKeys } from "./views/keys.js";
import { prepareNear } from "./views/near.js";
import { showNotice } from "./views/notice.js";
import { grid, prepareResults, recount, run, shownFeed, showCounts } from "./views/results.js";
import { prepareSearches } from "./views/searches.js";
import { showTrouble } from "./views/states.js";
import { prepareViewer } from "./views/viewer.js";

let isLoaded = false;

function show(now, before) {
  const title = titleOf(now);
  document.title = title ? `${title} – Search` : "Search";
  document.body.classList.toggle("captions", now.captions);
  showCollections(now.collection);
  showNotice(now);
  showOptions(now, before);
  if (JSON.stringify(now.parts) !== JSON.stringify(before?.parts)) showParts(now);
}

function changed(now, before) {
  show(now, before);
  if (!isLoaded) return;
  grid.draw();
  if (isSameSearch(now, before)) return;
  run();
  const narrowing = ({ collection, filter, facets }) => JSON.stringify([collection, filter, facets]);
  if (narrowing(now) !== narrowing(before)) loadFacets();
}

async function load() {
  $("hits").setAttribute("aria-busy", "true");
  try {
    await loadCollections();
  } catch (problem) {
    return showTrouble(problem, load);
  } finally {
    $("hits").setAttribute("aria-busy", "false");
  }
  say("");
  if (!search().collection && first()) change({ collection: first() }, { replace: true });
  isLoaded = true;
  show(search(), search());
  showParts(search());
  run();
  loadFacets();
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    keepToken($("token").value.trim());
  } catch (problem) {
    return say(problem.message, true);
  }
  $("access").hidden = true;
  $("text").focus();
  load();
});

onChange(changed);
prepareOptions(() => (isLoaded ? run() : load()));
for (const prepare of [prepareParts, prepareFilter, prepareFacets, prepareGiven, prepareSearches, prepareViewer]) prepare();
prepareAdding(searchWith, recount);
prepareNear(recount);
prepareResults(load);
prepareActions(shownFeed);
prepareKeys(grid);
keepFresh(showCounts);
addEventListener("popstate", readAddress);
readAddress();
if (search().filter || search().threshold || search().sort) openOptions(true);
showFacets();
load();
