// The map of the report: every image a point, near means alike.

import { count, data, hasMap, images } from "../data.js";
import { levelControl } from "../how_many/control.js";
import { tree } from "../how_many/tree.js";
import { choice } from "../lib/controls.js";
import { button, el, iconButton, say, scrollTo } from "../lib/dom.js";
import { PointMap } from "../lib/point_map.js";
import { onTheme } from "../lib/theme.js";
import { counted } from "../lib/words.js";
import { describe } from "../names.js";
import { sprites } from "../pictures.js";
import { openImage, state } from "../state.js";
import { chosenParts } from "./chosen.js";
import { kindsBy, toUnit } from "./kinds.js";
import { legendParts } from "./legend.js";
import { Thumbnails } from "./thumbnails.js";
import { Tip } from "./tip.js";

/** @import { Colouring } from "./kinds.js" */
/** @import { PictureMode } from "./thumbnails.js" */

export function mapSection() {
  if (!hasMap) return null;
  return [
    el("p", { class: "lead" }, "Every image is a point; near means alike. Point at one to see it, click to open it."),
    el("p", { class: "quiet" }, [data.map?.method, data.map?.note].filter(Boolean).join(": ")),
    new MapView().node,
  ];
}

class MapView {
  constructor() {
    /** @type {Colouring} */
    this.colouring = "cluster";
    /** @type {Set<number>} kinds that were pressed in the legend */
    this.lit = new Set();
    /** @type {number | null} the kind under the pointer in the legend */
    this.hovered = null;
    /** @type {number[]} images that were chosen */
    this.chosen = [];
    /** @type {number | null} the image that another part asked for; it has the ring until another is pointed at */
    this.asked = null;
    this.thumbnails = new Thumbnails(() => this.map.queue());
    this.tip = new Tip();
    this.map = new PointMap({
      xs: toUnit(images.x ?? []),
      ys: toUnit(images.y ?? []),
      label: `Map of ${counted(count, "image")}`,
      point: (image) => this.point(image),
      open: (image) => openImage(image, this.chosen.includes(image) ? this.chosen : [image], "map"),
      choose: (list) => this.choose(list),
      drawOver: (map) => {
        this.thumbnails.draw(map.pen, map.viewport, map, map.ratio);
        this.placeRing();
      },
      overAt: (x, y) => this.thumbnails.at(x, y),
    });
    this.map.overlay.append(this.tip.ring);
    this.map.node.append(this.tip.node, this.zoomButtons());
    this.legend = el("div", { class: "legend" });
    this.chosenBox = el("div", { class: "chosen" });
    this.lassoButton = button("Lasso", () => this.setLasso(!this.map.lassoing), {
      class: "small",
      "aria-pressed": "false",
      title: "Draw around images (or hold Shift and drag)",
    });
    this.levelBox = tree && el("div", { hidden: true }, levelControl());
    const side = el("div", { class: "map-side" }, this.chosenBox, this.legend);
    this.node = el("div", { class: "map" }, this.toolbar(), el("div", { class: "map-body" }, this.map.node, side));
    this.showChosen();
    this.recolour();
    this.follow();
  }

  follow() {
    onTheme(() => this.recolour());
    state.follow("place", (asked) => asked && this.show(asked.image));
    state.follow("mapLevel", (asked) => asked && this.showLevel(asked.number));
    state.follow("level", () => {
      if (this.colouring === "level") this.colourBy("level");
    });
  }

  toolbar() {
    /** @type {[value: Colouring, words: string][]} */
    const colours = [
      ["cluster", "Cluster"],
      ["confidence", "Confidence"],
    ];
    if (images.label) colours.push(["label", "Label"]);
    if (tree) colours.push(["level", "Level of the tree"]);
    /** @type {[value: PictureMode, words: string][]} */
    const modes = [
      ["zoomed", "When zoomed in"],
      ["always", "Always"],
      ["never", "Never"],
    ];
    const setMode = (/** @type {PictureMode} */ mode) => {
      this.thumbnails.mode = mode;
      this.map.queue();
    };
    const all = button("Choose all in view", () => this.map.chooseInView(), { class: "small" });
    return el(
      "div",
      { class: "controls" },
      choice("Colour by", colours, "cluster", (value) => this.colourBy(value)),
      this.levelBox,
      sprites && choice("Pictures", modes, "zoomed", setMode),
      el("div", { class: "actions" }, this.lassoButton, all),
    );
  }

