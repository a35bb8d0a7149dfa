// What the reader is looking at. Parts of the page change it through these functions and follow it; none calls another.

import { data } from "./data.js";
import { createStore } from "./lib/store.js";

/** @import { OpenImage } from "./types.js" */

const how = data.how_many ?? null;
const tried = how?.curve?.k ?? [];
/** The numbers of clusters that can be looked at: those of the tree, or those that were tried. */
export const lowest = how?.levels ? 2 : (tried[0] ?? 2);
export const highest = how?.levels ? how.levels.start.length : (tried[tried.length - 1] ?? 2);

export const state = createStore({
  /** @type {OpenImage | null} the image whose dialog was opened last */
  image: null,
  /** @type {{ number: number } | null} the cluster whose dialog was opened last */
  cluster: null,
  /** @type {{ image: number } | null} the image that the map was asked to show */
  place: null,
  /** @type {{ number: number | null } | null} the cluster of the tree that the map was asked to show, or all of them */
  mapLevel: null,
  /** the number of clusters at which the tree is looked at */
  level: within(how?.chosen ?? 2),
});

/**
 * The nearest number of clusters that can be looked at.
 * @param {number} k
 */
export function within(k) {
  return Math.min(Math.max(k, lowest), highest);
}

/**
 * @param {number} image
 * @param {number[]} [list] what the arrow keys go through
 * @param {string} [about] says what the list is
 */
export function openImage(image, list = [image], about = "") {
  state.set("image", { image, list, about });
}

/** @param {number} number */
export function openCluster(number) {
  state.set("cluster", { number });
}

/** @param {number} image */
export function showOnMap(image) {
  state.set("place", { image });
}

/** @param {number | null} [number] of the cluster of the tree that stands out */
export function showLevelOnMap(number = null) {
  state.set("mapLevel", { number });
}

/** @param {number} k */
export function lookAt(k) {
  state.set("level", within(k));
}

/**
 * Calls `show` now and whenever another number of clusters is looked at.
 * @param {() => void} show
 */
export function onLook(show) {
  state.follow("level", show);
  show();
}
