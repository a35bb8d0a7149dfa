// What every other part uses: the data, elements, words for numbers, colours and the theme.

const source = document.getElementById("data");
const data = JSON.parse(source.textContent);
source.remove();

const { run, images, clusters } = data;
const count = images.id.length;
const clusterOf = new Map(clusters.map((cluster, place) => [cluster.number, { ...cluster, place }]));
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Elements. Strings become text nodes: no value is ever read as HTML.

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function button(text, click, attributes = {}) {
  return el("button", { type: "button", click, ...attributes }, text);
}

// Names of files may be long or written from right to left; neither may disturb what stands around them.
function name(text) {
  return el("bdi", { class: "name" }, text);
}

function say(text) {
  document.getElementById("status").textContent = text;
}

// Words for numbers.

const whole = new Intl.NumberFormat("en");

function counted(number, noun) {
  return `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function percent(fraction) {
  return fraction === null ? "unknown" : `${Math.round(100 * fraction)}\u00a0%`;
}

function share(fraction) {
  if (fraction > 0 && fraction < 0.01) return "<\u00a01\u00a0%";
  return fraction < 1 && fraction > 0.99 ? ">\u00a099\u00a0%" : percent(fraction);
}

function short(number) {
  if (number === null || number === undefined) return "unknown";
  const size = Math.abs(number);
  if (size >= 10000) return new Intl.NumberFormat("en", { notation: "compact" }).format(number);
  if (size !== 0 && size < 0.001) return number.toExponential(1);
  return String(Number(number.toPrecision(size >= 1000 ? 4 : 3)));
}

function ordinal(number) {
  const tens = number % 100;
  const ending = tens > 10 && tens < 14 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

function duration(minutes) {
  if (minutes === null) return "unknown";
  if (minutes < 1) return `${Math.max(1, Math.round(minutes * 60))} s`;
  if (minutes < 90) return `${Math.round(minutes)} min`;
  return `${Math.floor(minutes / 60)} h ${Math.round(minutes % 60)} min`;
}

function labelName(code) {
  return data.label_names?.[code] ?? "no label";
}

function clusterName(number) {
  const called = clusterOf.get(number)?.name;
  return called ? `${called} (cluster ${number})` : `Cluster ${number}`;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
    return true;
  } catch {
    return copyOldWay(text, what);
  }
}

function copyOldWay(text, what) {
  const field = el("textarea", { class: "unseen", "aria-hidden": "true" });
  const from = document.activeElement;
  (from?.closest("dialog") ?? document.body).append(field);
  field.value = text;
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  from?.focus();
  say(done ? `Copied ${what}.` : "The browser does not allow copying.");
  return done;
}

function copyButton(text, what, words = "Copy") {
  const made = button(
    words,
    async () => {
      const done = await copy(typeof text === "function" ? text() : text, what);
      made.textContent = done ? "Copied" : "Not allowed";
      setTimeout(() => (made.textContent = words), 1500);
    },
    { class: "small", "aria-label": `${words === "Copy" ? `Copy ${what}` : words}` },
  );
  return made;
}

// Colours: eight hues that colour-blind eyes tell apart; after eight the shape changes, after 64 the tone.

const HUES = 8;
const SHAPES = [
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

function look(place) {
  return {
    hue: place % HUES,
    shape: Math.floor(place / HUES) % SHAPES.length,
    tone: Math.floor(place / HUES / SHAPES.length) % TONES.length,
  };
}

function hueOf(place) {
  const { hue, tone } = look(place);
  return tone ? `color-mix(in srgb, var(--hue-${hue}) 60%, var(${TONES[tone]}))` : `var(--hue-${hue})`;
}

function mark(place) {
  const shape = svg("path", { d: SHAPES[look(place).shape], style: { fill: hueOf(place) } });
  return svg("svg", { class: "mark", viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": "true" }, shape);
}

function clusterMark(number) {
  return mark(clusterOf.get(number)?.place ?? 0);
}

function rgb(hex) {
  const value = parseInt(hex.trim().slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function mix(a, b, part) {
  return a.map((value, i) => Math.round(value + (b[i] - value) * part));
}

function themeColour(variable) {
  return rgb(getComputedStyle(document.documentElement).getPropertyValue(variable));
}

function placeColour(place) {
  const { hue, tone } = look(place);
  const plain = themeColour(`--hue-${hue}`);
  return tone ? mix(plain, themeColour(TONES[tone]), 0.4) : plain;
}

// A ramp of `steps` colours through the theme's variables of these names.
function ramp(variables, steps) {
  const stops = variables.map(themeColour);
  return Array.from({ length: steps }, (_, i) => {
    const at = (i / Math.max(1, steps - 1)) * (stops.length - 1);
    const from = Math.min(Math.floor(at), stops.length - 2);
    return mix(stops[from], stops[from + 1], at - from);
  });
}

const SURE = ["--unsure", "--half-sure", "--sure"];
const HEAT = ["--heat-0", "--heat-1", "--heat-2"];

// The theme: the system's unless the reader chose.

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : systemDark.matches;
}

function onTheme(draw) {
  document.addEventListener("themechange", draw);
}

function kept(write) {
  try {
    if (write) localStorage.setItem("ilk-theme", write);
    return localStorage.getItem("ilk-theme");
  } catch {
    return null; // some browsers give files no storage
  }
}

function showTheme() {
  const control = document.getElementById("theme");
  control.setAttribute("aria-pressed", String(isDark()));
  const icon = isDark()
    ? "M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4M8 12a4 4 0 1 0 8 0a4 4 0 1 0-8 0"
    : "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z";
  control.replaceChildren(svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: icon })));
  control.title = isDark() ? "Light colours" : "Dark colours";
  document.dispatchEvent(new Event("themechange"));
}

function startTheme() {
  const before = kept();
  if (before === "dark" || before === "light") document.documentElement.dataset.theme = before;
  document.getElementById("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    kept(document.documentElement.dataset.theme);
    showTheme();
  });
  systemDark.addEventListener("change", showTheme);
  showTheme();
}

// Work that waits until its place comes into view; printing does all of it.

const waiting = new Map();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) if (entry.isIntersecting) doWaiting(entry.target);
  },
  { rootMargin: "500px" },
);

function doWaiting(node) {
  watcher.unobserve(node);
  const work = waiting.get(node);
  waiting.delete(node);
  work?.();
}

function whenSeen(node, work) {
  waiting.set(node, work);
  watcher.observe(node);
  return node;
}

addEventListener("beforeprint", () => [...waiting.keys()].forEach(doWaiting));
