// Colours: eight hues that colour-blind eyes tell apart; after eight the shape changes, after 64 the tone.

import { svg } from "./dom.js";
import { themeColour } from "./theme.js";

/** @import { Rgb } from "../types.js" */

const HUES = 8;
/** Shapes of radius 1 around the origin, as SVG paths. */
export const SHAPES = [
  "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
  "M-.9-.9H.9V.9H-.9z",
  "M0-1.2L1.1.8H-1.1z",
  "M0-1.3L1.3 0 0 1.3-1.3 0z",
  "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4z",
  "M0 1.2L1.1-.8H-1.1z",
  "M0-.55L.65-1.2 1.2-.65.55 0 1.2.65.65 1.2 0 .55-.65 1.2-1.2.65-.55 0-1.2-.65-.65-1.2z",
  "M-1.15 0a1.15 1.15 0 1 0 2.3 0a1.15 1.15 0 1 0-2.3 0zM-.6 0a.6.6 0 1 1 1.2 0a.6.6 0 1 1-1.2 0z",
];
const TONES = ["", "--tone-near", "--tone-far"];

/** Colour scales as custom properties, from low to high. */
export const SCALES = {
  sure: ["--unsure", "--half-sure", "--sure"],
  heat: ["--heat-0", "--heat-1", "--heat-2"],
  viridis: ["--viridis-0", "--viridis-1", "--viridis-2", "--viridis-3", "--viridis-4"],
};

/**
 * Hue, shape and tone of the kind at a place in its list.
 * @param {number} place
 */
export function look(place) {
  return {
    hue: place % HUES,
    shape: Math.floor(place / HUES) % SHAPES.length,
    tone: Math.floor(place / HUES / SHAPES.length) % TONES.length,
  };
}

/** @param {number} place */
function cssColour(place) {
  const { hue, tone } = look(place);
  return tone ? `color-mix(in srgb, var(--hue-${hue}) 60%, var(${TONES[tone]}))` : `var(--hue-${hue})`;
}

/**
 * The coloured shape of a kind, as large as the text beside it.
 * @param {number} place
 */
export function mark(place) {
  const shape = svg("path", { d: SHAPES[look(place).shape], style: { fill: cssColour(place) } });
  return svg("svg", { class: "mark", viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": "true" }, shape);
}

/**
 * @param {Rgb} a
 * @param {Rgb} b
 * @param {number} part 0 gives `a`, 1 gives `b`
 * @returns {Rgb}
 */
function mix(a, b, part) {
  const channel = (/** @type {0 | 1 | 2} */ i) => Math.round(a[i] + (b[i] - a[i]) * part);
  return [channel(0), channel(1), channel(2)];
}

/**
 * The colour of a kind in the theme that is shown; the same as that of its mark.
 * @param {number} place
 * @returns {Rgb}
 */
export function placeColour(place) {
  const { hue, tone } = look(place);
  const colour = themeColour(`--hue-${hue}`);
  return tone ? mix(colour, themeColour(TONES[tone]), 0.4) : colour;
}

/**
 * `length` colours along a scale, in the theme that is shown.
 * @param {keyof typeof SCALES} scale
 * @param {number} length
 * @returns {Rgb[]}
 */
export function ramp(scale, length) {
  const stops = SCALES[scale].map(themeColour);
  return Array.from({ length }, (_, i) => {
    const at = (i / Math.max(1, length - 1)) * (stops.length - 1);
    const from = Math.min(Math.floor(at), stops.length - 2);
    return mix(stops[from], stops[from + 1], at - from);
  });
}

/**
 * A colour as one pixel of ImageData, read as Uint32 on a little-endian machine.
 * @param {Rgb} rgb
 */
export function packed([r, g, b]) {
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}
