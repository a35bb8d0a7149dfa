// Pointers on a canvas: one drags or draws a loop, two pinch, the wheel zooms.

/** @import { Point } from "../types.js" */

const CLICK = 4; // css pixels a pointer may move and still click

/**
 * Places are css pixels from the canvas's upper left corner.
 * @typedef {object} Acts
 * @property {() => boolean} drawsLoop whether the pointer that is pressed now draws a loop instead of dragging
 * @property {() => void} press a pointer was pressed
 * @property {(x: number, y: number) => void} click
 * @property {(place: Point | null) => void} hover a pointer is over a place without being pressed; null when it is not
 * @property {(dx: number, dy: number) => void} drag
 * @property {(factor: number, x: number, y: number) => void} zoom
 * @property {(loop: Point[] | null) => void} draw the loop so far; null when it is done or given up
 * @property {(loop: Point[]) => void} enclose the finished loop
 * @property {() => void} refuse the wheel was turned while it belongs to the page
 */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Acts} acts
 */
export function followPointers(canvas, acts) {
  /** @type {Map<number, Point>} */
  const pointers = new Map();
  /** @type {Point[] | null} */
  let loop = null;
  let moved = 0;
  let armed = false; // whether the wheel zooms

  /** @param {PointerEvent} event */
  function press(event) {
    if (event.button) return;
    armed = true;
    acts.press();
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
    const draws = pointers.size === 1 && (event.shiftKey || acts.drawsLoop());
    loop = draws ? [[event.offsetX, event.offsetY]] : null;
    if (event.shiftKey) event.preventDefault();
  }

  /** @param {PointerEvent} event */
  function move(event) {
    const { offsetX: x, offsetY: y } = event;
    if (event.movementX || event.movementY) armed = true;
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") acts.hover([x, y]);
      return;
    }
    const [dx, dy] = [x - before[0], y - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (pointers.size === 2) pinch(event, before);
    else if (loop) {
      acts.hover(null);
      loop.push([x, y]);
      acts.draw(loop);
    } else if (moved > CLICK) {
      acts.hover(null);
      acts.drag(dx, dy);
    }
    pointers.set(event.pointerId, [x, y]);
  }

  /**
   * @param {PointerEvent} event
   * @param {Point} before where the pointer was
   */
  function pinch(event, before) {
    const other = [...pointers].filter(([id]) => id !== event.pointerId)[0][1];
    const far = (/** @type {Point} */ a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
    /** @type {Point} */
    const now = [event.offsetX, event.offsetY];
    if (loop) acts.draw(null);
    loop = null;
    acts.drag((now[0] - before[0]) / 2, (now[1] - before[1]) / 2); // the middle of the two moves half as far
    acts.zoom(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }

  /** @param {PointerEvent} event */
  function release(event) {
    if (!pointers.delete(event.pointerId)) return;
    const finished = loop;
    loop = null;
    if (finished) acts.draw(null);
    if (event.type === "pointercancel") return;
    if (finished && finished.length > 2) acts.enclose(finished);
    else if (moved <= CLICK) acts.click(event.offsetX, event.offsetY);
  }

  /** @param {WheelEvent} event */
  function wheel(event) {
    if (!armed && !event.ctrlKey) return acts.refuse();
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const amount = Math.min(Math.max(event.deltaY * lines, -240), 240);
    acts.zoom(Math.exp(-amount * (event.ctrlKey ? 0.01 : 0.0022)), event.offsetX, event.offsetY);
    acts.hover([event.offsetX, event.offsetY]);
  }

  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => acts.hover(null));
  canvas.addEventListener("blur", () => acts.hover(null));
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("dblclick", (event) => acts.zoom(2, event.offsetX, event.offsetY));
  // While the page scrolls past under a resting pointer, the wheel belongs to the page.
  addEventListener("scroll", () => (armed = false), { passive: true });
}
