// Line charts over epochs that are read together: pointing at one reads the same epoch off all of them.

import { el, svg } from "../lib/dom.js";
import { onKeys } from "../lib/keys.js";
import { short } from "../lib/words.js";
import { axes, CHART, DASHES, extent, frame, isKnown, linePath, lineSample, rounded, scales } from "./axes.js";

/** @import { Values } from "../types.js" */
/** @import { Scales } from "./axes.js" */

/**
 * @typedef {{ name: string, values: Values }} Series
 * @typedef {{ title: string, yTitle: string, x: number[], series: Series[], zero?: boolean }} Options `zero`: the y axis
 *   starts at 0
 * @typedef {{ x: number[], shown: Series[], at: Scales, cursor: SVGGElement, readout: HTMLElement }} Chart
 */

export class LineCharts {
  constructor() {
    /** @type {Chart[]} */
    this.charts = [];
    /** @type {number | null} */
    this.epoch = null;
  }

  /**
   * A chart, or null where no series has a value.
   * @param {Options} options
   */
  add({ title, yTitle, x, series, zero = false }) {
    const shown = series.filter(({ values }) => values.some(isKnown));
    if (!shown.length || !x.length) return null;
    const all = shown.flatMap(({ values }) => values);
    const yRange = rounded(extent(all, { zero }));
    const xRange = extent(x);
    const at = scales(xRange, yRange);
    const cursor = cursorOf(shown.length);
    const drawing = frame(
      title,
      shown.map(endsOf).join("; "),
      axes({ xRange, yRange, xTitle: "epoch", yTitle, wholeX: true }, at),
      shown.map(({ values }, i) => drawnLine(x, values, at, i)),
      cursor,
    );
    const chart = { x, shown, at, cursor, readout: el("p", { class: "readout", "aria-live": "polite" }) };
    this.charts.push(chart);
    readAt(chart, null);
    return this.figure(title, chart, drawing);
  }

  /**
   * @param {string} title
   * @param {Chart} chart
   * @param {SVGSVGElement} drawing
   */
  figure(title, chart, drawing) {
    const attributes = { class: "panel", tabindex: "0", "aria-label": `${title}; arrow keys read epochs` };
    const node = el("figure", attributes, el("figcaption", {}, title), chart.readout, drawing);
    drawing.addEventListener("pointermove", (event) => this.read(nearestEpoch(chart, event, drawing)));
    drawing.addEventListener("pointerleave", () => this.read(null));
    onKeys(node, { ArrowLeft: () => this.step(chart, -1), ArrowRight: () => this.step(chart, 1) });
    node.addEventListener("blur", () => this.read(null));
    return node;
  }

  /**
   * @param {Chart} chart
   * @param {number} by
   */
  step({ x }, by) {
    const now = this.epoch === null ? (by > 0 ? -1 : x.length) : x.indexOf(this.epoch);
    this.read(x[Math.min(Math.max(now + by, 0), x.length - 1)]);
  }

  /** @param {number | null} epoch null for the last one, without a cursor */
  read(epoch) {
    this.epoch = epoch;
    for (const chart of this.charts) readAt(chart, epoch);
  }
}

/** @param {number} lines */
function cursorOf(lines) {
  const dots = Array.from({ length: lines }, (_, i) => svg("circle", { r: 3.5, style: { fill: `var(--line-${i})` } }));
  const line = svg("line", { y1: CHART.top, y2: CHART.height - CHART.bottom });
  return svg("g", { class: "cursor", visibility: "hidden" }, line, dots);
}

/**
 * A line; a single value is a dot.
 * @param {number[]} x
 * @param {Values} values
 * @param {Scales} at
 * @param {number} i the number of the line in its chart
 */
function drawnLine(x, values, at, i) {
  const style = { stroke: `var(--line-${i})` };
  const line = svg("path", { class: "line", d: linePath(x, values, at), "stroke-dasharray": DASHES[i], style });
  const [value, ...others] = values.filter(isKnown);
  if (others.length) return line;
  const place = values.indexOf(value);
  const fill = { fill: `var(--line-${i})` };
  return [line, svg("circle", { cx: at.x(x[place]), cy: at.y(value), r: 3, style: fill })];
}

/** @param {Series} series */
function endsOf({ name, values }) {
  return `${name} from ${short(values.find(isKnown))} to ${short(values.findLast(isKnown))}`;
}

/**
 * @param {Chart} chart
 * @param {PointerEvent} event
 * @param {Element} drawing
 */
function nearestEpoch({ x, at }, event, drawing) {
  const box = drawing.getBoundingClientRect();
  const wanted = ((event.clientX - box.left) / box.width) * CHART.width;
  const far = (/** @type {number} */ epoch) => Math.abs(at.x(epoch) - wanted);
  return x.reduce((best, epoch) => (far(epoch) < far(best) ? epoch : best), x[0]);
}

/**
 * @param {Chart} chart
 * @param {number | null} epoch
 */
function readAt({ x, shown, at, cursor, readout }, epoch) {
  const place = epoch === null ? x.length - 1 : x.indexOf(epoch);
  const several = shown.length > 1;
  const words = shown.map(({ name, values }, i) =>
    el(
      "span",
      {},
      several ? [lineSample(`var(--line-${i})`, DASHES[i]), `${name} `] : null,
      el("b", {}, isKnown(values[place]) ? short(values[place]) : "\u2013"),
    ),
  );
  readout.replaceChildren(...words, el("span", { class: "quiet" }, `epoch ${x[place] ?? "\u2013"}`));
  cursor.setAttribute("visibility", epoch === null || place < 0 ? "hidden" : "visible");
  if (place < 0) return;
  const [line, ...dots] = cursor.children;
  line.setAttribute("x1", String(at.x(x[place])));
  line.setAttribute("x2", String(at.x(x[place])));
  dots.forEach((dot, i) => {
    const value = shown[i].values[place];
    dot.setAttribute("visibility", isKnown(value) ? "inherit" : "hidden");
    if (isKnown(value)) dot.setAttribute("transform", `translate(${at.x(x[place])} ${at.y(value)})`);
  });
}
