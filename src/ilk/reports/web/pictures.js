// Pictures of images: cells of the sprite sheets, larger ones where there are some, and tiles that open.

import { count, data, images } from "./data.js";
import { el } from "./lib/dom.js";
import { ordinal } from "./lib/words.js";
import { clusterMark, describe } from "./names.js";
import { openImage } from "./state.js";

/** @import { Child } from "./types.js" */

export const sprites = data.sprites;
const { large } = data;
/** Whether pictures are so small that they are shown as pixels. */
export const tiny = sprites !== null && sprites.tile < 24;
/** @type {Map<number, string>} */
const largeAddress = new Map((large?.index ?? []).map((image, place) => [image, large?.images[place] ?? ""]));
const sheetStyle = new CSSStyleSheet();
/** @type {Set<number>} */
const styledSheets = new Set();
/** @type {Map<number, { image: HTMLImageElement, done: boolean }>} */
const sheetImages = new Map();

/** @param {number} image */
export function hasLarge(image) {
  return largeAddress.has(image);
}

/** Call once before any picture is made. */
export function startPictures() {
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheetStyle];
  document.documentElement.classList.toggle("tiny", tiny);
  if (sprites) document.documentElement.style.setProperty("--columns", String(sprites.columns));
}

/**
 * Where the picture of an image lies in the sheets; null where it has none.
 * @param {number} image
 */
export function cellOf(image) {
  if (!sprites || image >= (sprites.count ?? count)) return null;
  const place = image % sprites.per_sheet;
  return {
    sheet: Math.floor(image / sprites.per_sheet),
    column: place % sprites.columns,
    row: Math.floor(place / sprites.columns),
    tile: sprites.tile,
  };
}

/**
 * One style rule a sheet, so that its data stands in the page once and is decoded once.
 * @param {number} sheet
 */
function sheetClass(sheet) {
  if (sprites && !styledSheets.has(sheet)) {
    styledSheets.add(sheet);
    sheetStyle.insertRule(`.sheet-${sheet} { background-image: url("${sprites.sheets[sheet]}"); }`);
  }
  return `sheet-${sheet}`;
}

/**
 * The sheet as something a canvas can draw, or null while it is being decoded; then `ready` is called.
 * @param {number} sheet
 * @param {() => void} ready
 */
export function sheetImage(sheet, ready) {
  const known = sheetImages.get(sheet);
  if (known) return known.done ? known.image : null;
  const entry = { image: new Image(), done: false };
  sheetImages.set(sheet, entry);
  entry.image.src = sprites?.sheets[sheet] ?? "";
  entry.image.decode().then(
    () => {
      entry.done = true;
      ready();
    },
    () => {}, // a damaged sheet: its images stay without pictures on the map
  );
  return null;
}

/**
 * @param {number} image
 * @param {boolean} [big] the larger picture is worth its time here, where there is one
 * @param {string} [alt]
 */
export function picture(image, big = false, alt = "") {
  const address = big && largeAddress.get(image);
  if (address) return el("img", { class: "thumb", src: address, alt, decoding: "async" });
  const role = alt ? { role: "img", "aria-label": alt } : {};
  const cell = cellOf(image);
  if (!cell) return el("span", { class: "thumb blank", dir: "auto", ...role }, images.id[image].split("/").pop() ?? "");
  const style = { "--column": cell.column, "--row": cell.row };
  return el("span", { class: `thumb ${sheetClass(cell.sheet)}`, style, ...role });
}

/**
 * A picture that opens the image.
 * @param {number} image
 * @param {number[]} list what the arrow keys go through when it is open
 * @param {string} about says what the list is
 * @param {{ big?: boolean, note?: string | null, caption?: Child }} [options] `note`: why the picture has a mark
 */
export function tile(image, list, about, { big = false, note = null, caption = null } = {}) {
  return el(
    "button",
    {
      type: "button",
      class: note ? "tile noted" : "tile",
      title: images.id[image],
      "aria-label": note ? `${describe(image)}, ${note}` : describe(image),
      "data-image": image,
      click: () => openImage(image, list, about),
    },
    picture(image, big),
    caption ? el("span", { class: "caption" }, caption) : null,
  );
}

/**
 * A picture of a neighbour, with its rank and how alike it is.
 * @param {{ rank: number, image: number, similarity: number }} neighbour
 * @param {number} from the image whose neighbour it is
 * @param {number[]} list
 * @param {string} about
 */
export function neighbourTile({ rank, image, similarity }, from, list, about) {
  const cluster = images.cluster[image];
  const other = cluster !== images.cluster[from];
  const made = tile(image, list, about, {
    big: true,
    caption: [
      el("span", {}, el("b", {}, ordinal(rank)), ` ${similarity.toFixed(2)}`),
      other ? el("span", { class: "other" }, clusterMark(cluster), cluster) : null,
    ],
  });
  made.setAttribute("aria-label", `${ordinal(rank)} nearest, similarity ${similarity.toFixed(2)}: ${describe(image)}`);
  return made;
}
