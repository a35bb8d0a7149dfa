// What is shown beside the point under the pointer.

import { images } from "../data.js";
import { el, nameOf, svg } from "../lib/dom.js";
import { percent } from "../lib/words.js";
import { clusterMark, clusterName, labelOf } from "../names.js";
import { picture } from "../pictures.js";

/** @import { Point } from "../types.js" */

export class Tip {
  constructor() {
    this.ring = svg("circle", { class: "ring", r: 9, visibility: "hidden" });
    this.node = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  }

  /** @param {number | null} image */
  show(image) {
    this.node.hidden = image === null;
    if (image !== null) this.node.replaceChildren(picture(image, true), tipWords(image));
  }

  /**
   * Puts the ring on a place of the stage and the tip beside it.
   * @param {Point | null} place null for nowhere
   * @param {{ width: number, height: number }} stage
   */
  moveTo(place, stage) {
    this.ring.setAttribute("visibility", place ? "visible" : "hidden");
    if (!place) return;
    const [x, y] = place;
    this.ring.setAttribute("cx", String(x));
    this.ring.setAttribute("cy", String(y));
    if (this.node.hidden) return;
    const { offsetWidth: wide, offsetHeight: high } = this.node;
    const left = x + 18 + wide > stage.width ? x - 18 - wide : x + 18;
    this.node.style.left = `${Math.min(Math.max(left, 4), Math.max(4, stage.width - wide - 4))}px`;
    this.node.style.top = `${Math.min(Math.max(y - high / 2, 4), Math.max(4, stage.height - high - 4))}px`;
  }
}

/** @param {number} image */
function tipWords(image) {
  const label = labelOf(image);
  const cluster = images.cluster[image];
  return el(
    "div",
    {},
    el("b", {}, nameOf(images.id[image])),
    el("span", {}, clusterMark(cluster), `${clusterName(cluster)}, ${percent(images.confidence[image])} sure`),
    label === null ? null : el("span", {}, "label ", el("bdi", {}, label)),
  );
}
