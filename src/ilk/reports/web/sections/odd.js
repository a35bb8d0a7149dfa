// Duplicates in groups, and images that look blank or broken.

import { data, images } from "../data.js";
import { firstOnes } from "../lib/controls.js";
import { el, nameOf } from "../lib/dom.js";
import { grid, reserveRows } from "../lib/grid.js";
import { whenSeen } from "../lib/lazy.js";
import { counted, whole } from "../lib/words.js";
import { tile } from "../pictures.js";

/** @import { DuplicateGroup, Odd } from "../types.js" */

const FIRST_GROUPS = 8;
const FIRST_FLAGS = 24;

export function oddSection() {
  const { odd } = data;
  if (!odd) return null;
  const tables = [odd.n_groups && "duplicates.csv", odd.n_flags && "flags.csv"].filter(Boolean).join(" and ");
  return [
    el(
      "p",
      { class: "lead" },
      `What to look at before counting on sizes and scores. Nothing was left out; ${tables} in the run folder `,
      odd.n_groups && odd.n_flags ? "name all of them." : "names all of them.",
    ),
    duplicateGroups(odd),
    flaggedImages(odd),
  ];
}

/** @param {Odd} odd */
function duplicateGroups({ groups, n_groups: total, n_copies: copies }) {
  if (!total) return null;
  return [
    el("h3", {}, `${counted(total, "group")} of duplicates, ${counted(copies, "image")}`),
    el(
      "p",
      { class: "quiet" },
      "The first image of a group is the one to keep; below the others stands how alike their pixels are to its own.",
    ),
    firstOnes(el("div", { class: "sure-rows" }), groups, FIRST_GROUPS, duplicateRow, "groups"),
    groups.length < total ? el("p", { class: "quiet" }, `Shown are ${groups.length} of them.`) : null,
  ];
}

/**
 * @param {DuplicateGroup} group
 * @param {number} place
 */
function duplicateRow({ size, index, exact, similarity, first }, place) {
  const title = `Group ${place + 1}`;
  const about = `group ${place + 1} of duplicates`;
  const near = (/** @type {number} */ value) => (value > 0.99 ? "> 0.99" : value.toFixed(2));
  const caption = (/** @type {number} */ i) => (i === 0 && first ? "first" : exact[i] ? "exact" : near(similarity[i]));
  const tiles = el("div", { class: "odd-tiles" });
  reserveRows(tiles, index.length, "1.125rem");
  whenSeen(tiles, () => {
    const made = index.map((image, i) => tile(image, index, about, { caption: caption(i) }));
    tiles.replaceChildren(grid(made, `${title} of duplicates`, "row-grid"));
  });
  const kind = exact.every(Boolean) ? "exact copies" : "near-duplicates";
  return el(
    "div",
    { class: "sure-row" },
    el(
      "div",
      {},
      el("h4", {}, title),
      el("p", { class: "quiet" }, `${counted(size, "image")}, ${kind}`),
      index.length < size ? el("p", { class: "quiet" }, `${index.length} shown`) : null,
    ),
    tiles,
  );
}

/** @param {Odd} odd */
function flaggedImages({ flags, n_flags: total }) {
  if (!total) return null;
  const list = flags.map(({ index }) => index);
  const row = (/** @type {Odd["flags"][0]} */ { index, text }) =>
    el(
      "li",
      {},
      tile(index, list, "images that look odd"),
      el("div", {}, el("p", {}, nameOf(images.id[index])), el("p", { class: "quiet" }, el("bdi", {}, text))),
    );
  return [
    el("h3", {}, total === 1 ? "1 image looks odd" : `${whole.format(total)} images look odd`),
    firstOnes(el("ul", { class: "odd-list" }), flags, FIRST_FLAGS, row, "images"),
    flags.length < total ? el("p", { class: "quiet" }, `Shown are ${flags.length} of them.`) : null,
  ];
}
