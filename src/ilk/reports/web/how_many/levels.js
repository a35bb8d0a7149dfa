// The levels of the tree as cards.

import { clusterOf, data, hasMap, images, run } from "../data.js";
import { shareBar } from "../lib/card.js";
import { mark } from "../lib/colours.js";
import { button, el } from "../lib/dom.js";
import { grid, reserveRows } from "../lib/grid.js";
import { whenSeen } from "../lib/lazy.js";
import { counted, share } from "../lib/words.js";
import { tile } from "../pictures.js";
import { lookAt, onLook, showLevelOnMap, state, within } from "../state.js";
import { levelControl, levelWords } from "./control.js";
import { clustersAt, cutParts, imagesOf, typicalOf } from "./tree.js";

/** @import { Stretch } from "../types.js" */
/** @import { Tree } from "./tree.js" */

const TILES = 8;

/** @param {Tree} tree */
export function levelsPart(tree) {
  const heading = el("h3", { id: "level-title" });
  const cut = el("p", { class: "cut-words", "aria-live": "polite" });
  const place = el("div", { class: "cards level-cards", role: "group", "aria-labelledby": "level-title" });
  /** @type {Map<string, HTMLElement>} a card for each stretch of the line, made once */
  const cards = new Map();
  const cardOf = (/** @type {Stretch} */ stretch) => {
    const key = `${stretch.number} ${stretch.from} ${stretch.to}`;
    const card = cards.get(key) ?? levelCard(tree, stretch);
    cards.set(key, card);
    return card;
  };
  onLook(() => {
    const k = state.get("level");
    const stretches = clustersAt(tree, k);
    const parts = cutParts(stretches);
    heading.textContent = `The tree at ${levelWords(k)}`;
    cut.replaceChildren(...cutWords(k, parts));
    const shown = stretches.filter(({ size }) => size).sort((a, b) => b.size - a.size || a.number - b.number);
    place.replaceChildren(...shown.map(cardOf));
    shown.forEach((stretch) => cardOf(stretch).classList.toggle("just-cut", parts.includes(stretch)));
  });
  return [
    heading,
    el(
      "p",
      { class: "quiet" },
      "Each level cuts one cluster of the level before: the larger part keeps its number. The numbers are those of ",
      "hierarchy.parquet in the run folder, not those of the run\u2019s own clusters.",
    ),
    el("div", { class: "controls" }, levelControl(), actions()),
    cut,
    place,
  ];
}

function actions() {
  const chosen = data.how_many?.chosen ?? null;
  const back = within(chosen ?? state.get("level"));
  const attributes = { class: "small", "aria-label": `Back to ${back}, the number chosen` };
  const colour = () => showLevelOnMap();
  return el(
    "div",
    { class: "actions" },
    chosen === null ? null : button(`Back to ${back}`, () => lookAt(back), attributes),
    hasMap ? button("Colour the map by this level", colour, { class: "small" }) : null,
  );
}

/**
 * Which cluster the step to k clusters cut, and into what.
 * @param {number} k
 * @param {Stretch[]} parts the one that kept its number, and the new one
 * @returns {(string | Node)[]}
 */
function cutWords(k, [kept, added]) {
  if (!added) return ["This level cuts off a cluster that no image is in."];
  const part = (/** @type {Stretch} */ { number, size }) =>
    el("span", { class: "cut-part" }, mark(number), `tree cluster ${number} (${counted(size, "image")})`);
  const both = counted(kept.size + added.size, "image");
  const before = k === 2 ? `All ${both} were` : `Tree cluster ${kept.number}, of ${both}, was`;
  return [before, " cut into ", part(kept), " and ", part(added), "."];
}

/**
 * @param {Tree} tree
 * @param {Stretch} stretch
 */
function levelCard(tree, stretch) {
  const { number, from, to, size } = stretch;
  const title = `tree-cluster-${number}-${from}-${to}`;
  const head = el(
    "h4",
    { id: title },
    mark(number),
    `Tree cluster ${number}`,
    el("span", { class: "tag" }, "just cut"),
  );
  const show = () => showLevelOnMap(number);
  const label = `Show tree cluster ${number} on the map`;
  return el(
    "article",
    { class: "card", "aria-labelledby": title },
    el("header", {}, head, el("p", { class: "quiet" }, `${counted(size, "image")}, ${share(size / run.n_images)}`)),
    shareBar(size / run.n_images),
    levelTiles(tree, stretch),
    el(
      "footer",
      {},
      inTheRun(tree, stretch),
      hasMap ? button("Map", show, { class: "small", "aria-label": label }) : null,
    ),
  );
}

/**
 * @param {Tree} tree
 * @param {Stretch} stretch
 */
function levelTiles(tree, stretch) {
  const place = el("div", { class: "level-tiles" });
  const typical = typicalOf(tree, stretch, TILES);
  const about = `tree cluster ${stretch.number}, typical images first`;
  reserveRows(place, typical.length);
  whenSeen(place, () => {
    const first = new Set(typical);
    const list = [...typical, ...imagesOf(tree, stretch).filter((image) => !first.has(image))];
    const tiles = typical.map((image) => tile(image, list, about));
    place.replaceChildren(
      tiles.length
        ? grid(tiles, `Typical of tree cluster ${stretch.number}`, "row-grid")
        : el("p", { class: "quiet" }, "None of its images is among those shown."),
    );
  });
  return place;
}

/**
 * The run's own clusters that these images are in.
 * @param {Tree} tree
 * @param {Stretch} stretch
 */
function inTheRun(tree, stretch) {
  const inside = imagesOf(tree, stretch);
  if (!inside.length) return null;
  /** @type {Map<number, number>} */
  const sizes = new Map();
  for (const image of inside) sizes.set(images.cluster[image], (sizes.get(images.cluster[image]) ?? 0) + 1);
  const largest = [...sizes].sort((a, b) => b[1] - a[1]).slice(0, 2);
  const shownOnly = run.shown < run.n_images ? " of those shown" : "";
  return el(
    "p",
    { class: "in-the-run" },
    el("span", { class: "quiet" }, `In the run${shownOnly}: `),
    largest.map(([number, size], i) => [
      i ? ", " : null,
      el("a", { href: `#cluster-${number}` }, clusterOf(number)?.name ?? `cluster ${number}`),
      el("span", { class: "quiet" }, ` ${share(size / inside.length)}`),
    ]),
  );
}
