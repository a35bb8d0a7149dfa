// The images that were chosen on the map: how many of which cluster, their ids, and the images themselves.

import { images } from "../data.js";
import { copyButton } from "../lib/copy.js";
import { button, el } from "../lib/dom.js";
import { pages } from "../lib/grid.js";
import { counted, whole } from "../lib/words.js";
import { clusterName } from "../names.js";
import { tile } from "../pictures.js";

const LABEL = "Chosen images";

/**
 * @param {number[]} chosen
 * @param {() => void} clear
 */
export function chosenParts(chosen, clear) {
  if (!chosen.length) return [el("p", { class: "quiet" }, hintWords())];
  const many = counted(chosen.length, "image");
  const ids = () => chosen.map((image) => images.id[image]).join("\n");
  return [
    el("div", { class: "legend-head" }, el("h3", {}, `${many} chosen`), button("Clear", clear, { class: "small" })),
    el("p", { class: "quiet" }, clustersInside(chosen)),
    el("div", { class: "actions" }, copyButton(ids, `the ids of ${many}`, "Copy ids")),
    pages(chosen, LABEL, (image) => tile(image, chosen, LABEL), { size: 30, kind: "side" }),
  ];
}

function hintWords() {
  const end = "the images you choose are listed here.";
  if (!matchMedia("(any-hover: hover)").matches) return `Press Lasso and draw around points: ${end}`;
  return ["Hold ", el("kbd", {}, "Shift"), ` and drag around points, or press Lasso: ${end}`];
}

/** @param {number[]} chosen */
function clustersInside(chosen) {
  /** @type {Map<number, number>} */
  const sizes = new Map();
  for (const image of chosen) sizes.set(images.cluster[image], (sizes.get(images.cluster[image]) ?? 0) + 1);
  const sorted = [...sizes].sort((a, b) => b[1] - a[1]);
  const named = sorted
    .slice(0, 4)
    .map(([number, size]) => `${whole.format(size)} in ${clusterName(number).replace("Cluster", "cluster")}`);
  const others = sorted.slice(4).reduce((sum, [, size]) => sum + size, 0);
  return [...named, ...(others ? [`${whole.format(others)} in others`] : [])].join(", ");
}
