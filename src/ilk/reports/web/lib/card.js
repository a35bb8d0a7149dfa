// Bars inside cards: how much of a whole something is.

import { el } from "./dom.js";

/** @param {number} part of 1 */
export function shareBar(part) {
  const bar = el("span", { style: { width: `${100 * part}%` } });
  return el("span", { class: "bar-ground", "aria-hidden": "true" }, bar);
}
