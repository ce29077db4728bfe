// Requests to the sidecar, with the user's token; an error has the sidecar's reason.

import { store, stored } from "./storage.js";

let token = stored("sessionStorage", "token") || "";

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status; // 0 if there was no answer
  }
}

export const hasToken = () => Boolean(token);

export function keepToken(given) {
  if (/[^\x21-\x7e]/.test(given)) throw new Refused("The token has a character that no request can carry: copy it again.", 401);
  token = given;
  store("sessionStorage", "token", given);
}

/** Return the answer to a GET, or to a POST if there is a body; raise Refused. */
export async function ask(path, body, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const request = body === undefined ? { headers, signal } : { method: "POST", headers, signal, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, request);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused("The sidecar doesn't answer.", 0);
  }
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({}));
  throw new Refused(content.message || `The sidecar answers ${answer.status}.`, answer.status);
}

export async function askJson(path, body, signal) {
  const answer = await ask(path, body, signal);
  try {
    return await answer.json();
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused("The sidecar's answer broke off.", 0);
  }
}

export const pathOf = (collection, rest = "") => `/v1/collections/${encodeURIComponent(collection)}${rest}`;

/** Return the parts of the sidecar that aren't ready, with reasons; null if it doesn't answer. */
export async function notReady() {
  try {
    return (await (await fetch("/health/ready")).json()).not_ready || {};
  } catch {
    return null;
  }
}
