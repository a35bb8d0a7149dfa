// The score of each number of clusters: a line with its error, the choice, and each criterion alone.

import { extent, lineSample, rounded, scales } from "../charts/axes.js";
import { foldedTable, table } from "../lib/controls.js";
import { el, say } from "../lib/dom.js";
import { onKeys } from "../lib/keys.js";
import { counted, short } from "../lib/words.js";
import { lookAt, onLook, state } from "../state.js";
import { curveDrawing, LINES } from "./curve_drawing.js";

/** @import { Curve, HowMany } from "../types.js" */
/** @import { Box, Scales } from "../charts/axes.js" */

/**
 * `shown`: the names of the criteria whose lines are drawn; `pointed`: the number under the pointer.
 * @typedef {object} Panel
 * @property {HowMany} how
 * @property {Curve} curve
 * @property {Set<string>} shown
 * @property {HTMLElement} holder
 * @property {HTMLElement} readout
 * @property {number | null} pointed
 * @property {{ at: Scales, cursor: SVGGElement } | null} drawn
 */

/** @type {Record<string, string>} */
const CRITERIA = {
  stability: "two random parts of the images give the same clusters",
  views: "two views of an image are in the same cluster",
  neighbours: "neighbours are in the same cluster",
  generalisation: "a linear classifier predicts the cluster of an image it has not seen",
  silhouette: "clusters are tight and apart, from \u22121 to 1",
};
const HEIGHT = 280;

/**
 * @param {HowMany} how
 * @param {Curve} curve
 */
export function curvePanel(how, curve) {
  /** @type {Panel} */
  const panel = {
    how,
    curve,
    shown: new Set(Object.keys(curve.criteria)),
    holder: el("div", { class: "curve-holder" }),
    readout: el("p", { class: "readout" }),
    pointed: null,
    drawn: null,
  };
  const redraw = () => draw(panel);
  new ResizeObserver(redraw).observe(panel.holder);
  const node = el(
    "figure",
    { class: "panel", tabindex: "0", "aria-label": "Score by number of clusters; arrow keys read the numbers" },
    el("figcaption", {}, "How good is each number of clusters?"),
    panel.readout,
    panel.holder,
    key(panel, redraw),
    el(
      "p",
      { class: "quiet axis-words" },
      "The score is the weighted sum of the criteria: how much better clusters agree than arbitrary cuts would (nats; ",
      "the silhouette goes from \u22121 to 1).",
    ),
  );
  const step = (/** @type {number} */ by) => () => {
    lookAt(state.get("level") + by);
    say([...panel.readout.children].map((part) => part.textContent).join(", "));
  };
  onKeys(node, { ArrowLeft: step(-1), ArrowRight: step(1) }, { when: (event) => event.target === node });
  onLook(() => read(panel));
  return [el("div", { class: "panels single curve-panel" }, node), curveTable(how, curve)];
}

/**
 * What each line is; those of single criteria can be left out.
 * @param {Panel} panel
 * @param {() => void} redraw
 */
function key({ how, curve, shown }, redraw) {
  const criteria = Object.keys(curve.criteria).map((criterion, i) => {
    const change = () => {
      if (box.checked) shown.add(criterion);
      else shown.delete(criterion);
      redraw();
    };
    const box = el("input", { type: "checkbox", checked: true, change });
    return el("label", { title: CRITERIA[criterion] }, box, lineSample(...LINES[i], 1.5), criterion);
  });
  const several = how.range && how.range[0] < how.range[1];
  return el(
    "fieldset",
    { class: "curve-key" },
    el("legend", { class: "unseen" }, "Lines"),
    el("span", {}, lineSample("var(--ink)", null, 2.5), "score, with its standard error"),
    several ? el("span", {}, el("i", { class: "range-sample", "aria-hidden": "true" }), "nearly as good") : null,
    criteria,
  );
}

