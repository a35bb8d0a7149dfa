// What happened epoch by epoch.

import { LineCharts } from "../charts/lines.js";
import { data } from "../data.js";
import { foldedTable, table } from "../lib/controls.js";
import { el } from "../lib/dom.js";
import { counted, short } from "../lib/words.js";
import { momentsPanel } from "./moments.js";

/** @import { Training, Values } from "../types.js" */

const NATS = "loss (nats)";

export function trainingSection() {
  const { training } = data;
  if (!training?.epoch?.length) return null;
  return [
    el(
      "p",
      { class: "lead" },
      "What happened epoch by epoch. Point at a chart, or use the arrow keys in it, to read all of them.",
    ),
    el("div", { class: "panels" }, charts(training)),
    momentsPanel(),
    messages(training),
    numbers(training),
  ];
}

/** @param {Training} training */
function charts(training) {
  const { epoch: x, pairs } = training;
  const terms = Object.entries(training.terms ?? {});
  const lines = new LineCharts();
  const single = (
    /** @type {string} */ title,
    /** @type {string} */ yTitle,
    /** @type {Values | undefined} */ values,
    zero = false,
  ) => values && lines.add({ title, yTitle, x, series: [{ name: title, values }], zero });
  const pair = (/** @type {string} */ title, /** @type {string} */ level) =>
    pairs &&
    lines.add({
      title,
      yTitle: "cosine similarity",
      x,
      series: [
        { name: "same", values: pairs[`${level}_positive`] ?? [] },
        { name: "different", values: pairs[`${level}_negative`] ?? [] },
      ],
    });
  return [
    terms.length === 1 ? null : single("Loss, all terms", NATS, training.loss),
    terms.map(([term, values]) => single(`Loss: ${spaced(term)}`, NATS, values)),
    single("Effective clusters", "clusters", training.effective_clusters, true),
    single("Mean confidence", "probability", training.confidence),
    pair("Pairs of images", "instance"),
    pair("Pairs of clusters", "cluster"),
    single("Learning rate", "step size", training.learning_rate, true),
    single("Speed", "images / second", training.images_per_second, true),
  ];
}

/** @param {string} term */
function spaced(term) {
  return term.replaceAll("_", " ");
}

/** @param {Training} training */
function messages({ messages: list }) {
  if (!list?.length) return null;
  return el(
    "details",
    {},
    el("summary", {}, counted(list.length, "message")),
    el(
      "ul",
      {},
      list.map(({ epoch, text }) => el("li", {}, `Epoch ${epoch}: ${text}`)),
    ),
  );
}

/** @param {Training} training */
function numbers({ epoch, terms, loss, effective_clusters: effective, confidence }) {
  /** @type {[name: string, values: Values][]} */
  const all = [
    ["loss", loss],
    ...Object.entries(terms ?? {}),
    ["effective clusters", effective],
    ["mean confidence", confidence],
  ];
  const columns = all.filter(([, values]) => values?.length);
  const label = "Training, epoch by epoch";
  const heads = ["epoch", ...columns.map(([name]) => spaced(name))];
  return foldedTable(label, () =>
    table(
      label,
      heads,
      epoch.map((number, i) => [number, ...columns.map(([, values]) => short(values[i]))]),
    ),
  );
}
