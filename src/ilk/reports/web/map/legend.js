// The legend of the map: a scale, or a list of kinds of which some can be made to stand out.

import { mark } from "../lib/colours.js";
import { button, el } from "../lib/dom.js";
import { percent, whole } from "../lib/words.js";

/** @import { Kinds } from "./kinds.js" */

const MANY = 12; // kinds beyond which colours are hard to tell apart

/**
 * @param {Kinds["legend"]} legend
 * @param {Set<number>} lit the kinds that stand out; pressing an entry changes it
 * @param {{ changed: () => void, hover: (kind: number | null) => void }} acts `changed`: `lit` is another; `hover`: the
 *   pointer is on a kind
 */
export function legendParts(legend, lit, { changed, hover }) {
  if (!legend) return scaleParts();
  const { title, names, shortNames, sizes, compact } = legend;
  const entry = (/** @type {string} */ name, /** @type {number} */ kind) => {
    if (!sizes[kind]) return null;
    const press = () => {
      if (!lit.delete(kind)) lit.add(kind);
      made.setAttribute("aria-pressed", String(lit.has(kind)));
      changed();
    };
    const made = el(
      "button",
      {
        type: "button",
        "aria-pressed": String(lit.has(kind)),
        title: name,
        click: press,
        pointerenter: () => hover(kind),
        pointerleave: () => hover(null),
      },
      mark(kind),
      el("bdi", {}, shortNames[kind]),
      el("span", { class: "quiet" }, whole.format(sizes[kind])),
    );
    return el("li", {}, made);
  };
  const list = el("ul", { class: compact ? "compact" : "" }, names.map(entry));
  const clear = () => {
    lit.clear();
    list.querySelectorAll("[aria-pressed]").forEach((node) => node.setAttribute("aria-pressed", "false"));
    changed();
  };
  const many =
    names.length > MANY ? el("p", { class: "quiet" }, "Press one to see it alone; the others turn gray.") : "";
  return [
    el("div", { class: "legend-head" }, el("h3", {}, title), button("Clear", clear, { class: "small" })),
    many,
    list,
  ];
}

function scaleParts() {
  const bar = el("span", { class: "scale-sure", "aria-hidden": "true" });
  return [
    el("h3", {}, "Confidence"),
    el("p", { class: "scale-bar" }, percent(0), bar, percent(1)),
    el("p", { class: "quiet" }, "The probability the run gives to an image's own cluster."),
  ];
}