/** @param {Panel} panel */
function draw(panel) {
  const { how, curve, shown, holder } = panel;
  const width = Math.min(holder.clientWidth, 1100);
  if (!width) return;
  /** @type {Box} */
  const box = { width, height: HEIGHT, left: 46, right: 14, top: 22, bottom: 38 };
  const ends = curve.score.flatMap((value, i) => [value - curve.error[i], value + curve.error[i]]);
  const criteria = Object.entries(curve.criteria).filter(([criterion]) => shown.has(criterion));
  const xRange = extent(curve.k);
  const yRange = rounded(extent([...ends, ...criteria.flatMap(([, values]) => values)]));
  const at = scales(xRange, yRange, box);
  const { drawing, cursor } = curveDrawing(how, curve, {
    shown,
    box,
    at,
    xRange,
    yRange,
    words: curveWords(how, curve),
  });
  panel.drawn = { at, cursor };
  drawing.addEventListener("pointermove", (event) => {
    panel.pointed = nearestNumber(curve, at, event, drawing);
    read(panel);
  });
  drawing.addEventListener("pointerleave", () => {
    panel.pointed = null;
    read(panel);
  });
  drawing.addEventListener("click", (event) => lookAt(nearestNumber(curve, at, event, drawing)));
  holder.replaceChildren(drawing);
  read(panel);
}

/**
 * @param {Curve} curve
 * @param {Scales} at
 * @param {MouseEvent} event
 * @param {SVGSVGElement} drawing
 */
function nearestNumber({ k }, at, event, drawing) {
  const box = drawing.getBoundingClientRect();
  const wanted = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
  const far = (/** @type {number} */ number) => Math.abs(at.x(number) - wanted);
  return k.reduce((best, number) => (far(number) < far(best) ? number : best));
}

/**
 * Shows the scores of the number under the pointer, or else of the one that is looked at.
 * @param {Panel} panel
 */
function read({ how, curve, readout, pointed, drawn }) {
  const k = pointed ?? state.get("level");
  const place = curve.k.indexOf(k);
  const value = (/** @type {string} */ title, /** @type {string} */ words) =>
    el("span", {}, `${title} `, el("b", {}, words));
  const scores = Object.entries(curve.criteria).map(([criterion, values]) => value(criterion, known(values[place])));
  readout.replaceChildren(
    el("b", {}, counted(k, "cluster")),
    ...(place < 0 ? ["not scored"] : [value("score", withError(curve, place)), ...scores]),
  );
  if (!drawn) return;
  const { at, cursor } = drawn;
  cursor.setAttribute("visibility", place < 0 || (k === how.chosen && pointed === null) ? "hidden" : "visible");
  if (place < 0) return;
  const [line, dot] = cursor.children;
  line.setAttribute("x1", String(at.x(k)));
  line.setAttribute("x2", String(at.x(k)));
  dot.setAttribute("transform", `translate(${at.x(k)} ${at.y(curve.score[place])})`);
}

/** @param {number | null} value */
function known(value) {
  return value === null ? "\u2013" : short(value);
}

/**
 * @param {Curve} curve
 * @param {number} place
 */
function withError({ score, error }, place) {
  return `${short(score[place])} \u00b1 ${Number(error[place].toPrecision(2))}`;
}

/**
 * The chart in words.
 * @param {HowMany} how
 * @param {Curve} curve
 */
function curveWords(how, curve) {
  const { k, criteria } = curve;
  const highest = (/** @type {(number | null)[]} */ values) =>
    k[
      values.reduce(
        (/** @type {number} */ best, value, i) => ((value ?? -Infinity) > (values[best] ?? -Infinity) ? i : best),
        0,
      )
    ];
  const chosen = how.chosen === null ? -1 : k.indexOf(how.chosen);
  return [
    `Score of ${k[0]} to ${k[k.length - 1]} clusters`,
    chosen < 0 ? null : `chosen is ${how.chosen} with ${withError(curve, chosen)} nats`,
    how.range && how.range[0] < how.range[1] ? `${how.range[0]} to ${how.range[1]} are nearly as good` : null,
    ...Object.entries(criteria).map(([criterion, values]) => `${criterion} alone is highest at ${highest(values)}`),
  ]
    .filter(Boolean)
    .join("; ");
}

/**
 * @param {HowMany} how
 * @param {Curve} curve
 */
function curveTable(how, { k, score, error, criteria }) {
  const columns = [score, error, ...Object.values(criteria)];
  const rows = () =>
    k.map((number, i) => [
      number === how.chosen ? `${number} (chosen)` : number,
      ...columns.map((values) => known(values[i])),
    ]);
  const heads = ["clusters", "score", "standard error", ...Object.keys(criteria)];
  const make = () => table("Each number of clusters that was tried", heads, rows(), { rowHeads: true });
  return foldedTable("Scores by number", make, "scroll tall");
}