  zoomButtons() {
    return el(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      iconButton("Zoom in", "+", () => this.map.zoomIn()),
      iconButton("Zoom out", "\u2212", () => this.map.zoomOut()),
      iconButton("Show all", "\u2922", () => this.map.showAll()),
    );
  }

  // What others ask for.

  goThere() {
    const section = this.node.closest("section");
    if (section) scrollTo(section);
    this.map.canvas.focus({ preventScroll: true });
  }

  /** @param {number} image */
  show(image) {
    this.goThere();
    this.asked = image;
    this.map.showPoint(image);
    say(`The map shows ${describe(image)} in the middle.`);
  }

  /** @param {number | null} number the cluster of the tree that stands out */
  showLevel(number) {
    const input = this.node.querySelector("input[value=level]");
    if (!(input instanceof HTMLInputElement)) return;
    input.checked = true;
    this.colourBy("level", number === null ? [] : [number]);
    this.goThere();
    say(`The map is coloured by the tree at ${counted(state.get("level"), "cluster")}.`);
  }

  // Colours.

  /**
   * @param {Colouring} colouring
   * @param {number[]} [lit] kinds that stand out
   */
  colourBy(colouring, lit = []) {
    this.colouring = colouring;
    this.lit = new Set(lit);
    if (this.levelBox) this.levelBox.hidden = colouring !== "level";
    this.recolour();
  }

  recolour() {
    const kinds = kindsBy(this.colouring);
    this.hovered = null; // its entry of the legend is replaced
    this.map.kinds = kinds.of;
    this.map.looks = kinds.looks;
    this.map.recolour();
    const hover = (/** @type {number | null} */ kind) => {
      this.hovered = kind;
      this.brighten();
    };
    this.legend.replaceChildren(...legendParts(kinds.legend, this.lit, { changed: () => this.brighten(), hover }));
    this.brighten();
  }

  // Makes the legend's kinds stand out, or else the chosen images.
  brighten() {
    const { map, chosen } = this;
    const lit = this.hovered === null ? this.lit : new Set([this.hovered]);
    map.bright = null;
    if (lit.size) map.bright = Uint8Array.from(map.kinds, (kind) => (lit.has(kind) ? 1 : 0));
    else if (chosen.length) {
      map.bright = new Uint8Array(count);
      for (const image of chosen) map.bright[image] = 1;
    }
    this.thumbnails.reset();
    map.queue();
  }

  // Pointing and choosing.

  /** @param {number | null} image */
  point(image) {
    if (image !== null) this.asked = null;
    this.tip.show(image);
    this.placeRing();
  }

  placeRing() {
    const image = this.map.pointed ?? this.asked;
    const { xs, ys, viewport } = this.map;
    this.tip.moveTo(image === null ? null : viewport.toScreen(xs[image], ys[image]), viewport);
  }

  /** @param {boolean} on */
  setLasso(on) {
    this.map.setLasso(on);
    this.lassoButton.setAttribute("aria-pressed", String(on));
  }

  /** @param {number[] | null} list null: the lasso is given up, else nothing is chosen any more */
  choose(list) {
    if (!list && !this.map.lassoing && !this.chosen.length) return;
    if (!list && this.map.lassoing) return this.setLasso(false);
    const byCluster = (/** @type {number} */ a, /** @type {number} */ b) =>
      images.cluster[a] - images.cluster[b] || images.confidence[b] - images.confidence[a];
    this.chosen = [...(list ?? [])].sort(byCluster);
    this.setLasso(false);
    this.showChosen();
    this.brighten();
    say(this.chosen.length ? `${counted(this.chosen.length, "image")} chosen.` : "Nothing is chosen.");
  }

  showChosen() {
    this.chosenBox.replaceChildren(...chosenParts(this.chosen, () => this.choose([])));
  }
}
