// How alike images and clusters are to the network.

import { extent } from "../charts/axes.js";
import { heatmap, scaleBar } from "../charts/heatmap.js";
import { data } from "../data.js";
import { el, svg } from "../lib/dom.js";
import { counted } from "../lib/words.js";
import { clusterName } from "../names.js";

/** @import { SampleSimilarity } from "../types.js" */

const MOST_LINES = 60; // more clusters than this are not parted by lines

export function affinitySection() {
  const { affinity } = data;
  if (!affinity) return null;
  return [
    el(
      "p",
      { class: "lead" },
      "How alike images and clusters are to the network: bright blocks on the diagonal and little beside them mean clear clusters.",
    ),
    el(
      "div",
      { class: "panels wide-panels" },
      affinity.samples && samplesPanel(affinity.samples, affinity.clusters.order),
      clustersPanel(affinity.clusters),
    ),
  ];
}

/**
 * @param {SampleSimilarity} samples
 * @param {number[]} order the numbers of the clusters
 */
function samplesPanel({ png, bounds, count: shown, low, high }, order) {
  const ends = [...bounds.slice(1), shown];
  const alt = `Similarity of ${counted(shown, "image")} with each other, sorted by cluster`;
  const lines = bounds
    .filter((at) => at > 0)
    .map((at) => svg("path", { d: `M0 ${at}H${shown}M${at} 0V${shown}`, "vector-effect": "non-scaling-stroke" }));
  const overlay = { viewBox: `0 0 ${shown} ${shown}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const readout = el("p", { class: "readout" }, "Images sorted by cluster; the thin lines part the clusters.");
  const holder = el(
    "div",
    { class: "samples-holder" },
    el("img", { src: png, alt, class: "samples" }),
    lines.length < MOST_LINES ? svg("svg", overlay, lines) : null,
  );
  const clusterAt = (/** @type {number} */ part) => order[ends.findIndex((end) => part * shown < end)];
  holder.addEventListener("pointermove", (event) => {
    const box = holder.getBoundingClientRect();
    const column = clusterAt((event.clientX - box.left) / box.width);
    const row = clusterAt((event.clientY - box.top) / box.height);
    if (row === undefined || column === undefined) return;
    const others = row === column ? "with each other" : `with those of cluster ${column}`;
    readout.textContent = `Images of cluster ${row} ${others}`;
  });
  return el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, `${counted(shown, "image")} with each other`),
    readout,
    holder,
    el("p", { class: "quiet axis-words" }, "\u2193 images by cluster \u00b7 \u2192 the same images; cosine similarity"),
    scaleBar(low, high, "viridis"),
  );
}

/** @param {{ matrix: number[][], order: number[] }} clusters */
function clustersPanel({ matrix, order }) {
  const [low, high] = extent(matrix.flat());
  const names = order.map(String);
  return heatmap({
    title: "Clusters with each other",
    matrix,
    low,
    high,
    colours: "viridis",
    numbers: (value) => value.toFixed(2),
    rowNames: names,
    columnNames: names,
    rowTitle: "cluster",
    columnTitle: "cluster; cosine similarity of their means",
    words: (row, column) => {
      const other = clusterName(order[column]).replace("Cluster", "cluster");
      return `${clusterName(order[row])} and ${other}: ${matrix[row][column].toFixed(2)}`;
    },
  });
}
