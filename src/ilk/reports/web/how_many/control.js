// The slider that chooses the number of clusters to look at.

import { data } from "../data.js";
import { el, iconButton } from "../lib/dom.js";
import { counted } from "../lib/words.js";
import { highest, lookAt, lowest, onLook, state } from "../state.js";

let sliders = 0; // made so far

/** @param {number} k */
export function levelWords(k) {
  return k === data.how_many?.chosen ? `${counted(k, "cluster")}, the number chosen` : counted(k, "cluster");
}

/** A slider; all of them show the same number. */
export function levelControl() {
  const id = `levels-${sliders++}`;
  const input = () => lookAt(slider.valueAsNumber);
  const slider = el("input", { type: "range", id, min: lowest, max: highest, step: 1, input });
  const fewer = iconButton("One cluster fewer", "\u2212", () => lookAt(state.get("level") - 1));
  const more = iconButton("One cluster more", "+", () => lookAt(state.get("level") + 1));
  const shown = el("b");
  onLook(() => {
    const k = state.get("level");
    slider.value = String(k);
    slider.setAttribute("aria-valuetext", levelWords(k));
    shown.textContent = String(k);
    fewer.disabled = k === lowest;
    more.disabled = k === highest;
  });
  return el(
    "div",
    { class: "level-control", role: "group", "aria-label": "Level of the tree" },
    el("label", { for: id }, "Number of clusters ", shown),
    fewer,
    slider,
    more,
  );
}
