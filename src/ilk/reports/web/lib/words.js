// Words for numbers.

export const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact" });

/**
 * "1 image", "2,000 images".
 * @param {number} number
 * @param {string} noun
 */
export function counted(number, noun) {
  return `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** @param {number | null} fraction */
export function percent(fraction) {
  return fraction === null ? "unknown" : `${Math.round(100 * fraction)}\u00a0%`;
}

/**
 * A part of a whole in percent, where neither a small rest nor a small part is rounded away.
 * @param {number} fraction
 */
export function share(fraction) {
  if (fraction > 0 && fraction < 0.01) return "<\u00a01\u00a0%";
  return fraction < 1 && fraction > 0.99 ? ">\u00a099\u00a0%" : percent(fraction);
}

/**
 * A number with three significant digits.
 * @param {number | null | undefined} number
 */
export function short(number) {
  if (number === null || number === undefined) return "unknown";
  const size = Math.abs(number);
  if (size >= 10000) return compact.format(number);
  if (size !== 0 && size < 0.001) return number.toExponential(1);
  return String(Number(number.toPrecision(size >= 1000 ? 4 : 3)));
}

/** @param {number} number */
export function ordinal(number) {
  const tens = number % 100;
  const ending = tens > 10 && tens < 14 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

/** @param {number | null} minutes */
export function duration(minutes) {
  if (minutes === null) return "unknown";
  if (minutes < 1) return `${Math.max(1, Math.round(minutes * 60))} s`;
  if (minutes < 90) return `${Math.round(minutes)} min`;
  return `${Math.floor(minutes / 60)} h ${Math.round(minutes % 60)} min`;
}
