// Which labels went into which cluster.

import { extent } from "../charts/axes.js";
import { heatmap } from "../charts/heatmap.js";
import { data } from "../data.js";
import { foldedTable, table } from "../lib/controls.js";
import { el } from "../lib/dom.js";
import { counted, share, short } from "../lib/words.js";
import { clusterName, labelName } from "../names.js";

export function confusionSection() {
  if (!data.confusion) return null;
  const { matrix, clusters: numbers, labels } = data.confusion;
  const totals = matrix.map((row) => row.reduce((a, b) => a + b, 0));
  const names = labels.map(labelName);
  const chart = heatmap({
    title: "Clusters and labels",
    matrix,
    low: 0,
    high: extent(matrix.flat(), { zero: true })[1],
    words: (row, column) =>
      `${clusterName(numbers[row])}: ${counted(matrix[row][column], "image")} with the label ${names[column]} ` +
      `(${share(matrix[row][column] / (totals[row] || 1))} of the cluster)`,
    numbers: (value) => (value > 9999 ? short(value) : value ? String(value) : ""),
    rowNames: numbers.map(String),
    columnNames: names,
    rowTitle: "cluster",
    columnTitle: "label; images",
  });
  const caption = "Images by cluster (rows) and label (columns)";
  const rows = () => matrix.map((row, i) => [numbers[i], ...row]);
  return [
    el(
      "p",
      { class: "lead" },
      "Which labels went into which cluster, after the best one-to-one matching of the two: what lies beside the diagonal is mixed up. ",
      el("span", { class: "tag used" }, "used labels"),
    ),
    el("div", { class: "panels single" }, chart),
    foldedTable("Clusters and labels", () => table(caption, ["cluster", ...names], rows(), { rowHeads: true })),
  ];
}
