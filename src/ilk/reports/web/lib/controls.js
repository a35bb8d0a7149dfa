// Small parts that many sections use: a choice of one, facts, tables.

import { el } from "./dom.js";

/** @import { Child } from "../types.js" */

/**
 * A row of options of which one is chosen.
 * @template {string} V
 * @param {string} label
 * @param {[value: V, words: string][]} options
 * @param {V} chosen
 * @param {(value: V) => void} change
 */
export function choice(label, options, chosen, change) {
  const group = `choice-${label.toLowerCase().replace(/\W+/g, "-")}`;
  const items = options.map(([value, words]) =>
    el(
      "label",
      {},
      el("input", { type: "radio", name: group, value, checked: value === chosen, change: () => change(value) }),
      el("span", {}, words),
    ),
  );
  return el("fieldset", { class: "choice" }, el("legend", {}, label), el("div", {}, items));
}

/**
 * A list of names and values; values that are null or undefined are left out with their names.
 * @param {[name: string, value: Child][]} pairs
 * @param {string} [kind] of the list, as class names
 */
export function facts(pairs, kind = "facts") {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el(
    "dl",
    { class: kind },
    known.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value))),
  );
}

/**
 * @param {string} caption
 * @param {string[]} heads of the columns
 * @param {Child[][]} rows
 * @param {{ rowHeads?: boolean }} [options] `rowHeads`: the first cell of a row names the row
 */
export function table(caption, heads, rows, { rowHeads = false } = {}) {
  const head = el(
    "tr",
    {},
    heads.map((words) => el("th", { scope: "col" }, words)),
  );
  const body = rows.map((row) =>
    el(
      "tr",
      {},
      row.map((value, i) => (rowHeads && !i ? el("th", { scope: "row" }, value) : el("td", {}, value))),
    ),
  );
  return el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body));
}

/**
 * A place that scrolls by itself, also by keys.
 * @param {string} label
 * @param {Child} content
 * @param {string} [kind]
 */
export function scrollBox(label, content, kind = "scroll") {
  return el("div", { class: kind, tabindex: "0", role: "region", "aria-label": label }, content);
}

/**
 * The numbers behind a chart, folded, for those who cannot see it or want to copy them. Made when it is opened.
 * @param {string} label
 * @param {() => HTMLTableElement} make
 * @param {string} [kind]
 */
export function foldedTable(label, make, kind = "scroll") {
  const place = scrollBox(label, null, kind);
  const toggle = () => {
    if (!place.firstChild) place.append(make());
  };
  return el("details", { toggle }, el("summary", {}, "The numbers as a table"), place);
}

/**
 * The first items, and a button that adds the others and moves the focus to the first of these.
 * @template T
 * @param {HTMLElement} place
 * @param {T[]} items
 * @param {number} first how many are there from the start
 * @param {(item: T, i: number) => HTMLElement} make
 * @param {string} noun
 * @returns {Child}
 */
export function firstOnes(place, items, first, make, noun) {
  place.append(...items.slice(0, first).map(make));
  if (items.length <= first) return place;
  const addOthers = () => {
    const added = items.slice(first).map((item, i) => make(item, first + i));
    more.remove();
    place.append(...added);
    added[0].tabIndex = -1;
    added[0].focus();
  };
  const more = el("button", { type: "button", click: addOthers }, `Show all ${items.length} ${noun}`);
  return [place, more];
}
