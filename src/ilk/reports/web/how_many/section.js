// How many clusters: the score of each number that was tried, and the levels of the tree to look through.

import { data } from "../data.js";
import { facts } from "../lib/controls.js";
import { el } from "../lib/dom.js";
import { counted } from "../lib/words.js";
import { curvePanel } from "./curve.js";
import { levelsPart } from "./levels.js";
import { tree } from "./tree.js";

/** @import { HowMany } from "../types.js" */

export function howManySection() {
  const how = data.how_many;
  if (!how) return null;
  return [
    el(
      "p",
      { class: "lead" },
      how.sentence ?? "Every number of clusters that was tried, and the tree that they were taken from.",
    ),
    choiceFacts(how),
    how.curve ? curvePanel(how, how.curve) : null,
    tree ? levelsPart(tree) : null,
  ];
}

/** @param {HowMany} how */
function choiceFacts({ chosen, range, sure, asked, curve }) {
  const tried = curve && [curve.k[0], curve.k[curve.k.length - 1]];
  return facts(
    [
      ["Chosen", chosen === null ? null : counted(chosen, "cluster")],
      ["Nearly as good", range && (range[0] < range[1] ? `${range[0]} to ${range[1]}` : "no other")],
      ["How sure", sure],
      ["Asked for", asked && el("bdi", {}, asked)],
      ["Tried", tried && (tried[0] < tried[1] ? `${tried[0]} to ${tried[1]}` : tried[0])],
    ],
    "facts headline",
  );
}
