// A matrix as colours on a canvas. The pointer or the arrow keys read one cell.

import { ramp } from "../lib/colours.js";
import { el } from "../lib/dom.js";
import { pen2d } from "../lib/dots.js";
import { onKeys } from "../lib/keys.js";
import { whenSeen } from "../lib/lazy.js";
import { onTheme, themeColour } from "../lib/theme.js";
import { short } from "../lib/words.js";

/** @import { Rgb } from "../types.js" */

/**
 * @typedef {object} Options
 * @property {string} title
 * @property {number[][]} matrix
 * @property {number} low the value of the scale's first colour
 * @property {number} high
 * @property {(row: number, column: number) => string} words what a cell says
 * @property {(value: number) => string} numbers what is written in a cell that is large enough
 * @property {string[]} rowNames
 * @property {string[]} columnNames
 * @property {string} rowTitle
 * @property {string} columnTitle
 * @property {"heat" | "viridis"} [colours]
 */

/** @typedef {Options & { canvas: HTMLCanvasElement, at: [row: number, column: number] | null }} State */
/** @typedef {ReturnType<typeof layoutOf>} Layout */

const MOST_LETTERS = 14;
const LARGEST_CELL = 88;
const CANVAS_FONT = "-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif";

/** @param {Options} options */
export function heatmap(options) {
  const { title, matrix, low, high, words, rowTitle, columnTitle, colours = "heat" } = options;
  const rows = matrix.length;
  const columns = matrix[0]?.length ?? 0;
  const canvas = el("canvas", {
    class: "heat",
    tabindex: "0",
    role: "img",
    "aria-label": `${title}, ${rows} by ${columns}; arrow keys read cells`,
  });
  const readout = el("p", { class: "readout", "aria-live": "polite" }, "Point at a cell to read it.");
  /** @type {State} */
  const state = { ...options, canvas, at: null };
  const read = (/** @type {number} */ row, /** @type {number} */ column) => {
    state.at = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    readout.textContent = words(...state.at);
    draw(state);
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = layoutOf(state);
    const column = Math.floor((event.offsetX - box.left) / box.side);
    const row = Math.floor((event.offsetY - box.top) / box.line);
    if (row >= 0 && column >= 0 && row < rows && column < columns) read(row, column);
  });
  const step = (/** @type {number} */ down, /** @type {number} */ right) => () => {
    if (state.at) read(state.at[0] + down, state.at[1] + right);
    else read(0, 0);
  };
  onKeys(canvas, { ArrowLeft: step(0, -1), ArrowRight: step(0, 1), ArrowUp: step(-1, 0), ArrowDown: step(1, 0) });
  const holder = el("div", { class: "heat-holder" }, canvas);
  whenSeen(holder, () => {
    new ResizeObserver(() => draw(state)).observe(holder);
    onTheme(() => draw(state));
  });
  return el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, title),
    readout,
    holder,
    el("p", { class: "quiet axis-words" }, `\u2193 ${rowTitle} \u00b7 \u2192 ${columnTitle}`),
    scaleBar(low, high, colours),
  );
}

/**
 * @param {number} low
 * @param {number} high
 * @param {"heat" | "viridis"} colours
 */
export function scaleBar(low, high, colours) {
  return el("p", { class: `scale-bar ${colours}` }, short(low), el("span", { "aria-hidden": "true" }), short(high));
}

/**
 * Where the cells lie: with a margin for names if cells are large enough to name. Long names of columns are slanted.
 * @param {State} state
 */
function layoutOf({ canvas, matrix, rowNames, columnNames }) {
  const rows = matrix.length;
  const columns = matrix[0]?.length ?? 0;
  const wide = canvas.parentElement?.clientWidth ?? 0;
  const long = (/** @type {string[]} */ names) =>
    6.2 * Math.min(MOST_LETTERS, Math.max(...names.map((text) => text.length)));
  const named = (wide - long(rowNames)) / columns >= 12 && (rows < 100 || columns < rows / 2);
  const left = named ? 10 + long(rowNames) : 0;
  const slanted = named && long(columnNames) > Math.min(LARGEST_CELL, (wide - left) / columns) - 4;
  const top = !named ? 0 : slanted ? 14 + 0.71 * long(columnNames) : 18;
  const beside = slanted ? 0.71 * long(columnNames) : 0;
  const side = Math.min(LARGEST_CELL, (wide - left - beside) / columns);
  // Many more rows than columns: flat cells.
  const line = rows > 2 * columns ? Math.min(side, Math.max(13, 600 / rows)) : side;
  return { left, top, side, line, named, slanted, width: left + side * columns + beside, height: top + line * rows };
}

/** @param {State} state */
function draw(state) {
  const { matrix, low, high, canvas } = state;
  const box = layoutOf(state);
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  canvas.style.width = `${box.width}px`;
  canvas.style.height = `${box.height}px`;
  const pen = pen2d(canvas);
  pen.scale(ratio, ratio);
  const scale = ramp(state.colours ?? "heat", 256);
  const colourOf = (/** @type {number} */ value) =>
    scale[Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low || 1))))];
  const gap = box.line > 12 ? 1 : 0;
  matrix.forEach((line, row) =>
    line.forEach((value, column) => {
      pen.fillStyle = `rgb(${colourOf(value)})`;
      // Cells side by side share their edge's device pixel, so that no ground shines through.
      const x = Math.round((box.left + column * box.side) * ratio) / ratio;
      const y = Math.round((box.top + row * box.line) * ratio) / ratio;
      pen.fillRect(x, y, Math.ceil(box.side * ratio) / ratio - gap, Math.ceil(box.line * ratio) / ratio - gap);
    }),
  );
  if (box.named) nameCells(pen, state, box);
  if (box.side >= 34) numberCells(pen, state, box, colourOf);
  if (!state.at) return;
  pen.strokeStyle = `rgb(${themeColour("--ink")})`;
  pen.lineWidth = 2;
  pen.strokeRect(box.left + state.at[1] * box.side, box.top + state.at[0] * box.line, box.side, box.line);
}

/** @param {string} text */
function clipped(text) {
  return text.length > MOST_LETTERS ? `${text.slice(0, MOST_LETTERS - 1)}\u2026` : text;
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {State} state
 * @param {Layout} layout
 */
function nameCells(pen, { rowNames, columnNames }, { left, top, side, line, slanted }) {
  pen.fillStyle = `rgb(${themeColour("--quiet")})`;
  pen.font = `11px ${CANVAS_FONT}`;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  rowNames.forEach((text, row) => pen.fillText(clipped(text), left - 6, top + (row + 0.5) * line));
  pen.textAlign = slanted ? "left" : "center";
  columnNames.forEach((text, column) => {
    pen.save();
    pen.translate(left + (column + 0.5) * side, top - 8);
    if (slanted) pen.rotate(-Math.PI / 4);
    pen.fillText(clipped(text), 0, 0);
    pen.restore();
  });
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {State} state
 * @param {Layout} layout
 * @param {(value: number) => Rgb} colourOf
 */
function numberCells(pen, { matrix, numbers }, { left, top, side, line: high }, colourOf) {
  pen.font = `${high > 50 ? 13 : 11}px ${CANVAS_FONT}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  matrix.forEach((line, row) =>
    line.forEach((value, column) => {
      const [r, g, b] = colourOf(value);
      pen.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#14161a" : "#ffffff";
      pen.fillText(numbers(value), left + (column + 0.5) * side, top + (row + 0.5) * high);
    }),
  );
}
