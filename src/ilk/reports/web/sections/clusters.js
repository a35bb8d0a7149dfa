// A card for each cluster.

import { clusterOf, clusters, orderedMembers, run, usedClusters } from "../data.js";
import { shareBar } from "../lib/card.js";
import { choice } from "../lib/controls.js";
import { button, el } from "../lib/dom.js";
import { grid } from "../lib/grid.js";
import { whenSeen } from "../lib/lazy.js";
import { counted, percent, share } from "../lib/words.js";
import { clusterMark, clusterName, labelName } from "../names.js";
import { hasLarge, sprites, tile } from "../pictures.js";
import { openCluster } from "../state.js";

/** @import { Cluster } from "../types.js" */

/** @typedef {"number" | "size" | "confidence"} Order */

const TILES = 12; // on a card of small pictures
const COLUMNS = 4; // of larger pictures on a card
const PARTS = 4; // labels that have a part of the bar of their own
/** @type {[value: Order, words: string][]} */
const ORDERS = [
  ["number", "Number"],
  ["size", "Largest first"],
  ["confidence", "Surest first"],
];
/** @type {Record<Order, (a: Cluster, b: Cluster) => number>} */
const COMPARE = {
  number: (a, b) => a.number - b.number,
  size: (a, b) => b.size - a.size || a.number - b.number,
  confidence: (a, b) => (b.confidence ?? 0) - (a.confidence ?? 0) || a.number - b.number,
};

export function clusterSection() {
  if (!usedClusters.length) return null;
  const cards = new Map(usedClusters.map((cluster) => [cluster, card(cluster)]));
  const place = el("div", { class: "cards" });
  const sort = (/** @type {Order} */ order) =>
    place.append(...[...usedClusters].sort(COMPARE[order]).flatMap((cluster) => cards.get(cluster) ?? []));
  sort("number");
  return [
    el(
      "p",
      { class: "lead" },
      "What the run put together. The most typical images stand first; click one to see it and its neighbours.",
    ),
    cards.size > 2 ? el("div", { class: "controls" }, choice("Sort cards by", ORDERS, "number", sort)) : null,
    place,
    emptyNote(),
  ];
}

function emptyNote() {
  const empty = clusters.filter((cluster) => !cluster.size).map((cluster) => cluster.number);
  if (!empty.length) return null;
  const named = empty.length > 30 ? `${empty.slice(0, 30).join(", ")} and ${empty.length - 30} more` : empty.join(", ");
  const words = empty.length === 1 ? `Cluster ${named} is empty.` : `${empty.length} clusters are empty: ${named}.`;
  return el("p", { class: "notice" }, words);
}

/** @param {Cluster} cluster */
function card(cluster) {
  const { number, size, confidence } = cluster;
  const title = `cluster-${number}-name`;
  const all = { class: "all", "aria-label": `All images of cluster ${number}` };
  return el(
    "article",
    { class: "card", id: `cluster-${number}`, tabindex: "-1", "aria-labelledby": title },
    el(
      "header",
      {},
      el("h3", { id: title }, clusterMark(number), clusterName(number)),
      el("p", { class: "quiet" }, `${counted(size, "image")}, ${share(size / run.n_images)} of all`),
    ),
    confidence === null ? null : sureBar(confidence),
    cardTiles(cluster),
    contents(cluster),
    el(
      "footer",
      {},
      button(size === 1 ? "The image" : `All ${counted(size, "image")}`, () => openCluster(number), all),
      nearest(cluster),
    ),
  );
}

/** @param {Cluster} cluster */
function cardTiles({ number, typical }) {
  // All pictures on a card are larger ones, or all are small: side by side the small ones look blurred.
  const ends = typical.findIndex((image) => !hasLarge(image));
  const sharp = ends < 0 ? typical.length : ends;
  const big = sharp >= Math.min(COLUMNS, typical.length);
  const shown = typical.slice(0, big ? Math.max(COLUMNS, sharp - (sharp % COLUMNS)) : TILES);
  const few = big || (sprites?.tile ?? 64) >= 48;
  const rows = Math.ceil(shown.length / (few ? COLUMNS : 6));
  const place = el("div", { class: `card-tiles ${few ? "few" : "many"}`, style: { "--rows": rows } });
  whenSeen(place, () => {
    const list = orderedMembers(number, "typical");
    const about = `cluster ${number}, most typical first`;
    const tiles = shown.map((image) => tile(image, list, about, { big }));
    place.replaceChildren(grid(tiles, `Most typical of cluster ${number}`, "card-grid"));
  });
  return place;
}

/** @param {number} confidence */
function sureBar(confidence) {
  return el("p", { class: "sure" }, shareBar(confidence), `${percent(confidence)} sure`);
}

/** @param {Cluster} cluster */
function nearest({ near }) {
  const links = near.flatMap(({ number, similarity }) => {
    const other = clusterOf(number);
    if (!other?.size) return [];
    const words = `similarity ${similarity.toFixed(2)}`;
    return el(
      "a",
      {
        href: `#cluster-${number}`,
        class: "cluster-link",
        title: words,
        "aria-label": `${clusterName(number)}, ${words}`,
      },
      clusterMark(number),
      other.name ?? number,
    );
  });
  return links.length ? el("p", { class: "nearest" }, el("span", { class: "quiet" }, "Nearest"), links) : null;
}

/**
 * Which labels are inside: a bar, and the same in words.
 * @param {Cluster} cluster
 */
function contents({ labels }) {
  if (!labels?.length) return null;
  const total = labels.reduce((sum, { count }) => sum + count, 0);
  const rest = labels.slice(PARTS);
  const parts = labels.slice(0, PARTS).map(({ code, count: size }, i) => ({
    size,
    words: labelName(code),
    colour: `var(--part-${i})`,
  }));
  if (rest.length) {
    const size = rest.reduce((sum, { count }) => sum + count, 0);
    parts.push({ size, words: counted(rest.length, "other"), colour: `var(--part-${PARTS})` });
  }
  const bar = parts.map(({ size, colour }) =>
    el("span", { style: { width: `${(100 * size) / total}%`, background: colour } }),
  );
  const words = parts.slice(0, 3).map(({ size, words: text, colour }) => {
    const key = el("i", { "aria-hidden": "true", style: { background: colour } });
    return el("span", {}, key, el("bdi", {}, text), ` ${share(size / total)}`);
  });
  const left = parts.slice(3).reduce((sum, { size }) => sum + size, 0);
  return el(
    "div",
    { class: "contents" },
    el("div", { class: "stack", "aria-hidden": "true" }, bar),
    el(
      "p",
      {},
      el("span", { class: "unseen" }, "Labels inside: "),
      words,
      left ? el("span", { class: "quiet" }, `rest ${share(left / total)}`) : null,
    ),
  );
}
