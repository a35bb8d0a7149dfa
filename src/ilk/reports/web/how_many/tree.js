// The tree of clusters: the finest clusters stand in a line, and a cluster of any level is a stretch of it.

import { data, decoded } from "../data.js";

/** @import { Levels, Stretch } from "../types.js" */

/** @typedef {ReturnType<typeof makeTree>} Tree */

/** @param {Levels} levels */
function makeTree({ start, sizes, leaf, dtype, typical }) {
  const bytes = decoded(leaf);
  const places = dtype === "uint16" ? new Uint16Array(bytes.buffer) : bytes;
  /** @type {number[][]} */
  const imagesAt = start.map(() => []);
  places.forEach((place, image) => imagesAt[place].push(image));
  return {
    /** where the stretch of cluster i starts */
    start,
    /** how many images of the run are at each place of the line */
    sizes,
    /** the place of each image that is shown */
    places,
    /** the images that are shown at each place */
    imagesAt,
    /** typical images of each place */
    typical,
  };
}

const levels = data.how_many?.levels ?? null;
export const tree = levels && makeTree(levels);

/**
 * The clusters when there are k, by number.
 * @param {Tree} of
 * @param {number} k
 * @returns {Stretch[]}
 */
export function clustersAt({ start, sizes }, k) {
  const numbers = Array.from({ length: k }, (_, number) => number).sort((a, b) => start[a] - start[b]);
  /** @type {Stretch[]} */
  const stretches = new Array(k);
  numbers.forEach((number, i) => {
    const from = start[number];
    const to = i + 1 < k ? start[numbers[i + 1]] : start.length;
    const size = sizes.slice(from, to).reduce((a, b) => a + b, 0);
    stretches[number] = { number, from, to, size };
  });
  return stretches;
}

/**
 * The number of the cluster of each image that is shown, when there are k.
 * @param {Tree} of
 * @param {number} k
 */
export function numbersAt(of, k) {
  const numberAt = new Uint16Array(of.start.length);
  for (const { number, from, to } of clustersAt(of, k)) numberAt.fill(number, from, to);
  return Uint16Array.from(of.places, (place) => numberAt[place]);
}

/**
 * The two clusters that the cut to k clusters made, the one that kept its number first; none for an empty cut.
 * @param {Stretch[]} stretches the clusters when there are k
 */
export function cutParts(stretches) {
  const added = stretches[stretches.length - 1];
  const kept = stretches.find((stretch) => stretch.to === added.from && stretch !== added);
  return added.size && kept ? [kept, added] : [];
}

/**
 * The images of a stretch that are shown.
 * @param {Tree} of
 * @param {Stretch} stretch
 */
export function imagesOf(of, { from, to }) {
  return of.imagesAt.slice(from, to).flat();
}

/**
 * Typical images of the finest clusters inside, as many of each as its size earns.
 * @param {Tree} of
 * @param {Stretch} stretch
 * @param {number} most
 */
export function typicalOf({ typical, sizes }, { from, to }, most) {
  const parts = Array.from({ length: to - from }, (_, i) => ({
    list: typical[from + i],
    size: sizes[from + i],
    given: 0,
  }));
  const chosen = [];
  while (chosen.length < most) {
    const open = parts.filter((part) => part.given < part.list.length);
    if (!open.length) break;
    const next = open.reduce((a, b) => (b.size / (b.given + 1) > a.size / (a.given + 1) ? b : a));
    chosen.push(next.list[next.given++]);
  }
  return chosen;
}
