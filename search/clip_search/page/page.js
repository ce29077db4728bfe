// The whole page: a search is what stands in the address; whatever changes it searches anew.

const PAGE = 40, MOST = 10000, SIDE = 384;
const $ = (id) => document.getElementById(id);
const search = { collection: "", text: "", image: "", like: "", filter: "", share: "0.5", modality: "", captions: "" };
let hits = [], current = 0, loading = false, whole = true, token = sessionStorage.getItem("token") || "";

async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  if (answer.ok) return answer;
  $("access").hidden = answer.status !== 401;
  throw new Error((await answer.json().catch(() => ({}))).message || `the sidecar answers ${answer.status}`);
}

// What stands in the address

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name in search) search[name] = given.get(name) || (name === "share" ? "0.5" : "");
}

function restore() {
  readAddress();
  show();
  collections();
}

function writeAddress() {
  const given = Object.entries(search).filter(([name, value]) => value && !(name === "share" && value === "0.5"));
  const hash = "#" + new URLSearchParams(given).toString().replaceAll("+", "%20");
  if (hash !== location.hash) history.pushState(null, "", hash);
}

function show() {
  $("text").value = search.text;
  $("filter").value = search.filter;
  $("share").value = search.share;
  $("collection").value = search.collection;
  $("modality").value = search.modality || "image";
  $("captions").checked = Boolean(search.captions);
  $("hits").classList.toggle("captions", Boolean(search.captions));
  $("picture").hidden = !search.image;
  if (search.image) $("picture-image").src = search.image;
  $("mix").hidden = !(search.image && search.text);
  document.title = search.text ? `${search.text} – Search` : "Search";
}

// Searching

function change(values) {
  Object.assign(search, values);
  writeAddress();
  show();
  start();
}

function terms() {
  const share = Number(search.share), both = search.text && search.image;
  const mix = [];
  if (search.text) mix.push({ text: search.text, weight: both ? 1 - share : 1 });
  if (search.image) mix.push({ image: search.image, weight: both ? share : 1 });
  if (search.like) mix.push({ id: search.like });
  return mix;
}

async function start() {
  current += 1;
  hits = [];
  whole = false;
  loading = false;
  $("hits").replaceChildren();
  say(terms().length || !search.collection ? "" : "Describe what you look for, or drop, paste or choose a picture.");
  await more();
}

async function more() {
  const mix = terms(), mine = current;
  if (!mix.length || !search.collection || loading || whole) return;
  loading = true;
  const k = Math.min(PAGE, MOST - hits.length);
  const body = { mix, k, offset: hits.length, filter: search.filter };
  if (search.modality) body.modality = search.modality;
  try {
    const answer = await ask(`/v1/collections/${encodeURIComponent(search.collection)}/search`, body);
    const found = (await answer.json()).hits;
    if (mine !== current) return;
    whole = found.length < k || hits.length + k >= MOST;
    hits.push(...found);
    $("hits").append(...found.map(figure));
    say(hits.length ? `${hits.length}${whole ? "" : " or more"} hits` : "Nothing found.");
    loading = false;
    if (!whole && nearEnd()) await more();
  } catch (problem) {
    if (mine === current) [loading, whole] = [false, say(problem.message, true) || true];
  }
}

function nearEnd() {
  return $("end").getBoundingClientRect().top < innerHeight + 600;
}

function say(words, wrong = false) {
  $("status").textContent = words;
  $("status").classList.toggle("wrong", wrong);
}

// Hits

function figure(hit) {
  const made = document.createElement("figure"), button = document.createElement("button"), words = document.createElement("figcaption");
  const caption = hit.metadata.caption || hit.id, score = document.createElement("b");
  button.type = "button";
  button.title = "More like this";
  button.dataset.id = hit.id;
  button.setAttribute("aria-label", `${caption}, more like this`);
  button.addEventListener("click", () => change({ like: hit.id, text: "", image: "" }));
  button.append(hit.thumbnail ? picture(hit, caption) : Object.assign(document.createElement("span"), { className: "words", textContent: caption }));
  score.textContent = hit.score.toFixed(3);
  words.append(score, ` ${caption}`);
  made.append(button, words);
  return made;
}

