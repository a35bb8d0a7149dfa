// How sure the run is, and each cluster's surest and least sure images.

import { histogram, reliabilityChart } from "../charts/bars.js";
import { data, images, usedClusters } from "../data.js";
import { firstOnes } from "../lib/controls.js";
import { el } from "../lib/dom.js";
import { grid } from "../lib/grid.js";
import { whenSeen } from "../lib/lazy.js";
import { percent } from "../lib/words.js";
import { clusterLink } from "../names.js";
import { tile } from "../pictures.js";

/** @import { Cluster } from "../types.js" */

const TILES = 8;
const FIRST = 10; // clusters shown before the others are asked for

export function confidenceSection() {
  if (!usedClusters.length || !data.confidence) return null;
  const { edges, counts, reliability } = data.confidence;
  const chart = histogram({
    title: "How sure the run is",
    edges,
    counts,
    xTitle: "confidence (probability of the own cluster)",
    yTitle: "images",
  });
  return [
    el("p", { class: "lead" }, "Where the run is sure, and where to look twice."),
    el("div", { class: "panels" }, chart, reliability ? reliabilityChart(reliability) : null),
    el("h3", {}, "Surest and least sure images of each cluster"),
    firstOnes(el("div", { class: "sure-rows" }), usedClusters, FIRST, sureRow, "clusters"),
  ];
}

/** @param {Cluster} cluster */
function sureRow({ number, size, typical, uncertain }) {
  const place = el("div", { class: "sure-tiles" });
  const small = size <= TILES;
  const best = typical.slice(0, TILES);
  const worst = small ? [] : uncertain.filter((image) => !best.includes(image)).slice(0, TILES);
  whenSeen(place, () => {
    place.append(sureTiles(best, small ? "All" : "Surest", `surest of cluster ${number}`));
    if (worst.length) place.append(sureTiles(worst, "Least sure", `least sure of cluster ${number}`));
  });
  return el("div", { class: "sure-row" }, el("h4", {}, clusterLink(number)), place);
}

/**
 * @param {number[]} list
 * @param {string} label
 * @param {string} about
 */
function sureTiles(list, label, about) {
  const tiles = list.map((image) => tile(image, list, about, { caption: percent(images.confidence[image]) }));
  return el("div", {}, el("h5", {}, label), grid(tiles, about, "row-grid"));
}
