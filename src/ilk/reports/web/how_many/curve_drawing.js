// The drawing of the scores of all numbers of clusters.

import { axes, linePath } from "../charts/axes.js";
import { svg } from "../lib/dom.js";

/** @import { Curve, HowMany, Range } from "../types.js" */
/** @import { Box, Scales } from "../charts/axes.js" */

/**
 * Colour and pattern of the line of each criterion.
 * @type {[colour: string, dash: string][]}
 */
export const LINES = [
  ["var(--line-0)", "6 3"],
  ["var(--line-1)", "2 3"],
  ["var(--line-2)", "8 3 2 3"],
  ["var(--sure)", "4 2 1 2 1 2"],
  ["var(--line-3)", "1 2"],
];

/**
 * @param {HowMany} how
 * @param {Curve} curve
 * @param {{ shown: Set<string>, box: Box, at: Scales, xRange: Range, yRange: Range, words: string }} options `shown`:
 *   the criteria that have a line; `words`: the drawing for those who cannot see it
 */
export function curveDrawing(how, curve, { shown, box, at, xRange, yRange, words }) {
  const { k, score, error, criteria } = curve;
  const cursor = svg(
    "g",
    { class: "cursor" },
    svg("line", { y1: box.top, y2: box.height - box.bottom }),
    svg("circle", { r: 4, style: { fill: "var(--ink)" } }),
  );
  const zero = { class: "ideal", x1: box.left, x2: box.width - box.right, y1: at.y(0), y2: at.y(0) };
  const thin = Object.entries(criteria).map(([criterion, values], i) => {
    const [stroke, dash] = LINES[i];
    const attributes = { class: "line thin", d: linePath(k, values, at), "stroke-dasharray": dash, style: { stroke } };
    return shown.has(criterion) ? svg("path", attributes) : null;
  });
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${box.width} ${box.height}`, role: "img", "aria-label": words, class: "chart" },
    rangeBand(how, at, xRange, box),
    axes({ xRange, yRange, xTitle: "number of clusters", yTitle: "score (nats)", xWanted: 8, wholeX: true }, at, box),
    yRange[0] < 0 && yRange[1] > 0 ? svg("line", zero) : null,
    svg("path", { class: "error-band", d: bandPath(k, score, error, at) }),
    thin,
    svg("path", { class: "line score-line", d: linePath(k, score, at) }),
    k.length < 30
      ? k.map((number, i) => svg("circle", { class: "score-dot", cx: at.x(number), cy: at.y(score[i]), r: 2.5 }))
      : null,
    chosenMark(how, curve, at, box),
    cursor,
  );
  return { drawing, cursor };
}

/**
 * The numbers that are nearly as good as the one chosen.
 * @param {HowMany} how
 * @param {Scales} at
 * @param {Range} xRange
 * @param {Box} box
 */
function rangeBand({ range }, at, [first, last], box) {
  if (!range || range[0] === range[1]) return null;
  const [low, high] = [Math.max(first, range[0] - 0.5), Math.min(last, range[1] + 0.5)];
  if (high <= low) return null;
  const height = box.height - box.top - box.bottom;
  return svg("rect", { class: "range-band", x: at.x(low), width: at.x(high) - at.x(low), y: box.top, height });
}

/**
 * @param {number[]} k
 * @param {number[]} score
 * @param {number[]} error
 * @param {Scales} at
 */
function bandPath(k, score, error, at) {
  const edge = (/** @type {number} */ sign) =>
    k.map((number, i) => `${at.x(number).toFixed(1)} ${at.y(score[i] + sign * error[i]).toFixed(1)}`);
  return `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z`;
}

/**
 * @param {HowMany} how
 * @param {Curve} curve
 * @param {Scales} at
 * @param {Box} box
 */
function chosenMark({ chosen }, { k, score }, at, box) {
  const place = chosen === null ? -1 : k.indexOf(chosen);
  if (place < 0 || chosen === null) return null;
  const x = at.x(chosen);
  const anchor = x > box.width - 80 ? "end" : x < box.left + 40 ? "start" : "middle";
  return svg(
    "g",
    { class: "chosen-mark" },
    svg("line", { x1: x, x2: x, y1: box.top, y2: box.height - box.bottom }),
    svg("circle", { cx: x, cy: at.y(score[place]), r: 4.5 }),
    svg("text", { x, y: box.top - 8, "text-anchor": anchor }, `chosen: ${chosen}`),
  );
}
