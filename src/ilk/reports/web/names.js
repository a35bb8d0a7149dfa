// What clusters, labels and images are called.

import { clusterOf, data, images, placeOf } from "./data.js";
import { mark } from "./lib/colours.js";
import { el } from "./lib/dom.js";
import { closeDialogs } from "./lib/dialog.js";
import { percent } from "./lib/words.js";

/** @import { Child } from "./types.js" */

/** @param {number} code */
export function labelName(code) {
  return data.label_names?.[code] ?? "no label";
}

/** @param {number} image */
export function labelOf(image) {
  return images.label && images.label[image] >= 0 ? labelName(images.label[image]) : null;
}

/** @param {number} number */
export function clusterName(number) {
  const name = clusterOf(number)?.name;
  return name ? `${name} (cluster ${number})` : `Cluster ${number}`;
}

/** @param {number} number */
export function clusterMark(number) {
  return mark(placeOf(number));
}

/**
 * A link to the card of a cluster, which closes dialogs; plain text for a cluster without images.
 * @param {number} number
 * @param {Child} [words]
 */
export function clusterLink(number, words = clusterName(number)) {
  if (!clusterOf(number)?.size) return el("span", {}, clusterMark(number), words);
  return el(
    "a",
    { href: `#cluster-${number}`, class: "cluster-link", click: closeDialogs },
    clusterMark(number),
    words,
  );
}

/**
 * An image in words, for those who cannot see it.
 * @param {number} image
 */
export function describe(image) {
  const label = labelOf(image);
  const sure = percent(images.confidence[image]).replace("\u00a0", " ");
  const known = `image '${images.id[image]}', cluster ${images.cluster[image]}, ${sure} sure`;
  return label === null ? known : `${known}, label ${label}`;
}
