// Light or dark: as the system says, unless the reader chose.

import { byId, el, svg } from "./dom.js";

/** @import { Rgb } from "../types.js" */

const KEY = "ilk-theme";
const SUN =
  "M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4M8 12a4 4 0 1 0 8 0a4 4 0 1 0-8 0";
const MOON = "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z";
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const probe = el("span", { hidden: true });
/** @type {(() => void)[]} */
const drawings = [];

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : systemDark.matches;
}

/**
 * Calls `draw` whenever the colours change, for what a style sheet does not reach: canvases.
 * @param {() => void} draw
 */
export function onTheme(draw) {
  drawings.push(draw);
}

/**
 * The colour of a custom property, such as "--accent", in the theme that is shown.
 * @param {string} property
 * @returns {Rgb}
 */
export function themeColour(property) {
  // A custom property computes to its text, light-dark(...); only the colour of an element is resolved.
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${property})`;
  const [red, green, blue] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? []).map(Number);
  return [red, green, blue];
}

/** @param {string} [choice] the theme to remember; without it the remembered one is only read */
function remembered(choice) {
  try {
    if (choice) localStorage.setItem(KEY, choice);
    return localStorage.getItem(KEY);
  } catch {
    return null; // some browsers give files no storage
  }
}

function showTheme() {
  const control = byId("theme");
  control.setAttribute("aria-pressed", String(isDark()));
  const icon = svg("path", { d: isDark() ? SUN : MOON });
  control.replaceChildren(svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, icon));
  control.title = isDark() ? "Light colours" : "Dark colours";
  drawings.forEach((draw) => draw());
}

/** Makes the button `theme` of the page work. */
export function startTheme() {
  const choice = remembered();
  if (choice === "dark" || choice === "light") document.documentElement.dataset.theme = choice;
  byId("theme").addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    remembered(next);
    showTheme();
  });
  systemDark.addEventListener("change", showTheme);
  showTheme();
}
