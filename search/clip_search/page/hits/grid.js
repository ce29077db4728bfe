// A grid of thousands of hits, of which only those near the window are in the document.

import { make } from "../elements.js";
import { tile } from "./tile.js";

const GAP = 10,
  BEYOND = 1.5; // rows are kept that many windows beyond the edges

export class Grid {
  /** `actions(hit, index)` gives the functions `open` and `more` of a tile; `near()` is called when the end comes near. */
  constructor(list, actions, near) {
    [this.list, this.actions, this.near] = [list, actions, near];
    [this.hits, this.tiles, this.skeletons, this.hasMore] = [[], new Map(), 0, false];
    const draw = () => requestAnimationFrame(() => this.draw());
    addEventListener("scroll", draw, { passive: true });
    new ResizeObserver(draw).observe(list.parentElement);
  }

  clear() {
    for (const item of this.tiles.values()) drop(item);
    this.tiles.clear();
    [this.hits, this.skeletons, this.hasMore] = [[], 0, false];
    this.draw();
  }

  append(hits, hasMore) {
    this.hits.push(...hits);
    [this.skeletons, this.hasMore] = [0, hasMore];
    this.draw();
  }

  remove(index) {
    for (const item of this.tiles.values()) drop(item);
    this.tiles.clear();
    this.hits.splice(index, 1);
    this.draw();
  }

  /** Show that hits are on their way. */
  wait(count) {
    this.skeletons = count;
    this.draw();
  }

  focus(index) {
    const top = this.list.getBoundingClientRect().top + scrollY,
      { columns, height } = this.measures();
    const [start, head] = [top + Math.floor(index / columns) * height, document.querySelector("header").offsetHeight];
    const isSticky = getComputedStyle(document.querySelector("header")).position === "sticky";
    if (start < scrollY + (isSticky ? head : 0)) scrollTo(0, start - (isSticky ? head : 0) - GAP);
    else if (start + height > scrollY + innerHeight) scrollTo(0, start + height - innerHeight + GAP);
    this.draw();
    this.tiles.get(index)?.querySelector(".open").focus({ preventScroll: true });
  }

  focused() {
    return [...this.tiles].find(([, item]) => item.contains(document.activeElement))?.[0] ?? -1;
  }

  measures() {
    const style = getComputedStyle(this.list),
      width = this.list.clientWidth;
    const least = parseFloat(style.getPropertyValue("--least")) || 150,
      caption = parseFloat(style.getPropertyValue("--caption")) || 0;
    const columns = Math.max(2, Math.floor((width + GAP) / (least + GAP))),
      side = (width - GAP * (columns - 1)) / columns;
    return { columns, side, height: side + caption * parseFloat(getComputedStyle(document.documentElement).fontSize) + GAP };
  }

  draw() {
    const { columns, side, height } = this.measures(),
      total = this.hits.length + this.skeletons;
    this.list.style.height = `${Math.ceil(total / columns) * height}px`;
    const above = -this.list.getBoundingClientRect().top,
      beyond = BEYOND * innerHeight;
    const from = Math.max(0, Math.floor((above - beyond) / height) * columns);
    const to = Math.min(total, Math.ceil((above + innerHeight + beyond) / height) * columns);
    const kept = this.focused();
    for (const [n, item] of this.tiles) {
      if ((n >= from && n < to) || n === kept) continue;
      drop(item);
      this.tiles.delete(n);
    }
    this.list.querySelectorAll(".skeleton").forEach((item) => item.remove());
    let behind = null;
    for (let n = to - 1; n >= from; n -= 1) {
      behind =
        n < this.hits.length
          ? this.item(n, behind)
          : this.list.insertBefore(make("li", { className: "tile skeleton", "aria-hidden": "true" }), behind);
      place(behind, n, columns, side, height);
    }
    if (kept >= 0 && (kept < from || kept >= to)) place(this.tiles.get(kept), kept, columns, side, height);
    if (this.hasMore && to >= this.hits.length) this.near();
  }

  item(n, behind) {
    const there = this.tiles.get(n),
      item = there || tile(this.hits[n], this.actions(this.hits[n], n));
    if (!there) {
      item.setAttribute("aria-posinset", n + 1);
      this.tiles.set(n, item);
      this.list.insertBefore(item, behind);
    }
    item.setAttribute("aria-setsize", this.hasMore ? -1 : this.hits.length);
    return item;
  }
}

function drop(item) {
  item.gone?.();
  item.remove();
}

function place(item, n, columns, side, height) {
  const [left, top] = [(n % columns) * (side + GAP), Math.floor(n / columns) * height];
  item.style.transform = `translate(${left}px, ${top}px)`;
  item.style.width = `${side}px`;
  item.style.setProperty("--side", `${side}px`);
}
