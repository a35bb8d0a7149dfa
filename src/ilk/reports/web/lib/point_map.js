// A map of points that is panned, zoomed, pointed at and chosen from; it knows nothing of what the points are.

import { packed } from "./colours.js";
import { calm, el, svg } from "./dom.js";
import { paintDots, pen2d, shuffled } from "./dots.js";
import { followPointers } from "./gestures.js";
import { onKeys } from "./keys.js";
import { eachNear, isInside, makeIndex } from "./points.js";
import { themeColour } from "./theme.js";
import { Viewport, viewBetween } from "./viewport.js";

/** @import { Look, Point } from "../types.js" */
/** @import { View } from "./viewport.js" */

/**
 * @typedef {object} Options
 * @property {Float32Array} xs in the unit square
 * @property {Float32Array} ys
 * @property {string} label what the map shows, in words
 * @property {(i: number | null) => void} point a point came under the pointer, or none
 * @property {(i: number) => void} open a point was clicked
 * @property {(list: number[] | null) => void} choose points were enclosed; null to choose none
 * @property {(map: PointMap) => void} [drawOver] draws over the points
 * @property {(x: number, y: number) => number | undefined} [overAt] the point whose drawing is at a css pixel
 */

const REACH = 14; // css pixels within which a point is pointed at
const GLIDE = 220; // milliseconds of a smooth movement
const STEP = 80; // css pixels that an arrow key moves
const ZOOM = 1.6; // what a key or a button zooms by
const KEYS = "arrow keys move, plus and minus zoom, 0 shows all, Enter opens the image in the middle";

export class PointMap {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    this.xs = options.xs;
    this.ys = options.ys;
    this.order = shuffled(this.xs.length);
    this.index = makeIndex(this.xs, this.ys);
    this.viewport = new Viewport(this.xs, this.ys);
    /** The number of each point's look. */
    this.kinds = /** @type {Uint16Array} */ (new Uint16Array(this.xs.length));
    /** @type {Look[]} */
    this.looks = [{ colour: 0, shape: 0 }];
    /** @type {Uint8Array | null} which points stand out; null when all are alike */
    this.bright = null;
    /** Device pixels in a css pixel. */
    this.ratio = 1;
    this.lassoing = false;
    this.ground = 0;
    this.faint = 0;
    this.queued = false;
    this.movement = 0; // counts movements, so that a new one ends the one before
    /** @type {number | null} */
    this.pointed = null;

