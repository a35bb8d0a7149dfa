// Puts the page together.

import { startClusterDialog } from "./cluster_dialog.js";
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
import { trainingSection } from "./sections/training.js";

/** @import { Child } from "./types.js" */

/**
 * Each `make` returns what stands under the title, or null when there is nothing to show.
 * @type {[id: string, title: string | null, inNavigation: string, make: () => Child][]}
 */
const SECTIONS = [
  ["overview", null, "Overview", overview],
  ["clusters", "Clusters", "Clusters", clusterSection],
  ["how-many", "How many clusters", "How many", howManySection],
  ["map", "Map", "Map", mapSection],
  ["confidence", "Confident and unconfident", "Confidence", confidenceSection],
  ["training", "Training", "Training", trainingSection],
  ["affinity", "Affinity", "Affinity", affinitySection],
  ["neighbours", "Neighbours", "Neighbours", neighbourSection],
  ["confusion", "Confusion matrix", "Confusion", confusionSection],
  ["odd", "Duplicates and odd images", "Duplicates", oddSection],
  ["bad-files", "Files that could not be read", "Bad files", badFilesSection],
  ["made", "How it was made", "How", madeSection],
  ["next", "What to do next", "Next", nextSection],
];

startTheme();
startPictures();
startImageDialog();
startClusterDialog();
for (const [id, title, inNavigation, make] of SECTIONS) {
  const body = make();
  if (!body) continue;
  const heading = title ? el("h2", { id: `${id}-title` }, title) : null;
  const named = heading ? { "aria-labelledby": `${id}-title` } : { "aria-label": inNavigation };
  byId("main").append(el("section", { id, ...named }, heading, body));
  byId("nav").append(el("li", {}, el("a", { href: `#${id}` }, inNavigation)));
}
followReading();
if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
