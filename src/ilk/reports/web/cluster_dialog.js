// The dialog of one cluster: all its images that are shown, in pages.

import { clusterOf, membersOf, orderedMembers, usedClusters } from "./data.js";
import { choice } from "./lib/controls.js";
import { closeButton, focusHeader, makeDialog } from "./lib/dialog.js";
import { el, iconButton } from "./lib/dom.js";
import { pages } from "./lib/grid.js";
import { counted, percent, whole } from "./lib/words.js";
import { clusterMark, clusterName } from "./names.js";
import { tile } from "./pictures.js";
import { openCluster, state } from "./state.js";

/** @import { Cluster } from "./types.js" */

/** @type {[value: "typical" | "uncertain", words: string][]} */
const ORDERS = [
  ["typical", "Most typical first"],
  ["uncertain", "Least certain first"],
];

/** Opens the dialog whenever a cluster is opened; the order chosen stays from cluster to cluster. */
export function startClusterDialog() {
  /** @type {HTMLDialogElement | null} */
  let dialog = null;
  /** @type {"typical" | "uncertain"} */
  let order = "typical";
  state.follow("cluster", (opened) => {
    const cluster = opened && clusterOf(opened.number);
    if (!cluster) return;
    dialog ??= makeDialog("cluster");
    const place = el("div");
    const show = (/** @type {"typical" | "uncertain"} */ chosen) => {
      order = chosen;
      place.replaceChildren(clusterPages(cluster.number, order));
    };
    show(order);
    dialog.replaceChildren(header(cluster, dialog), controls(order, show), place);
    if (dialog.open) focusHeader(dialog);
    else dialog.showModal();
    dialog.scrollTop = 0;
  });
}

/**
 * @param {number} number
 * @param {"typical" | "uncertain"} order
 */
function clusterPages(number, order) {
  const list = orderedMembers(number, order);
  const label = `Images of cluster ${number}, ${order === "typical" ? "most typical" : "least certain"} first`;
  const uncertain = orderedMembers(number, "uncertain");
  const noted = new Set(uncertain.slice(0, Math.ceil(uncertain.length / 10)));
  return pages(list, label, (image) =>
    tile(image, list, label, { note: noted.has(image) ? "among the least certain" : null }),
  );
}

/**
 * @param {"typical" | "uncertain"} order
 * @param {(order: "typical" | "uncertain") => void} show
 */
function controls(order, show) {
  const key = el("span", { class: "key-noted", "aria-hidden": "true" }, "?");
  return el(
    "div",
    { class: "controls" },
    choice("Order", ORDERS, order, show),
    el("p", { class: "quiet" }, key, " marks the least certain tenth."),
  );
}

/**
 * @param {Cluster} cluster
 * @param {HTMLDialogElement} dialog
 */
function header({ number, size, confidence }, dialog) {
  const at = usedClusters.findIndex((cluster) => cluster.number === number);
  const last = usedClusters.length - 1;
  const step = (/** @type {number} */ by) => () => openCluster(usedClusters[at + by].number);
  const here = membersOf(number).length;
  const all = counted(size, "image");
  const sizes = here < size ? `${whole.format(here)} of ${all} (sample)` : all;
  return el(
    "header",
    {},
    el(
      "h2",
      { id: "cluster-title" },
      clusterMark(number),
      clusterName(number),
      el("span", { class: "quiet" }, ` ${sizes}, ${percent(confidence)} sure`),
    ),
    last > 0 &&
      el(
        "div",
        { class: "steps" },
        iconButton("Previous cluster", "\u2190", step(-1), at === 0),
        iconButton("Next cluster", "\u2192", step(1), at === last),
      ),
    closeButton(dialog),
  );
}
