// Elements of the page, and texts of others made harmless: whatever they hold, they are shown as text.

const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g,
  TURNS = /[\u202a-\u202e\u2066-\u2069]/g;

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function button(text, click, properties = {}) {
  const made = make("button", { type: "button", textContent: text, ...properties });
  made.addEventListener("click", click);
  return made;
}

/** Return a text on one line, at most so long, without characters that turn the direction of what follows. */
export function plain(text, most = 300) {
  const start = String(text)
    .slice(0, 2 * most + 2)
    .replace(CONTROLS, " ")
    .replace(TURNS, "\ufffd");
  const characters = Array.from(start);
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : start;
}

/** Return a text with its lines, without characters that turn the direction of what follows. */
export const unturned = (text) => String(text).replace(TURNS, "\ufffd");

/** Return a text between isolates, so that its direction leaves a message's own alone. */
export const quoted = (text, most = 80) => `\u2068${plain(text, most)}\u2069`;

export const count = (number) => number.toLocaleString("en");

/** Return a number with its noun: 1 row, 1,234 rows. */
export const counted = (number, noun, plural = `${noun}s`) => `${count(number)} ${number === 1 ? noun : plural}`;

export function say(words, wrong = false) {
  if ($("status").textContent !== words) $("status").textContent = words;
  $("status").classList.toggle("wrong", wrong);
}
