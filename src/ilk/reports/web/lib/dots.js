// Points on a canvas, drawn by writing pixels: as fast on a machine without a graphics card, and the same everywhere.

import { SHAPES } from "./colours.js";
import { el } from "./dom.js";

/** @import { Look } from "../types.js" */

/**
 * Points in the unit square. `order` is the order in which they are drawn, `kinds` the number of each point's look.
 * @typedef {{ xs: Float32Array, ys: Float32Array, order: Uint32Array, kinds: Uint16Array }} Points
 * A point's pixel is (x * scale + left, y * scale + top).
 * @typedef {{ scale: number, left: number, top: number }} Place
 * The pixels of a shape as offsets from its middle, and how much of each it covers, 0 to 256.
 * @typedef {{ reach: number, dx: Int16Array, dy: Int16Array, cover: Uint16Array }} Stamp
 * @typedef {{ colour: number, stamp: Stamp }} Ink
 */

/** @type {Map<number, Stamp>} */
const stamps = new Map();

/**
 * The stamp of a shape; radii are rounded to half a pixel, so that there are few of them.
 * @param {number} shape
 * @param {number} radius
 */
function stampOf(shape, radius) {
  const size = Math.round(radius * 2) / 2;
  const key = shape * 1000 + size * 2;
  const stamp = stamps.get(key) ?? makeStamp(shape, size);
  stamps.set(key, stamp);
  return stamp;
}

/**
 * @param {number} shape
 * @param {number} radius
 * @returns {Stamp}
 */
function makeStamp(shape, radius) {
  const reach = Math.ceil(radius * 1.35) + 1;
  const side = 2 * reach + 1;
  const pen = pen2d(el("canvas", { width: side, height: side }));
  pen.translate(reach + 0.5, reach + 0.5);
  pen.scale(radius, radius);
  pen.fill(new Path2D(SHAPES[shape]));
  const { data: pixels } = pen.getImageData(0, 0, side, side);
  /** @type {[number, number, number][]} */
  const dots = [];
  for (let i = 0; i < side * side; i++) {
    const cover = Math.round((pixels[4 * i + 3] / 255) * 256);
    if (cover) dots.push([(i % side) - reach, Math.floor(i / side) - reach, cover]);
  }
  return {
    reach,
    dx: Int16Array.from(dots, ([dx]) => dx),
    dy: Int16Array.from(dots, ([, dy]) => dy),
    cover: Uint16Array.from(dots, ([, , cover]) => cover),
  };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function pen2d(canvas, settings) {
  const pen = canvas.getContext("2d", settings);
  if (!pen) throw new Error("The browser gives no canvas to draw on.");
  return pen;
}

/**
 * @param {number} under
 * @param {number} over
 * @param {number} cover
 */
function blend(under, over, cover) {
  const rest = 256 - cover;
  const redBlue = ((over & 0xff00ff) * cover + (under & 0xff00ff) * rest) >>> 8;
  const green = ((over & 0xff00) * cover + (under & 0xff00) * rest) >>> 8;
  return 0xff000000 | (redBlue & 0xff00ff) | (green & 0xff00);
}

/**
 * 0 to length - 1 in a random order that is always the same, so that no kind covers others because of its number.
 * @param {number} length
 */
export function shuffled(length) {
  const order = Uint32Array.from({ length }, (_, i) => i);
  let state = 12345;
  for (let i = length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

/**
 * Draws points into `image`. Colours are packed pixels.
 * @param {ImageData} image
 * @param {Points} points
 * @param {Place} place
 * @param {{ looks: Look[], radius: number, ground: number, bright?: Uint8Array | null, faint?: number }} style `looks`
 *   by kind; `bright`: the points that are 0 in it are drawn first, in the colour `faint`
 */
export function paintDots(image, points, place, { looks, radius, ground, bright = null, faint = 0 }) {
  const pixels = new Uint32Array(image.data.buffer);
  pixels.fill(ground);
  const inks = looks.map(({ colour, shape }) => ({ colour, stamp: stampOf(shape, radius) }));
  if (bright) {
    const pale = looks.map(({ shape }) => ({ colour: faint, stamp: stampOf(shape, radius * 0.85) }));
    paintPass(image, pixels, points, place, pale, (i) => !bright[i]);
  }
  paintPass(image, pixels, points, place, inks, bright && ((i) => Boolean(bright[i])));
}

/**
 * @param {ImageData} image
 * @param {Uint32Array} pixels of `image`
 * @param {Points} points
 * @param {Place} place
 * @param {Ink[]} inks by kind
 * @param {((i: number) => boolean) | null} wanted
 */
function paintPass({ width, height }, pixels, { xs, ys, order, kinds }, { scale, left, top }, inks, wanted) {
  for (let at = 0; at < order.length; at++) {
    const i = order[at];
    if (wanted && !wanted(i)) continue;
    const x = Math.round(xs[i] * scale + left);
    const y = Math.round(ys[i] * scale + top);
    const { colour, stamp } = inks[kinds[i]];
    const { reach, dx, dy, cover } = stamp;
    if (x < -reach || y < -reach || x >= width + reach || y >= height + reach) continue;
    const inside = x >= reach && y >= reach && x < width - reach && y < height - reach;
    for (let j = 0; j < dx.length; j++) {
      const px = x + dx[j];
      const py = y + dy[j];
      if (!inside && (px < 0 || py < 0 || px >= width || py >= height)) continue;
      const pixel = py * width + px;
      pixels[pixel] = cover[j] === 256 ? colour : blend(pixels[pixel], colour, cover[j]);
    }
  }
}