function picture(hit, caption) {
  const image = Object.assign(document.createElement("img"), { alt: caption, loading: "lazy" });
  if (token) ask(hit.thumbnail).then((answer) => answer.blob()).then((blob) => (image.src = URL.createObjectURL(blob)), () => {});
  else image.src = hit.thumbnail;
  return image;
}

// A picture to search with: made small here, so that it fits into the address

async function take(file) {
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    change({ image: canvas.toDataURL("image/jpeg", 0.85), like: "", text: $("text").value.trim() });
  } catch {
    say(`${file.name || "What was given"} isn't a picture that this browser can read.`, true);
  }
}

// Collections

async function collections() {
  try {
    const found = (await (await ask("/v1/collections")).json()).collections;
    $("collection").replaceChildren(...found.map(({ name, rows }) => new Option(`${name} (${rows})`, name)));
    if (!found.some(({ name }) => name === search.collection)) search.collection = found.length ? found[0].name : "";
    $("collection").value = search.collection;
    const indexes = found.find(({ name }) => name === search.collection)?.indexes;
    $("modalities").hidden = !indexes || !indexes.image.rows || !indexes.text.rows;
    await start();
    if (!found.length) say("There is no collection yet: clipserve search add FOLDER makes one.");
  } catch (problem) {
    say(problem.message, true);
  }
}

// Links and files

async function copyLink() {
  writeAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } catch {
    say("The link stands in the address bar.");
  }
}

function download() {
  const { collection, text, like, filter } = search;
  const content = JSON.stringify({ collection, text, like, filter, hits }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = `${collection}-hits.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Keys: / to the box, arrows between hits, Enter for more like this (it is a button), Escape back to the box

function key(event) {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("text").select();
  } else if (event.key === "Escape") {
    $("text").focus();
  } else if (event.key === "ArrowDown" && event.target === $("text")) {
    event.preventDefault();
    $("hits").querySelector("button")?.focus();
  } else if (event.key.startsWith("Arrow") && event.target.closest("figure")) {
    step(event);
  }
}

function step(event) {
  const buttons = [...$("hits").querySelectorAll("button")], at = buttons.indexOf(event.target);
  const across = getComputedStyle($("hits")).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
  const next = at + by < 0 ? $("text") : buttons[at + by];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("token").value) sessionStorage.setItem("token", (token = $("token").value));
  const values = { text: $("text").value.trim(), filter: $("filter").value.trim() };
  if (values.text) values.like = "";
  change(values);
  if (!$("collection").length || !$("access").hidden) collections();
  $("access").hidden = true;
});
$("collection").addEventListener("change", () => { search.collection = $("collection").value; search.like = ""; writeAddress(); collections(); });
$("modality").addEventListener("change", () => change({ modality: $("modality").value }));
$("share").addEventListener("change", () => change({ share: $("share").value }));
$("captions").addEventListener("change", () => {
  search.captions = $("captions").checked ? "1" : "";
  $("hits").classList.toggle("captions", $("captions").checked);
  writeAddress();
});
$("file").addEventListener("change", () => { take($("file").files[0]); $("file").value = ""; });
$("picture-remove").addEventListener("click", () => change({ image: "" }));
$("link").addEventListener("click", copyLink);
$("download").addEventListener("click", download);
addEventListener("paste", (event) => take([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("dropping"); take(event.dataTransfer.files[0]); });
addEventListener("keydown", key);
addEventListener("popstate", restore);
new IntersectionObserver((seen) => seen.at(-1).isIntersecting && more(), { rootMargin: "600px" }).observe($("end"));

restore();
