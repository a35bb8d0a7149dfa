// Some images and those that are near them.

import { clusters, neighboursOf, ranks } from "../data.js";
import { scrollBox, table } from "../lib/controls.js";
import { button, el } from "../lib/dom.js";
import { whenSeen } from "../lib/lazy.js";
import { ordinal } from "../lib/words.js";
import { neighbourTile, tile } from "../pictures.js";

const EXAMPLES = 6;
const ABOUT = "an example and its neighbours";

export function neighbourSection() {
  if (!ranks.length) return null;
  const examples = clusters.filter(({ typical }) => typical.length).map(({ typical }) => typical[0]);
  const place = scrollBox("Examples of neighbours", null);
  let start = 0;
  const show = () => {
    const length = Math.min(EXAMPLES, examples.length);
    const shown = Array.from({ length }, (_, i) => examples[(start + i) % examples.length]);
    place.replaceChildren(neighbourTable(shown));
  };
  const showOthers = () => {
    start = (start + EXAMPLES) % examples.length;
    show();
  };
  whenSeen(place, show);
  return [
    el(
      "p",
      { class: "lead" },
      "One typical image of a cluster, and those nearest to it by embedding. Any image of this report opens its own neighbours.",
    ),
    place,
    examples.length > EXAMPLES ? button("Other examples", showOthers) : null,
  ];
}

/** @param {number[]} examples */
function neighbourTable(examples) {
  const rows = examples.map((image) => {
    const near = neighboursOf(image);
    const list = [image, ...near.map((neighbour) => neighbour.image)];
    return [
      tile(image, list, ABOUT, { big: true }),
      ...near.map((neighbour) => neighbourTile(neighbour, image, list, ABOUT)),
    ];
  });
  const heads = ["image", ...ranks.map((rank) => `${ordinal(rank)} nearest`)];
  const made = table("Nearest images by embedding, and their cosine similarity", heads, rows);
  made.classList.add("near-table");
  return made;
}