    this.canvas = el("canvas", {
      class: "map-canvas",
      tabindex: "0",
      role: "application",
      "aria-label": `${options.label}: ${KEYS}`,
    });
    this.pen = pen2d(this.canvas, { alpha: false });
    this.pixels = this.pen.createImageData(1, 1);
    this.loop = svg("path", { class: "loop" });
    this.cross = svg("path", { class: "cross", d: "M-12 0H-4M4 0H12M0-12V-4M0 4V12" });
    this.hint = el(
      "p",
      { class: "map-hint", hidden: true },
      "Move the pointer over the map, then turn the wheel to zoom.",
    );
    /** Children added to the overlay are drawn over the canvas, in css pixels. */
    this.overlay = svg("svg", { class: "overlay", "aria-hidden": "true" }, this.loop, this.cross);
    this.node = el("div", { class: "stage" }, this.canvas, this.overlay, this.hint);
    this.followReader();
    new ResizeObserver(() => this.resize()).observe(this.node);
  }

  followReader() {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let hinted;
    followPointers(this.canvas, {
      drawsLoop: () => this.lassoing,
      press: () => (this.movement += 1),
      click: (x, y) => {
        const i = this.at(x, y);
        if (i === null) this.options.choose(null);
        else this.options.open(i);
      },
      hover: (place) => this.point(place && this.at(...place)),
      drag: (dx, dy) => this.set(this.viewport.panned(dx, dy)),
      zoom: (factor, x, y) => this.set(this.viewport.zoomedAt(factor, x, y)),
      draw: (loop) => {
        if (loop) this.loop.setAttribute("d", `M${loop.map((place) => place.join(" ")).join("L")}Z`);
        else this.loop.removeAttribute("d");
      },
      enclose: (loop) => this.options.choose(this.inside(loop)),
      refuse: () => {
        this.hint.hidden = false;
        clearTimeout(hinted);
        hinted = setTimeout(() => (this.hint.hidden = true), 1200);
      },
    });
    const pan = (/** @type {number} */ dx, /** @type {number} */ dy) => () => this.set(this.viewport.panned(dx, dy));
    onKeys(this.canvas, {
      ArrowLeft: pan(STEP, 0),
      ArrowRight: pan(-STEP, 0),
      ArrowUp: pan(0, STEP),
      ArrowDown: pan(0, -STEP),
      "+": () => this.zoomIn(),
      "=": () => this.zoomIn(),
      "-": () => this.zoomOut(),
      0: () => this.showAll(),
      Enter: () => this.options.open(this.nearest(this.viewport.view)),
      Escape: () => this.options.choose(null),
    });
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.node;
    if (!width || !height) return;
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.pixels = this.pen.createImageData(this.canvas.width, this.canvas.height);
    this.cross.setAttribute("transform", `translate(${width / 2} ${height / 2})`);
    this.viewport.resize(width, height);
    this.draw();
  }

  // Moving.

  /** @param {View} view */
  set(view) {
    this.viewport.set(view);
    this.queue();
  }

  zoomIn() {
    const { view } = this.viewport;
    this.glide({ ...view, scale: view.scale * ZOOM });
  }

  zoomOut() {
    const { view } = this.viewport;
    this.glide({ ...view, scale: view.scale / ZOOM });
  }

  showAll() {
    this.glide(this.viewport.home());
  }

  /**
   * Brings a point into the middle, near enough to see what is around it.
   * @param {number} i
   */
  showPoint(i) {
    if (!this.viewport.width) this.resize();
    const scale = Math.max(this.viewport.view.scale, this.viewport.home().scale * 6);
    this.glide({ x: this.xs[i], y: this.ys[i], scale });
  }

  /** @param {View} to */
  glide(to) {
    const from = this.viewport.view;
    const start = performance.now();
    const movement = ++this.movement;
    if (calm.matches) return this.set(to);
    const step = (/** @type {number} */ now) => {
      if (movement !== this.movement) return;
      const part = Math.min(1, (now - start) / GLIDE);
      this.set(viewBetween(from, to, 1 - (1 - part) ** 3));
      if (part < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  // Drawing.

  /** Takes the colours of the theme that is shown. Looks have colours of their own. */
  recolour() {
    this.ground = packed(themeColour("--surface"));
    this.faint = packed(themeColour("--faint"));
    this.queue();
  }

  queue() {
    if (this.queued || !this.viewport.width) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.draw();
    });
  }

  draw() {
    const { view, width, height } = this.viewport;
    const scale = view.scale * this.ratio;
    const place = {
      scale,
      left: (width / 2) * this.ratio - view.x * scale,
      top: (height / 2) * this.ratio - view.y * scale,
    };
    const { looks, ground, bright, faint } = this;
    paintDots(this.pixels, this, place, { looks, radius: this.radius() * this.ratio, ground, bright, faint });
    this.pen.putImageData(this.pixels, 0, 0);
    this.options.drawOver?.(this);
  }

  /** Of a point, in css pixels. */
  radius() {
    const room = Math.sqrt((this.viewport.width * this.viewport.height) / Math.max(1, this.xs.length));
    return Math.min(7, Math.min(5, Math.max(1.5, room * 0.22)) * Math.max(1, this.viewport.zoom()) ** 0.3);
  }

  // Pointing and choosing.

  /** @param {number | null} i */
  point(i) {
    if (this.pointed === i) return;
    this.pointed = i;
    this.canvas.style.cursor = i === null ? "" : "pointer";
    this.options.point(i);
  }

  /**
   * The point at a css pixel, or null.
   * @param {number} x
   * @param {number} y
   */
  at(x, y) {
    const over = this.options.overAt?.(x, y);
    if (over !== undefined) return over;
    const [wx, wy] = this.viewport.toWorld(x, y);
    const reach = REACH / this.viewport.view.scale;
    /** @type {number | null} */
    let best = null;
    let nearest = reach;
    eachNear(this.index, [wx - reach, wy - reach], [wx + reach, wy + reach], (i) => {
      if (this.bright && !this.bright[i]) return;
      const far = Math.hypot(this.xs[i] - wx, this.ys[i] - wy);
      if (far < nearest) [best, nearest] = [i, far];
    });
    return best;
  }

  /**
   * The point nearest to a place of the unit square, however far it is.
   * @param {{ x: number, y: number }} place
   */
  nearest({ x, y }) {
    const far = (/** @type {number} */ i) => Math.hypot(this.xs[i] - x, this.ys[i] - y);
    let best = 0;
    for (let i = 1; i < this.xs.length; i++) if (far(i) < far(best)) best = i;
    return best;
  }

  /**
   * The points inside a loop of css pixels.
   * @param {Point[]} trail
   */
  inside(trail) {
    const loop = trail.map(([x, y]) => this.viewport.toWorld(x, y));
    const xs = loop.map(([x]) => x);
    const ys = loop.map(([, y]) => y);
    /** @type {number[]} */
    const list = [];
    eachNear(this.index, [Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)], (i) => {
      if (isInside(loop, this.xs[i], this.ys[i])) list.push(i);
    });
    return list;
  }

  chooseInView() {
    const { width, height } = this.viewport;
    this.options.choose(this.inside([[0, 0], [width, 0], [width, height], [0, height]])); // prettier-ignore
  }

  /** @param {boolean} on whether the pointer draws a loop instead of dragging the map */
  setLasso(on) {
    this.lassoing = on;
    this.node.classList.toggle("lassoing", on);
  }
}
