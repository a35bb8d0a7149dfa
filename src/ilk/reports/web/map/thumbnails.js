// Pictures on the map: as many as fit without covering each other.

import { count } from "../data.js";
import { eachNear, pointsApart } from "../lib/points.js";
import { cellOf, sheetImage, sprites, tiny } from "../pictures.js";

/** @import { Look } from "../types.js" */
/** @import { Index } from "../lib/points.js" */
/** @import { Viewport } from "../lib/viewport.js" */

/** @typedef {"zoomed" | "always" | "never"} PictureMode */

/**
 * @typedef {object} Scene what is drawn
 * @property {Float32Array} xs
 * @property {Float32Array} ys
 * @property {Uint32Array} order earlier images get a picture first
 * @property {Index} index
 * @property {Uint16Array} kinds
 * @property {Look[]} looks the colour of a kind is the border of its pictures
 * @property {Uint8Array | null} bright only images that are 1 in it have pictures
 */

const SMALLEST = 34; // css pixels of a picture when it first appears
const LARGEST = 84;
const FEW = 60; // images that have pictures from the start
const BORDER = 2; // css pixels

export class Thumbnails {
  /** @param {() => void} ready called when a sheet that was missing can be drawn */
  constructor(ready) {
    this.ready = ready;
    /** @type {PictureMode} */
    this.mode = "zoomed";
    /** @type {Map<number, Uint8Array>} zoom step -> which images have a picture */
    this.apart = new Map();
    /** @type {{ image: number, x: number, y: number, half: number }[]} what was drawn last, in css pixels */
    this.drawn = [];
  }

  /** The scene is another: other images may have pictures. */
  reset() {
    this.apart.clear();
  }

  /** @param {Viewport} viewport */
  areWanted(viewport) {
    if (!sprites || this.mode === "never") return false;
    return this.mode === "always" || count <= FEW || viewport.zoom() > 2.4;
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Viewport} viewport
   * @param {Scene} scene
   * @param {number} ratio device pixels in a css pixel
   */
  draw(pen, viewport, scene, ratio) {
    this.drawn = [];
    if (!this.areWanted(viewport)) return;
    const { scale } = viewport.view;
    const wanted = count <= FEW ? 56 : Math.min(LARGEST, SMALLEST * Math.max(1, viewport.zoom() / 2.4) ** 0.35);
    const step = Math.floor(2 * Math.log2(scale / wanted));
    const grown = scale / wanted / 2 ** (step / 2); // 1 to 1.41 between two steps
    const side = Math.round((wanted - 4) * grown);
    const apart = this.apart.get(step) ?? pointsApart(scene, 1 / 2 ** (step / 2), scene.bright);
    this.apart.set(step, apart);
    const reach = side / scale;
    const [x0, y0] = viewport.toWorld(0, 0);
    const [x1, y1] = viewport.toWorld(viewport.width, viewport.height);
    eachNear(scene.index, [x0 - reach, y0 - reach], [x1 + reach, y1 + reach], (image) => {
      if (apart[image]) this.drawOne(pen, viewport, scene, ratio, image, side);
    });
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Viewport} viewport
   * @param {Scene} scene
   * @param {number} ratio
   * @param {number} image
   * @param {number} side css pixels
   */
  drawOne(pen, viewport, { xs, ys, kinds, looks }, ratio, image, side) {
    const [x, y] = viewport.toScreen(xs[image], ys[image]);
    if (x < -side || y < -side || x > viewport.width + side || y > viewport.height + side) return;
    const cell = cellOf(image);
    if (!cell) return;
    const sheet = sheetImage(cell.sheet, this.ready);
    const edge = Math.round(side * ratio);
    const left = Math.round((x - side / 2) * ratio);
    const top = Math.round((y - side / 2) * ratio);
    const { colour } = looks[kinds[image]];
    const border = Math.round(BORDER * ratio);
    pen.fillStyle = `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;
    pen.fillRect(left - border, top - border, edge + 2 * border, edge + 2 * border);
    if (!sheet) return;
    const { tile } = cell;
    pen.imageSmoothingEnabled = !tiny;
    pen.drawImage(sheet, cell.column * tile, cell.row * tile, tile, tile, left, top, edge, edge);
    this.drawn.push({ image, x, y, half: side / 2 + BORDER });
  }

  /**
   * The image whose picture is at a place of the stage, the one on top first.
   * @param {number} x
   * @param {number} y
   */
  at(x, y) {
    return this.drawn.findLast((item) => Math.abs(item.x - x) <= item.half && Math.abs(item.y - y) <= item.half)?.image;
  }
}
