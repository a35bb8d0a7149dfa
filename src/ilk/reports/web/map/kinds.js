// What the map is coloured by: the kind of each point, how each kind looks, and what the legend says.

import { clusters, count, data, images, placeOf } from "../data.js";
import { numbersAt, tree } from "../how_many/tree.js";
import { look, packed, placeColour, ramp } from "../lib/colours.js";
import { counted } from "../lib/words.js";
import { clusterName } from "../names.js";
import { state } from "../state.js";

/** @import { Look } from "../types.js" */

/** @typedef {"cluster" | "confidence" | "label" | "level"} Colouring */

/**
 * `of`: the kind of each image; `looks`: by kind; `legend`: names and sizes by kind, null for a colour scale.
 * @typedef {object} Kinds
 * @property {Uint16Array} of
 * @property {Look[]} looks
 * @property {{ title: string, names: string[], shortNames: string[], sizes: Uint32Array, compact: boolean } | null} legend
 */

const STEPS = 64; // colours of the confidence scale
const WORLD = 65535; // the payload's coordinates go from 0 to this

/**
 * @param {Colouring} colouring
 * @returns {Kinds}
 */
export function kindsBy(colouring) {
  if (colouring === "confidence") return confidenceKinds();
  if (colouring === "label" && images.label) return labelKinds(images.label);
  if (colouring === "level" && tree) return levelKinds(numbersAt(tree, state.get("level")), state.get("level"));
  return clusterKinds();
}

function clusterKinds() {
  const of = Uint16Array.from(images.cluster, placeOf);
  const names = clusters.map((cluster) => clusterName(cluster.number));
  const shortNames = clusters.map((cluster) => cluster.name ?? String(cluster.number));
  const compact = !clusters.some((cluster) => cluster.name);
  return listed(of, { title: "Clusters", names, shortNames, compact });
}

/** @param {number[]} labels a code for each image, -1 for none */
function labelKinds(labels) {
  const names = [...(data.label_names ?? []), "no label"];
  const of = Uint16Array.from(labels, (code) => (code < 0 ? names.length - 1 : code));
  return listed(of, { title: "Labels", names, shortNames: names, compact: false });
}

/**
 * @param {Uint16Array} of
 * @param {number} k
 */
function levelKinds(of, k) {
  const shortNames = Array.from({ length: k }, (_, number) => String(number));
  const names = shortNames.map((number) => `Tree cluster ${number}`);
  return listed(of, { title: `Tree at ${counted(k, "cluster")}`, names, shortNames, compact: true });
}

/**
 * @param {Uint16Array} of
 * @param {{ title: string, names: string[], shortNames: string[], compact: boolean }} legend
 * @returns {Kinds}
 */
function listed(of, legend) {
  const sizes = new Uint32Array(legend.names.length);
  of.forEach((kind) => sizes[kind]++);
  return { of, looks: looksOf(legend.names.length), legend: { ...legend, sizes } };
}

/**
 * How kinds 0 to length - 1 look in the theme that is shown.
 * @param {number} length
 * @returns {Look[]}
 */
export function looksOf(length) {
  return Array.from({ length }, (_, place) => ({ colour: packed(placeColour(place)), shape: look(place).shape }));
}

/** @returns {Kinds} */
function confidenceKinds() {
  const of = new Uint16Array(count);
  images.confidence.forEach((sure, i) => {
    of[i] = Math.min(STEPS - 1, Math.max(0, Math.floor(sure * STEPS)));
  });
  const looks = ramp("sure", STEPS).map((colour) => ({ colour: packed(colour), shape: 0 }));
  return { of, looks, legend: null };
}

/**
 * The payload's coordinates in the unit square.
 * @param {number[]} values
 */
export function toUnit(values) {
  return Float32Array.from(values, (value) => value / WORLD);
}
