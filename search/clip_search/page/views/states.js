// States in which there is nothing to show: each says what is wrong and what to do, and goes on by itself where it can.

import { collections, isReadOnly } from "../collections.js";
import { $, button, make, plain, quoted, say } from "../elements.js";
import { notReady } from "../server.js";
import { change } from "../search.js";

const AGAIN_MS = 3000;
let timer = 0;

export function clearState() {
  clearTimeout(timer);
  $("state").hidden = true;
  $("state").replaceChildren();
}

function show(title, text, ...actions) {
  clearState();
  $("state").replaceChildren(make("h2", { textContent: title }), make("p", { textContent: text }), ...actions);
  $("state").hidden = false;
}

/** Say what went wrong, and try again once the cause is gone. */
export async function showTrouble(problem, again) {
  const retry = button("Try again", again);
  say(problem.message, true);
  if (problem.status === 401) return askForToken();
  if (problem.status === 0) {
    show(
      "The sidecar doesn't answer",
      "It may have been stopped, or the network is down. The page goes on by itself once it answers.",
      retry,
    );
    return wait(() => notReady().then(Boolean), again);
  }
  if (problem.status !== 503 && problem.status !== 504) return;
  const { triton } = (await notReady()) || {};
  if (!triton) return show("Not now", plain(problem.message, 600), retry);
  show(
    "The model isn't ready",
    `Triton: ${plain(triton, 400)}. Words and pictures can't be searched with meanwhile; “more like this” goes on. The page goes on by itself.`,
    retry,
  );
  wait(() => isOver("triton"), again);
}

function wait(isEnough, again) {
  clearTimeout(timer);
  timer = setTimeout(async () => ((await isEnough()) ? again() : wait(isEnough, again)), AGAIN_MS);
}

/** Tell if a part is ready, or if there is another trouble by now. */
async function isOver(part) {
  const missing = await notReady();
  return !missing || !missing[part];
}

function askForToken() {
  show("A token is needed", "This sidecar was started with a token file. The token stays in this tab.");
  $("access").hidden = false;
  $("token").focus();
}

/** Say that the collection of the address isn't there, or not yet. */
export async function showGone(name, again) {
  const missing = (await notReady()) || {},
    broken = missing[`collection ${name}`];
  if (missing.collections) {
    say("The collections are being opened.");
    show("A moment", "The sidecar opens its collections.");
    return wait(() => isOver("collections"), again);
  }
  say(
    broken
      ? `The collection ${quoted(name)} can't be opened: ${plain(broken, 400)}`
      : `There is no collection ${quoted(name)} here.`,
    true,
  );
  const others = collections().map((other) =>
    button(plain(other.name, 60), () => change({ collection: other.name, facets: {}, sort: "" }), { dir: "auto" }),
  );
  const text = broken ? plain(broken, 600) : "It was dropped or renamed, or the link is another sidecar's.";
  show(
    broken ? "This collection can't be opened" : "This collection is gone",
    others.length ? `${text} These are there:` : text,
    make("div", { className: "choices" }, ...others),
  );
}

export function showNoCollection(add) {
  say("There is no collection yet.");
  show(
    "No collection yet",
    ...(isReadOnly()
      ? ["Collections are made at the sidecar that writes."]
      : ["Drop pictures here, or run: clipserve search add FOLDER", button("Add pictures…", add, { className: "main" })]),
  );
}

export function showEmpty(title, text, ...actions) {
  show(title, text, ...actions);
}
