// The data of the run, which stands in the page as JSON.

import { byId } from "./lib/dom.js";

/** @import { Cluster, Payload } from "./types.js" */

const source = byId("data");
/** @type {Payload} */
export const data = JSON.parse(source.textContent ?? "");
source.remove(); // the browser need not hold the text as well

export const run = data.run;
export const images = data.images;
export const clusters = data.clusters;
/** How many images are shown. */
export const count = images.id.length;
/** Clusters that have images. */
export const usedClusters = clusters.filter((cluster) => cluster.size);
export const hasMap = count > 0 && images.x !== null && images.y !== null;

/** @type {Map<number, Cluster>} */
const byNumber = new Map(clusters.map((cluster) => [cluster.number, cluster]));
/** @type {Map<number, number>} */
const places = new Map(clusters.map((cluster, place) => [cluster.number, place]));
/** @type {Map<number, number[]>} */
const members = new Map(clusters.map((cluster) => [cluster.number, []]));
images.cluster.forEach((number, image) => members.get(number)?.push(image));

/**
 * The cluster of that number; undefined where there is none.
 * @param {number} number
 */
export function clusterOf(number) {
  return byNumber.get(number);
}

/**
 * Where the cluster stands in the list of clusters, which decides its colour.
 * @param {number} number
 */
export function placeOf(number) {
  return places.get(number) ?? 0;
}

/**
 * The images of a cluster that are shown.
 * @param {number} number
 */
export function membersOf(number) {
  return members.get(number) ?? [];
}

/**
 * The images of a cluster that are shown, from one end of it to the other. The run's own ranking of the ends comes
 * first; it counts images that are not shown.
 * @param {number} number
 * @param {"typical" | "uncertain"} order which end is first
 */
export function orderedMembers(number, order) {
  const first = clusterOf(number)?.[order] ?? [];
  const ranked = new Set(first);
  const others = membersOf(number).filter((image) => !ranked.has(image));
  const key = (/** @type {number} */ image) => (order === "typical" ? -images.confidence[image] : images.margin[image]);
  return [...first, ...others.sort((a, b) => key(a) - key(b))];
}

/**
 * The bytes of a base64 text.
 * @param {string} text
 */
export function decoded(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

const neighbours = data.neighbours && {
  ranks: data.neighbours.ranks,
  index: new (data.neighbours.dtype === "uint32" ? Uint32Array : Uint16Array)(decoded(data.neighbours.data).buffer),
  similarity: decoded(data.neighbours.similarity),
};
/** The ranks of the neighbours that are known of each image: the nearest, the second nearest, ... */
export const ranks = neighbours?.ranks ?? [];

/**
 * The neighbours of an image, nearest first; the similarity is a cosine.
 * @param {number} image
 */
export function neighboursOf(image) {
  if (!neighbours) return [];
  return neighbours.ranks.map((rank, place) => {
    const at = image * neighbours.ranks.length + place;
    return { rank, image: neighbours.index[at], similarity: (neighbours.similarity[at] / 255) * 2 - 1 };
  });
}
