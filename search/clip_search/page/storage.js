// The browser's storage; it may be full, or forbidden, and the page works without.

export function stored(kind, name) {
  try {
    return window[kind].getItem(name);
  } catch {
    return null;
  }
}

export function store(kind, name, value) {
  try {
    window[kind].setItem(name, value);
    return true;
  } catch {
    return false;
  }
}

export function storedList(name) {
  try {
    const list = JSON.parse(stored("localStorage", name));
    return Array.isArray(list)
      ? list.filter((entry) => typeof entry?.hash === "string" && entry.hash.startsWith("#") && typeof entry.title === "string")
      : [];
  } catch {
    return [];
  }
}

/** Return a random name of this visit: one that the sidecar may count by, and that ends with the tab. */
export function visit() {
  const name = stored("sessionStorage", "visit") || random();
  store("sessionStorage", "visit", name);
  return name;
}

export const random = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
