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
