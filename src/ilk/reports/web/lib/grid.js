// Grids of tiles, and long lists of tiles in pages.

import { button, el, fill } from "./dom.js";
import { onKeys } from "./keys.js";

/**
 * A grid of tiles. It is one stop of the Tab key; inside it the arrow keys move.
 * @param {HTMLElement[]} tiles
 * @param {string} label
 * @param {string} kind the class that says how many columns there are (grid.css)
 */
export function grid(tiles, label, kind) {
  const made = el("div", { class: `grid ${kind}`, role: "group", "aria-label": `${label}; arrow keys move` }, tiles);
  tiles.forEach((tile, place) => (tile.tabIndex = place ? -1 : 0));
  const focused = () => tiles.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const go = (/** @type {number} */ place) => tiles[Math.min(Math.max(place, 0), tiles.length - 1)].focus();
  const by = (/** @type {number} */ step) => () => go(focused() + step);
  onKeys(
    made,
    {
      ArrowLeft: by(-1),
      ArrowRight: by(1),
      ArrowUp: () => go(focused() - columnsOf(tiles)),
      ArrowDown: () => go(focused() + columnsOf(tiles)),
      Home: () => go(0),
      End: () => go(tiles.length - 1),
    },
    { stop: true, when: () => focused() >= 0 },
  );
  made.addEventListener("focusin", (event) => {
    for (const tile of tiles) tile.tabIndex = tile === event.target ? 0 : -1;
  });
  return el("div", { class: "tiles" }, made);
}

/** @param {HTMLElement[]} tiles */
function columnsOf(tiles) {
  const second = tiles.findIndex((tile) => tile.offsetTop > tiles[0].offsetTop);
  return second < 1 ? tiles.length : second;
}

/**
 * Keeps the room that a grid of kind `row-grid` will fill, so that nothing moves when it comes.
 * @param {HTMLElement} node
 * @param {number} length how many tiles will come
 * @param {string} [under] the room that a caption takes under a tile
 */
export function reserveRows(node, length, under = "0rem") {
  node.classList.add("reserved");
  const style = { "--rows-of-4": Math.ceil(length / 4), "--rows-of-8": Math.ceil(length / 8), "--under": under };
  fill(node, { style }, []);
}

/**
 * A list of any length as pages of tiles, of which only those of the page in view exist.
 * @template T
 * @param {T[]} items
 * @param {string} label
 * @param {(item: T) => HTMLElement} makeTile
 * @param {{ size?: number, kind?: string }} [options] `size`: tiles on a page
 */
export function pages(items, label, makeTile, { size = 60, kind = "wide" } = {}) {
  const last = Math.max(0, Math.ceil(items.length / size) - 1);
  const place = el("div");
  const words = el("span", { "aria-live": "polite" });
  const previous = button("Previous", () => show(page - 1), { class: "small" });
  const next = button("Next", () => show(page + 1), { class: "small" });
  let page = 0;
  const show = (/** @type {number} */ wanted) => {
    page = Math.min(Math.max(wanted, 0), last);
    place.replaceChildren(grid(items.slice(page * size, (page + 1) * size).map(makeTile), label, kind));
    words.textContent = `Page ${page + 1} of ${last + 1}`;
    previous.disabled = page === 0;
    next.disabled = page === last;
  };
  show(0);
  const turn = el("div", { class: "turn", role: "group", "aria-label": "Pages" }, previous, words, next);
  return el("div", { class: "pages" }, place, last ? turn : null);
}
