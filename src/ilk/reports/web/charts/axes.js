// What charts share: ranges, ticks, scales, axes and paths.

import { svg } from "../lib/dom.js";
import { short } from "../lib/words.js";

/** @import { Child, Range, Values } from "../types.js" */

/** @typedef {{ width: number, height: number, left: number, right: number, top: number, bottom: number }} Box */
/** @typedef {{ x: (value: number) => number, y: (value: number) => number }} Scales */

/** @type {Box} */
export const CHART = { width: 340, height: 210, left: 50, right: 10, top: 10, bottom: 38 };
/** Patterns that tell the lines of a chart apart without colour. */
export const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

/**
 * Round numbers that cover the range, about `wanted` of them.
 * @param {Range} range
 * @param {number} wanted
 */
function ticks([low, high], wanted) {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    values.push(Number((i * step).toPrecision(12)));
  return values;
}

/**
 * The numbers of an axis, with as many decimals as tell them apart.
 * @param {number[]} values
 */
function tickWords(values) {
  const step = values.length > 1 ? values[1] - values[0] : 0;
  const largest = Math.max(...values.map(Math.abs));
  if (!step || largest >= 10000 || largest < 0.001) return values.map(short);
  return values.map((value) => value.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))));
}

/**
 * The range widened to round numbers.
 * @param {Range} range
 * @returns {Range}
 */
export function rounded([low, high]) {
  const [first, second] = ticks([low, high], 4);
  const step = second - first;
  return step > 0 ? [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step] : [low, high];
}

/**
 * The smallest and the largest value, never the same. `zero`: the range starts at 0 or below.
 * @param {Values} values
 * @param {{ zero?: boolean }} [options]
 * @returns {Range}
 */
export function extent(values, { zero = false } = {}) {
  const known = values.filter(isKnown);
  if (!known.length) return [0, 1];
  const least = known.reduce((a, b) => Math.min(a, b));
  const low = zero ? Math.min(least, 0) : least;
  const high = known.reduce((a, b) => Math.max(a, b));
  if (low !== high) return [low, high];
  return [low - (Math.abs(low) / 10 || 0.5), high + (Math.abs(high) / 10 || 0.5)];
}

/**
 * @param {number | null | undefined} value
 * @returns {value is number}
 */
export function isKnown(value) {
  return value !== null && value !== undefined;
}

/**
 * From values to places in the drawing.
 * @param {Range} xRange
 * @param {Range} yRange
 * @param {Box} [box]
 * @returns {Scales}
 */
export function scales([x0, x1], [y0, y1], box = CHART) {
  const wide = box.width - box.left - box.right;
  const high = box.height - box.top - box.bottom;
  return {
    x: (value) => box.left + ((value - x0) / (x1 - x0 || 1)) * wide,
    y: (value) => box.height - box.bottom - ((value - y0) / (y1 - y0 || 1)) * high,
  };
}

/**
 * @param {{ xRange: Range, yRange: Range, xTitle: string, yTitle: string, xWanted?: number, wholeX?: boolean }} options
 *   `xWanted`: about how many ticks; `wholeX`: only whole numbers are ticks
 * @param {Scales} at
 * @param {Box} [box]
 */
export function axes({ xRange, yRange, xTitle, yTitle, xWanted = 5, wholeX = false }, at, box = CHART) {
  const bottom = box.height - box.bottom;
  const right = box.width - box.right;
  const xTicks = ticks(xRange, xWanted).filter((value) => !wholeX || Number.isInteger(value));
  const yTicks = ticks(yRange, 4);
  const xWords = tickWords(xTicks);
  const yWords = tickWords(yTicks);
  const rules = yTicks.map((value, i) => [
    svg("line", { class: "rule", x1: box.left, x2: right, y1: at.y(value), y2: at.y(value) }),
    svg("text", { x: box.left - 6, y: at.y(value) + 3.5, "text-anchor": "end" }, yWords[i]),
  ]);
  const marks = xTicks.map((value, i) => [
    svg("line", { class: "tick", x1: at.x(value), x2: at.x(value), y1: bottom, y2: bottom + 4 }),
    svg("text", { x: at.x(value), y: bottom + 15, "text-anchor": "middle" }, xWords[i]),
  ]);
  const title = { class: "axis-title", "text-anchor": "middle" };
  return svg(
    "g",
    { class: "axes", "aria-hidden": "true" },
    rules,
    marks,
    svg("line", { class: "tick", x1: box.left, x2: right, y1: bottom, y2: bottom }),
    svg("text", { ...title, x: (box.left + right) / 2, y: box.height - 5 }, xTitle),
    svg("text", { ...title, transform: `translate(11 ${(box.top + bottom) / 2}) rotate(-90)` }, yTitle),
  );
}

/**
 * The drawing of a chart; `description` says in words what is drawn.
 * @param {string} title
 * @param {string} description
 * @param {Child[]} children
 */
export function frame(title, description, ...children) {
  return svg(
    "svg",
    {
      viewBox: `0 0 ${CHART.width} ${CHART.height}`,
      role: "img",
      "aria-label": `${title}. ${description}`,
      class: "chart",
    },
    svg("title", {}, title),
    svg("desc", {}, description),
    ...children,
  );
}

/**
 * A line through the known values, with gaps where there are none.
 * @param {number[]} x
 * @param {Values} values
 * @param {Scales} at
 */
export function linePath(x, values, at) {
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (!isKnown(value)) pen = "M";
    else {
      path += `${pen}${at.x(x[i]).toFixed(1)} ${at.y(value).toFixed(1)}`;
      pen = "L";
    }
  });
  return path;
}

/**
 * A short piece of a line, for a key.
 * @param {string} colour
 * @param {string | null} dash
 * @param {number} [width]
 */
export function lineSample(colour, dash, width) {
  const style = { stroke: colour, ...(width ? { "stroke-width": width } : {}) };
  const line = svg("path", { d: "M0 3H18", "stroke-dasharray": dash, style });
  return svg("svg", { class: "dash", viewBox: "0 0 18 6", "aria-hidden": "true" }, line);
}
