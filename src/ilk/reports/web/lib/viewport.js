// Which part of the unit square a stage shows: numbers only, no elements.

/** @import { Point } from "../types.js" */

/** @typedef {{ x: number, y: number, scale: number }} View the middle of the stage, and css pixels a unit */

const PRECISION = 65535; // whole coordinates in a unit
const DEEPEST = 24; // css pixels between two neighbouring whole coordinates, at most

export class Viewport {
  /**
   * @param {Float32Array} xs
   * @param {Float32Array} ys
   */
  constructor(xs, ys) {
    this.width = 0;
    this.height = 0;
    /** @type {[x0: number, x1: number, y0: number, y1: number]} */
    this.box = [1, 0, 1, 0];
    for (let i = 0; i < xs.length; i++) {
      const [x0, x1, y0, y1] = this.box;
      this.box = [Math.min(x0, xs[i]), Math.max(x1, xs[i]), Math.min(y0, ys[i]), Math.max(y1, ys[i])];
    }
    /** @type {View} */
    this.view = { x: 0.5, y: 0.5, scale: 1 };
  }

  /**
   * @param {number} width of the stage in css pixels
   * @param {number} height
   */
  resize(width, height) {
    const atHome = !this.width || this.isHome();
    this.width = width;
    this.height = height;
    if (atHome) this.view = this.home();
  }

  /** The view that shows all points. */
  home() {
    const [x0, x1, y0, y1] = this.box;
    const pad = Math.min(48, this.width / 8);
    const across = (this.width - 2 * pad) / Math.max(x1 - x0, 0.01);
    const down = (this.height - 2 * pad) / Math.max(y1 - y0, 0.01);
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale: Math.min(across, down) };
  }

  isHome() {
    const home = this.home();
    return (
      Math.abs(home.scale - this.view.scale) < 1e-6 * home.scale && home.x === this.view.x && home.y === this.view.y
    );
  }

  /** How many times larger than at home. */
  zoom() {
    return this.view.scale / this.home().scale;
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {Point} css pixels from the stage's upper left corner
   */
  toScreen(x, y) {
    const { view } = this;
    return [(x - view.x) * view.scale + this.width / 2, (y - view.y) * view.scale + this.height / 2];
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {Point}
   */
  toWorld(x, y) {
    const { view } = this;
    return [(x - this.width / 2) / view.scale + view.x, (y - this.height / 2) / view.scale + view.y];
  }

  /**
   * Sets the view. The middle of the stage stays among the points, so that they cannot be lost.
   * @param {View} view
   */
  set({ x, y, scale }) {
    const [x0, x1, y0, y1] = this.box;
    const home = this.home().scale;
    const between = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) =>
      Math.min(Math.max(value, low), high);
    this.view = {
      x: between(x, x0, x1),
      y: between(y, y0, y1),
      scale: between(scale, home / 1.6, Math.max(2 * home, PRECISION * DEEPEST)),
    };
  }

  /**
   * The view after zooming, with the same world place under the css pixel (x, y).
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   * @returns {View}
   */
  zoomedAt(factor, x, y) {
    const [wx, wy] = this.toWorld(x, y);
    const scale = this.view.scale * factor;
    return { scale, x: wx - (x - this.width / 2) / scale, y: wy - (y - this.height / 2) / scale };
  }

  /**
   * The view after moving what is seen by that many css pixels.
   * @param {number} dx
   * @param {number} dy
   * @returns {View}
   */
  panned(dx, dy) {
    const { view } = this;
    return { ...view, x: view.x - dx / view.scale, y: view.y - dy / view.scale };
  }
}

/**
 * The view part of the way from one to another; the scale grows by equal factors.
 * @param {View} from
 * @param {View} to
 * @param {number} part
 * @returns {View}
 */
export function viewBetween(from, to, part) {
  return {
    x: from.x + (to.x - from.x) * part,
    y: from.y + (to.y - from.y) * part,
    scale: from.scale * (to.scale / from.scale) ** part,
  };
}
