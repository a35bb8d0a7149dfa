// Questions about points in the unit square: which lie near a place, inside a loop, or apart from each other.

/** @import { Point } from "../types.js" */

/**
 * Points sorted into square cells; the points of cell c are items[starts[c]] to items[starts[c + 1] - 1].
 * @typedef {{ side: number, place: (value: number) => number, starts: Uint32Array, items: Uint32Array }} Index
 */

/**
 * @param {Float32Array} xs
 * @param {Float32Array} ys
 * @returns {Index}
 */
export function makeIndex(xs, ys) {
  const side = Math.max(1, Math.min(256, Math.ceil(Math.sqrt(xs.length / 4))));
  const place = (/** @type {number} */ value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
  const cell = (/** @type {number} */ i) => place(ys[i]) * side + place(xs[i]);
  const starts = new Uint32Array(side * side + 1);
  for (let i = 0; i < xs.length; i++) starts[cell(i) + 1]++;
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const items = new Uint32Array(xs.length);
  const next = starts.slice();
  for (let i = 0; i < xs.length; i++) items[next[cell(i)]++] = i;
  return { side, place, starts, items };
}

/**
 * Visits the points of all cells that the rectangle touches, so also some just outside it.
 * @param {Index} index
 * @param {Point} low the least x and y
 * @param {Point} high the largest x and y
 * @param {(i: number) => void} visit
 */
export function eachNear({ side, place, starts, items }, [x0, y0], [x1, y1], visit) {
  for (let row = place(y0); row <= place(y1); row++) {
    const from = starts[row * side + place(x0)];
    const to = starts[row * side + place(x1) + 1];
    for (let at = from; at < to; at++) visit(items[at]);
  }
}

/**
 * Whether a place is inside a closed loop, by the even-odd rule.
 * @param {Point[]} loop
 * @param {number} x
 * @param {number} y
 */
export function isInside(loop, x, y) {
  let inside = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [xi, yi] = loop[i];
    const [xj, yj] = loop[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

/**
 * As many points as can have a square of that side without covering each other, always the same ones; 1 where so.
 * @param {{ xs: Float32Array, ys: Float32Array, order: Uint32Array }} points earlier ones in `order` go first
 * @param {number} side at least 2 ** -15
 * @param {Uint8Array | null} allowed only points that are 1 in it
 */
export function pointsApart({ xs, ys, order }, side, allowed) {
  const apart = new Uint8Array(xs.length);
  /** @type {Map<number, number>} */
  const taken = new Map();
  const key = (/** @type {number} */ x, /** @type {number} */ y) => (x << 15) | y;
  const isFree = (/** @type {number} */ i, /** @type {number} */ x, /** @type {number} */ y) => {
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        const other = taken.get(key(x + dx, y + dy));
        if (other !== undefined && Math.abs(xs[other] - xs[i]) < side && Math.abs(ys[other] - ys[i]) < side)
          return false;
      }
    }
    return true;
  };
  for (const i of order) {
    if (allowed && !allowed[i]) continue;
    const x = Math.floor(xs[i] / side);
    const y = Math.floor(ys[i] / side);
    if (!isFree(i, x, y)) continue;
    taken.set(key(x, y), i);
    apart[i] = 1;
  }
  return apart;
}
