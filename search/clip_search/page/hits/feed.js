// The hits of a search, page by page.

import { statistics } from "../collections.js";
import { askJson, pathOf } from "../server.js";
import { requestOf } from "../query/terms.js";
import { random, visit } from "../storage.js";
import { slim } from "./tile.js";

const FIRST = 40,
  LARGEST = 500,
  MOST = 10_000,
  MOST_FOLDED = 2_000; // the API's

export class Feed {
  constructor(search) {
    this.search = search;
    this.kinds = statistics(search.collection)?.columns || {};
    this.most = search.fold ? MOST_FOLDED : MOST;
    [this.taken, this.isWhole, this.passing, this.milliseconds, this.isLoading] = [0, false, null, null, false];
    this.stop = new AbortController();
    [this.id, this.client] = [random(), visit()];
    this.origin = {}; // of the first answer: what made it
  }

  /** Return the next hits; none if this feed was ended or is loading already. */
  async next() {
    if (this.isLoading || this.isWhole) return [];
    this.isLoading = true;
    try {
      return await this.load(Math.min(Math.max(FIRST, Math.min(this.taken, LARGEST)), this.most - this.taken));
    } finally {
      this.isLoading = false;
    }
  }

  async load(k) {
    this.request ??= await requestOf(this.search, this.kinds);
    const columns = ["caption", "image_path", ...(this.search.sort ? [this.search.sort.replace(/^-/, "")] : [])];
    const body = { ...this.request, k, offset: this.taken, columns, count: this.taken === 0, client: this.client };
    const answer = await askJson(pathOf(this.search.collection, "/search"), body, this.stop.signal);
    if (!this.taken) this.origin = { model: answer.model, space: answer.space };
    if (answer.passing) this.passing = answer.passing;
    this.milliseconds ??= answer.milliseconds || { total: answer.took_ms };
    this.taken += answer.hits.length;
    this.isWhole = answer.hits.length < k || this.taken >= this.most;
    return answer.hits.map((hit) => slim(hit, this.search.sort));
  }

  /** Return all that were loaded as the API gives them, with every column. */
  async whole() {
    const body = { ...(await requestOf(this.search, this.kinds)), k: Math.max(1, this.taken), client: this.client };
    return (await askJson(pathOf(this.search.collection, "/search"), body)).hits;
  }

  /** Note that a hit was deleted. */
  removed() {
    this.taken -= 1; // the next page begins a row earlier
    if (this.passing) this.passing = { ...this.passing, rows: Math.max(0, this.passing.rows - 1) };
  }

  end() {
    this.stop.abort();
  }
}
