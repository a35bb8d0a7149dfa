// What came out: a verdict in words, a few numbers, and the most typical image of each cluster.

import { clusters, data, run, usedClusters } from "../data.js";
import { facts } from "../lib/controls.js";
import { el, nameOf } from "../lib/dom.js";
import { counted, duration, whole } from "../lib/words.js";
import { clusterMark, clusterName } from "../names.js";
import { picture } from "../pictures.js";
import { commandLine } from "./made.js";

const FEW = 12; // clusters whose faces are shown large
const NEARLY_ALL = 0.9; // of the images in one cluster: the run has collapsed
const CLEAR = 0.75; // mean confidence of a cluster from which on it is called clear

export function overview() {
  const done = clusters.length > 0;
  const title = done
    ? `${counted(run.n_images, "image")} in ${counted(run.clusters_used ?? clusters.length, "cluster")}`
    : `${counted(run.n_images, "image")}, still training`;
  const preset = run.preset && run.preset !== "default" ? `, preset ${run.preset}` : null;
  return [
    el("p", { class: "kicker" }, nameOf(run.name)),
    el("h1", {}, title),
    el("p", { class: "lead" }, run.method_title ?? run.method, preset, " on ", nameOf(run.source), "."),
    run.method_source ? el("p", { class: "quiet" }, run.method_source) : null,
    unfinished(),
    run.sample_note ? el("p", { class: "notice" }, run.sample_note) : null,
    verdict(),
    headlineFacts(),
    faces(),
  ];
}

function unfinished() {
  if (run.finished) return null;
  const [command] = data.next;
  const missing = clusters.length ? "" : " The clusters, the map and the neighbours come when it is finished.";
  const state = `This run is not finished: epoch ${run.epochs_done ?? 0} of ${run.epochs ?? "?"}. `;
  return el(
    "div",
    { class: "notice" },
    el("p", {}, el("b", {}, state), `Shown is what there is.${missing}`),
    command ? commandLine(command) : null,
  );
}

function headlineFacts() {
  const bad = el("a", { href: data.bad_files.length ? "#bad-files" : null }, counted(run.n_bad ?? 0, "file"));
  return facts(
    [
      ["Images", whole.format(run.n_images)],
      ["Clusters", clusterWords()],
      ["Could not be read", bad],
      ["Time", duration(run.minutes)],
      ["Epochs", epochWords()],
      ["Picture size", sizeWords()],
      ["Made", run.created ? run.created.slice(0, 10) : null],
    ],
    "facts headline",
  );
}

function clusterWords() {
  const used = run.clusters_used;
  if (used === null || !clusters.length) return `${whole.format(run.n_clusters)} asked for`;
  return whole.format(used) + (used === run.n_clusters ? "" : ` of ${whole.format(run.n_clusters)}`);
}

function epochWords() {
  if (run.epochs === null) return null;
  return run.finished ? whole.format(run.epochs_done ?? run.epochs) : `${run.epochs_done} of ${run.epochs}`;
}

function sizeWords() {
  const size = run.image_size;
  if (size === null || size === undefined) return null;
  const sides = Array.isArray(size) ? size : [size, size];
  return `${sides.join(" \u00d7 ")} px`;
}

// How far the result can be relied on, by the confidences, which are estimates of being right.
function verdict() {
  if (!usedClusters.length) return null;
  const clear = usedClusters.filter(({ confidence }) => (confidence ?? 0) >= CLEAR).length;
  const mixed = usedClusters.length - clear;
  const clearWords = clear ? `${counted(clear, "cluster")} ${clear === 1 ? "is" : "are"} clear` : "No cluster is clear";
  const mixedWords = mixed && clear ? `, ${whole.format(mixed)} ${mixed === 1 ? "is" : "are"} mixed` : "";
  const uncertain = data.scores.find(({ key }) => key === "uncertain");
  const rest = uncertain ? ` ${uncertain.shown} of the images are uncertain: look at these first.` : "";
  const largest = Math.max(...usedClusters.map(({ size }) => size));
  const collapsed = run.n_clusters > 1 && largest > NEARLY_ALL * run.n_images;
  return el(
    "div",
    { class: collapsed ? "verdict notice" : "verdict" },
    el("p", {}, `${clearWords}${mixedWords}.${rest}`),
    collapsed ? el("p", {}, "Nearly all images are in one cluster: this run has separated little.") : null,
    el(
      "p",
      { class: "quiet" },
      "Clear: the run expects at least 3 of 4 images to be in the right cluster. Uncertain: a confidence below one half.",
    ),
  );
}

// The most typical image of each cluster: a table of contents in pictures.
function faces() {
  const used = usedClusters.filter((cluster) => cluster.typical.length);
  if (used.length < 2) return null;
  const links = used.map(({ number, name, size, typical }) => {
    const attributes = {
      href: `#cluster-${number}`,
      title: `${clusterName(number)}: ${counted(size, "image")}`,
      "aria-label": `${clusterName(number)}, ${counted(size, "image")}`,
    };
    const words = el("span", {}, clusterMark(number), name ?? number);
    return el("li", {}, el("a", attributes, picture(typical[0], true), words));
  });
  return el(
    "nav",
    { "aria-label": "Clusters, by their most typical image" },
    el("ul", { class: used.length > FEW ? "faces" : "faces few" }, links),
  );
}
