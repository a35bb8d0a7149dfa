// A histogram, and a reliability curve: how often what was given a probability was right.

import { el, svg } from "../lib/dom.js";
import { counted, percent, share, short } from "../lib/words.js";
import { axes, CHART, frame, isKnown, linePath, rounded, scales } from "./axes.js";

/** @import { Range, Reliability } from "../types.js" */
/** @import { Scales } from "./axes.js" */

/**
 * @param {{ title: string, edges: number[], counts: number[], xTitle: string, yTitle: string }} options the bar i counts
 *   images between edges[i] and edges[i + 1]
 */
export function histogram({ title, edges, counts, xTitle, yTitle }) {
  const yRange = rounded([0, Math.max(1, ...counts)]);
  /** @type {Range} */
  const xRange = [edges[0], edges[edges.length - 1]];
  const at = scales(xRange, yRange);
  const total = counts.reduce((a, b) => a + b, 0);
  const readout = el("p", { class: "readout" });
  const words = (/** @type {number} */ i) =>
    `${counted(counts[i], "image")} (${share(counts[i] / (total || 1))}) between ${short(edges[i])} and ${short(edges[i + 1])}`;
  const rest = () => {
    readout.textContent = `${counted(total, "image")}; the fullest bar: ${words(counts.indexOf(Math.max(...counts)))}`;
  };
  const bars = counts.map((number, i) => {
    const bar = drawnBar(at, edges[i], edges[i + 1], number);
    bar.addEventListener("pointerenter", () => (readout.textContent = words(i)));
    return bar;
  });
  rest();
  const filled = counts.map((number, i) => (number ? words(i) : null)).filter(Boolean);
  const drawing = frame(title, filled.join("; "), axes({ xRange, yRange, xTitle, yTitle }, at), bars);
  drawing.addEventListener("pointerleave", rest);
  return el("figure", { class: "panel" }, el("figcaption", {}, title), readout, drawing);
}

/**
 * @param {Scales} at
 * @param {number} from
 * @param {number} to
 * @param {number} number
 */
function drawnBar(at, from, to, number) {
  const [x, width] = [at.x(from), at.x(to) - at.x(from)];
  const height = CHART.height - CHART.top - CHART.bottom;
  return svg(
    "g",
    { class: "bar-slot" },
    svg("rect", { class: "slot", x, width, y: CHART.top, height }),
    svg("rect", {
      class: "bar-fill",
      x: x + 0.5,
      width: Math.max(0.5, width - 1),
      y: at.y(number),
      height: at.y(0) - at.y(number),
    }),
  );
}

/** @param {Reliability} reliability by bin of confidence */
export function reliabilityChart({ mean_confidence: confidence, accuracy, count }) {
  const title = "Is it as right as it is sure? (used labels)";
  const at = scales([0, 1], [0, 1]);
  const bins = confidence.flatMap((sure, i) => {
    const right = accuracy[i];
    return count[i] > 0 && isKnown(sure) && isKnown(right) ? [{ sure, right, size: count[i] }] : [];
  });
  const most = Math.max(1, ...bins.map((bin) => bin.size));
  const words = (/** @type {(typeof bins)[0]} */ bin) =>
    `${percent(bin.sure)} sure, ${percent(bin.right)} right (${counted(bin.size, "image")})`;
  const readout = el("p", { class: "readout" });
  const rest = () => {
    readout.textContent = "On the dashed line, confidence is honest; under it, the run is surer than it should be.";
  };
  rest();
  const dots = bins.map((bin) =>
    svg(
      "circle",
      {
        class: "bin",
        cx: at.x(bin.sure),
        cy: at.y(bin.right),
        r: 3 + 5 * Math.sqrt(bin.size / most),
        pointerenter: () => (readout.textContent = words(bin)),
      },
      svg("title", {}, words(bin)),
    ),
  );
  const line = linePath(
    bins.map((bin) => bin.sure),
    bins.map((bin) => bin.right),
    at,
  );
  const titles = { xTitle: "mean confidence (probability)", yTitle: "right (share of images)" };
  const drawing = frame(
    title,
    bins.map(words).join("; "),
    axes({ xRange: [0, 1], yRange: [0, 1], ...titles }, at),
    svg("line", { class: "ideal", x1: at.x(0), y1: at.y(0), x2: at.x(1), y2: at.y(1) }),
    svg("path", { class: "line", d: line, style: { stroke: "var(--line-0)" } }),
    dots,
  );
  drawing.addEventListener("pointerleave", rest);
  return el("figure", { class: "panel" }, el("figcaption", {}, title), readout, drawing);
}
