// The dialog of one image: its facts, its neighbours, and steps through the list it was opened from.

import { clusters, hasMap, images, neighboursOf, run } from "./data.js";
import { facts } from "./lib/controls.js";
import { copyButton } from "./lib/copy.js";
import { closeButton, closeDialogs, focusHeader, makeDialog } from "./lib/dialog.js";
import { button, el, iconButton, nameOf, say } from "./lib/dom.js";
import { grid } from "./lib/grid.js";
import { onKeys } from "./lib/keys.js";
import { percent, whole } from "./lib/words.js";
import { clusterLink, describe, labelOf } from "./names.js";
import { neighbourTile, picture } from "./pictures.js";
import { openImage, showOnMap, state } from "./state.js";

/** Opens the dialog whenever an image is opened. */
export function startImageDialog() {
  /** @type {HTMLDialogElement | null} */
  let dialog = null;
  state.follow("image", (opened) => {
    if (!opened) return;
    dialog ??= makeImageDialog();
    const held = dialog.open && dialog.contains(document.activeElement) ? document.activeElement : null;
    dialog.replaceChildren(header(dialog), body(opened.image), nearList(opened.image) ?? "");
    if (dialog.open) focusHeader(dialog, held?.getAttribute("aria-label"));
    else dialog.showModal();
  });
}

function makeImageDialog() {
  const dialog = makeDialog("image");
  onKeys(dialog, { ArrowLeft: () => stepImage(-1), ArrowRight: () => stepImage(1) });
  return dialog;
}

function place() {
  const opened = state.get("image");
  return opened ? Math.max(0, opened.list.indexOf(opened.image)) : 0;
}

/** @param {number} step */
function stepImage(step) {
  const { list, about } = state.get("image") ?? { list: [], about: "" };
  const next = list[place() + step];
  if (next === undefined) return;
  openImage(next, list, about);
  say(describe(next));
}

/** @param {HTMLDialogElement} dialog */
function header(dialog) {
  const { image, list, about } = state.get("image") ?? { image: 0, list: [], about: "" };
  const id = images.id[image];
  return el(
    "header",
    {},
    el("h2", { id: "image-title", title: id }, nameOf(id)),
    list.length < 2 ? null : steps(list, about),
    closeButton(dialog),
  );
}

/**
 * @param {number[]} list
 * @param {string} about
 */
function steps(list, about) {
  const at = place();
  return el(
    "div",
    { class: "steps" },
    iconButton("Previous image (left arrow)", "\u2190", () => stepImage(-1), at === 0),
    el("span", { title: about }, `${whole.format(at + 1)} of ${whole.format(list.length)}`),
    iconButton("Next image (right arrow)", "\u2192", () => stepImage(1), at === list.length - 1),
  );
}

/** @param {number} image */
function body(image) {
  return el(
    "div",
    { class: "image-body" },
    el("div", { class: "image-large" }, picture(image, true, describe(image))),
    el("div", {}, imageFacts(image), imageActions(image)),
  );
}

/** @param {number} image */
function imageFacts(image) {
  const label = labelOf(image);
  const second = images.second[image];
  const several = clusters.length > 1;
  return facts([
    ["Cluster", clusterLink(images.cluster[image])],
    ["Confidence", `${percent(images.confidence[image])} sure`],
    ["Second choice", second >= 0 && several ? clusterLink(second) : null],
    ["Ahead of it by", several ? percent(images.margin[image]) : null],
    ["Label", label === null ? null : el("bdi", {}, label)],
    ["Image of the run", `${whole.format(images.row[image] + 1)} of ${whole.format(run.n_images)}`],
  ]);
}

/** @param {number} image */
function imageActions(image) {
  const show = () => {
    closeDialogs();
    showOnMap(image);
  };
  return el(
    "div",
    { class: "actions" },
    copyButton(images.id[image], "the id", "Copy id"),
    hasMap ? button("Show on the map", show, { class: "small" }) : null,
  );
}

/** @param {number} image */
function nearList(image) {
  const near = neighboursOf(image);
  if (!near.length) return null;
  const list = near.map((neighbour) => neighbour.image);
  const about = `neighbours of ${images.id[image]}`;
  return el(
    "section",
    { class: "near", "aria-labelledby": "near-title" },
    el("h3", { id: "near-title" }, "Its neighbours"),
    el("p", { class: "quiet" }, "Other images by how alike their embeddings are (cosine similarity, 1 = the same)."),
    grid(
      near.map((neighbour) => neighbourTile(neighbour, image, list, about)),
      "Neighbours",
      "near-grid",
    ),
  );
}
