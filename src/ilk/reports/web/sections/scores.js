// The scores, each with what it means and whether it used labels.

import { data } from "../data.js";
import { el } from "../lib/dom.js";

export function scoreSection() {
  if (!data.scores.length) return null;
  const cards = data.scores.map(({ name, shown, meaning, labels }) => {
    const tag = el("span", { class: labels ? "tag used" : "tag" }, labels ? "used labels" : "no labels used");
    return el(
      "li",
      {},
      el("p", { class: "score-name" }, name, tag),
      el("p", { class: "score-value" }, shown),
      el("p", { class: "quiet" }, meaning),
    );
  });
  return el("ul", { class: "scores" }, cards);
}
