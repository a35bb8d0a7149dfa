// Puts the page together.

import { startClusterDialog } from "./cluster_dialog.js";
import { run } from "./data.js";
import { howManySection } from "./how_many/section.js";
import { startImageDialog } from "./image_dialog.js";
import { byId, el } from "./lib/dom.js";
import { startTheme } from "./lib/theme.js";
import { mapSection } from "./map/map.js";
import { followReading } from "./navigation.js";
import { startPictures } from "./pictures.js";
import { affinitySection } from "./sections/affinity.js";
import { badFilesSection } from "./sections/bad_files.js";
import { clusterSection } from "./sections/clusters.js";
import { confidenceSection } from "./sections/confidence.js";
import { confusionSection } from "./sections/confusion.js";
import { madeSection, nextSection } from "./sections/made.js";
import { neighbourSection } from "./sections/neighbours.js";
import { oddSection } from "./sections/odd.js";
import { overview } from "./sections/overview.js";
import { scoreSection } from "./sections/scores.js";
import { trainingSection } from "./sections/training.js";

/** @import { Child } from "./types.js" */

/**
 * `make` returns what is under the title, or null when there is nothing to show. A folded section is opened by a click.
 * @typedef {{ id: string, title: string | null, link: string, make: () => Child, folded?: boolean }} Section
 */

/** @type {Section[]} */
const SECTIONS = [
  { id: "overview", title: null, link: "Overview", make: overview },
  { id: "clusters", title: "Clusters", link: "Clusters", make: clusterSection },
  { id: "how-many", title: "How many clusters", link: "How many", make: howManySection },
  { id: "map", title: "Map", link: "Map", make: mapSection },
  { id: "confidence", title: "Confident and unconfident", link: "Confidence", make: confidenceSection },
  { id: "neighbours", title: "Neighbours", link: "Neighbours", make: neighbourSection },
  { id: "confusion", title: "Confusion matrix", link: "Confusion", make: confusionSection },
  { id: "odd", title: "Duplicates and odd images", link: "Duplicates", make: oddSection },
  { id: "bad-files", title: "Files that could not be read", link: "Bad files", make: badFilesSection },
  { id: "next", title: "What to do next", link: "Next", make: nextSection },
  { id: "made", title: "How it was made", link: "How", make: madeSection },
  { id: "scores", title: "Scores", link: "Scores", make: scoreSection, folded: true },
  { id: "training", title: "Training", link: "Training", make: trainingSection, folded: run.finished },
  { id: "affinity", title: "Affinity", link: "Affinity", make: affinitySection, folded: true },
];

/** @param {Section} section */
function addSection({ id, title, link, make, folded = false }) {
  const body = make();
  if (!body) return;
  const heading = title ? el("h2", { id: `${id}-title` }, title) : null;
  const named = heading ? { "aria-labelledby": `${id}-title` } : { "aria-label": link };
  const parts = folded ? el("details", { class: "folded" }, el("summary", {}, heading), body) : [heading, body];
  byId("main").append(el("section", { id, ...named }, parts));
  byId("nav").append(el("li", {}, el("a", { href: `#${id}` }, link)));
}

/** Opens the folded section that the address names, so that a link to it shows it. */
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target?.querySelector("details.folded");
  if (folded instanceof HTMLDetailsElement) folded.open = true;
  return target;
}

startTheme();
startPictures();
startImageDialog();
startClusterDialog();
SECTIONS.forEach(addSection);
followReading();
addEventListener("hashchange", unfold);
if (location.hash) unfold()?.scrollIntoView();
