// How the map came about: the same images at some moments of the training.

import { data, images, placeOf } from "../data.js";
import { packed } from "../lib/colours.js";
import { el } from "../lib/dom.js";
import { paintDots, pen2d, shuffled } from "../lib/dots.js";
import { whenSeen } from "../lib/lazy.js";
import { onTheme, themeColour } from "../lib/theme.js";
import { counted } from "../lib/words.js";
import { looksOf, toUnit } from "../map/kinds.js";

/** @import { Moment } from "../types.js" */

export function momentsPanel() {
  const moments = data.map?.moments;
  if (!moments?.length) return null;
  const coloured = moments.some((moment) => moment.label) ? "label" : "cluster";
  return [
    el("h3", {}, "How the map came about"),
    el(
      "p",
      { class: "quiet" },
      `The same images at ${counted(moments.length, "moment")} of the training, coloured by ${coloured}.`,
    ),
    el("div", { class: "moments" }, moments.map(figure)),
  ];
}

/** @param {Moment} moment */
function figure(moment) {
  const label = `Map, ${moment.title}: ${counted(moment.x.length, "image")}`;
  const canvas = el("canvas", { class: "moment", role: "img", "aria-label": label });
  whenSeen(canvas, () => {
    new ResizeObserver(() => draw(canvas, moment)).observe(canvas);
    onTheme(() => draw(canvas, moment));
  });
  return el("figure", { class: "panel" }, el("figcaption", {}, moment.title), canvas);
}

/**
 * The number of each point's look: that of its label, or of its cluster at that moment.
 * @param {Moment} moment
 */
function kindsOf({ index, cluster, label }) {
  const unlabelled = data.label_names?.length ?? 0;
  if (label) return Uint16Array.from(label, (code) => (code < 0 ? unlabelled : code));
  return Uint16Array.from(index, (image, i) => placeOf(cluster ? cluster[i] : images.cluster[image]));
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Moment} moment
 */
function draw(canvas, moment) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const side = Math.round(canvas.clientWidth * ratio);
  if (!side) return;
  canvas.width = side;
  canvas.height = side;
  const pen = pen2d(canvas);
  const image = pen.createImageData(side, side);
  const kinds = kindsOf(moment);
  const length = moment.x.length;
  const pad = 10 * ratio;
  paintDots(
    image,
    { xs: toUnit(moment.x), ys: toUnit(moment.y), order: shuffled(length), kinds },
    { scale: side - 2 * pad, left: pad, top: pad },
    {
      looks: looksOf(kinds.reduce((a, b) => Math.max(a, b), 0) + 1),
      radius: Math.min(4, Math.max(1.4, (canvas.clientWidth / Math.sqrt(length)) * 0.22)) * ratio,
      ground: packed(themeColour("--surface")),
    },
  );
  pen.putImageData(image, 0, 0);
}
